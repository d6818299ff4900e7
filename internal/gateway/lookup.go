package gateway

import (
	"context"
	"errors"
)

// maxSilent is after how many orders in a row about which the gateway has not told the
// others are not asked about: it is not these orders then.
const maxSilent = 3

// lookupEach asks about orders one by one. One about which the gateway cannot be asked
// keeps none behind it from being asked about.
func lookupEach(ctx context.Context, references []string, ask func(ctx context.Context, reference string) (Info, error)) (map[string]Info, error) {
	infos := make(map[string]Info, len(references))
	silent := 0
	for _, reference := range references {
		info, err := ask(ctx, reference)
		if e := new(Error); errors.As(err, &e) && !errors.Is(err, ErrUnlisted) {
			if ctx.Err() != nil || e.concernsAll() {
				return infos, err
			}
			silent++
		} else {
			silent = 0
		}
		if err != nil {
			info = Info{Reference: reference, Err: err}
		}
		infos[reference] = info
		if silent == maxSilent {
			return infos, err
		}
	}
	return infos, nil
}
