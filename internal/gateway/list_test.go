package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAListIsKeptAndRenewedBehindItsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			l     list[int]
			asked atomic.Int64
			fault atomic.Bool
		)
		fetch := func(context.Context) (int, error) {
			time.Sleep(time.Second)
			if n := asked.Add(1); !fault.Load() {
				return int(n), nil
			}
			return 0, errors.New("unreachable")
		}
		expect := func(what string, value, questions int) {
			t.Helper()
			began := time.Now()
			got, err := l.get(t.Context(), fetch)
			if took := time.Since(began); got != value || err != nil || took > time.Second || value > 1 && took > 0 {
				t.Errorf("%s: %d, %v after %v", what, got, err, took)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if n := asked.Load(); n != int64(questions) {
				t.Errorf("%s: asked %d times, want %d", what, n, questions)
			}
		}
		expect("the first", 1, 1)
		expect("a moment later", 1, 1)
		time.Sleep(listFresh)
		began := time.Now()
		if got, err := l.get(t.Context(), fetch); got != 1 || err != nil || time.Since(began) > 0 {
			t.Errorf("an old one is not better than waiting: %d, %v", got, err)
		}
		time.Sleep(2 * time.Second)
		expect("renewed meanwhile", 2, 2)
		fault.Store(true)
		time.Sleep(listFresh)
		expect("an old one", 2, 3)
		expect("it is not asked for again at once", 2, 3)
		l.renew(t.Context(), fetch)
		expect("not by anybody", 2, 3)
		time.Sleep(listRetry)
		fault.Store(false)
		l.renew(t.Context(), fetch)
		expect("renewed on demand", 4, 4)
	})
}

func TestAListThatCannotBeHadIsAnError(t *testing.T) {
	for name, fetch := range map[string]func(context.Context) (int, error){
		"an error": func(context.Context) (int, error) { return 0, errors.New("unreachable") },
		"a panic":  func(context.Context) (int, error) { panic("reading the answer") },
	} {
		var l list[int]
		if got, err := l.get(t.Context(), fetch); err == nil {
			t.Errorf("%s: %d", name, got)
		}
	}
	// Whoever waits may leave, and the answer is there for the next.
	synctest.Test(t, func(t *testing.T) {
		var l list[int]
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		fetch := func(ctx context.Context) (int, error) {
			time.Sleep(time.Minute)
			return 7, ctx.Err()
		}
		if _, err := l.get(ctx, fetch); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got, err := l.get(t.Context(), fetch); got != 7 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
	})
}
