package resolve

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// The limits of webhook/resend: spans of an hour, one request a minute, 25 a day.
// Source: https://docs.ccpayment.com/, "Resend Webhook Notification".
const (
	resendSpan  = time.Hour
	resendEvery = time.Minute
	resendADay  = 25
)

const (
	// downtime is how long this server must have been away for callbacks to be asked
	// for. A shorter absence is left to the gateway's own tries.
	downtime = 5 * time.Minute
	// firstTries is how long before the absence callbacks can have been sent first
	// that were still being tried: the gateway's last try comes 31.5 minutes after
	// the first (documented for v2, unknown for v1).
	firstTries = 32 * time.Minute
	// longestCatchUp bounds what is asked for: one day has few enough spans for the
	// limit of a day. What is older is left to the questions about open bills.
	longestCatchUp = 24 * time.Hour
	// resendTries is how often a span is tried that the gateway refuses.
	resendTries = 3
)

// catchUpPass notes that the server is alive, plans what to ask for if it was away,
// and asks for one span.
func (r *Resolver) catchUpPass(ctx context.Context) (more bool, err error) {
	accounts, log := r.settings()
	for _, a := range accounts {
		if !a.CatchUp {
			continue
		}
		if err := r.beat(ctx, a, log); err != nil {
			return false, err
		}
		if err := r.resendNext(ctx, a, log); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (r *Resolver) untilCatchUp(context.Context) (time.Duration, error) {
	accounts, _ := r.settings()
	for _, a := range accounts {
		if a.CatchUp {
			return resendEvery, nil
		}
	}
	return longest, nil
}

// beat notes that the server is alive. After an absence, of this process, its machine
// or the store, it plans in the same transaction what to ask for, so that a crash
// meanwhile forgets nothing.
func (r *Resolver) beat(ctx context.Context, a Account, log *zap.Logger) error {
	now := r.now()
	var last time.Time
	spans := 0
	err := r.store.WriteInBackground(ctx, func(tx *store.Tx) (err error) {
		if last, err = tx.Heartbeat(a.Name, now); err != nil {
			return err
		}
		if err := tx.ForgetResends(a.Name, now.Add(-longestCatchUp)); err != nil {
			return err
		}
		if last.IsZero() || now.Sub(last) < downtime {
			return nil
		}
		from := last.Add(-firstTries)
		if oldest := now.Add(-longestCatchUp); from.Before(oldest) {
			from = oldest
		}
		for spans = 0; from.Before(now); spans++ {
			until := earlier(from.Add(resendSpan), now)
			if err := tx.PlanResend(a.Name, from, until); err != nil {
				return err
			}
			from = until
		}
		return nil
	})
	if err == nil && spans > 0 {
		log.Info("asking for the callbacks of an absence, a span a minute",
			zap.String("account", a.Name), zap.Duration("away", now.Sub(last)), zap.Int("spans", spans))
	}
	return err
}

// resendNext has the gateway send the callbacks of the next span again, within its limits.
func (r *Resolver) resendNext(ctx context.Context, a Account, log *zap.Logger) error {
	next, err := r.store.NextResend(ctx, a.Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now := r.now()
	n, last, err := r.store.ResendsSince(ctx, a.Name, now.Add(-24*time.Hour))
	if err != nil || n >= resendADay || now.Sub(last) < resendEvery {
		return err
	}
	failed := a.Client.Resend(ctx, next.From, next.Until)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	state, problem := store.AskedResend, ""
	if failed != nil {
		problem = failed.Error()
		state = store.PlannedResend
		if next.Tries+1 >= resendTries {
			state = store.DroppedResend
		}
		log.Warn("asking for callbacks again", zap.String("account", a.Name), zap.Time("from", next.From), zap.Bool("giving_up", state == store.DroppedResend), zap.Error(failed))
	}
	return r.store.RecordResend(ctx, next.Number, state, problem, r.now())
}
