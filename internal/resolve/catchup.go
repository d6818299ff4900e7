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

// catchUpPass notes that the server is alive and asks for the callbacks of an absence,
// one span at a time.
func (r *Resolver) catchUpPass(ctx context.Context) (more bool, err error) {
	accounts, log := r.settings()
	var failed error
	for _, a := range accounts {
		if err := r.catchUp(ctx, a, log); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return false, failed
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

func (r *Resolver) catchUp(ctx context.Context, a Account, log *zap.Logger) error {
	if !a.CatchUp {
		// Were it kept, switching this on again would look like the end of an absence.
		if _, err := r.store.Absence(ctx, a.Name); err != nil {
			return ignoreNotFound(err)
		}
		return r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return tx.ForgetAbsence(a.Name) })
	}

	// 1. Was the server away, and may the gateway be asked now? What is about to be asked
	// is counted first, so that a crash does not make it ask more than it may.
	var (
		absence store.Absence
		ask     bool
		until   time.Time
		away    time.Duration
	)
	err := r.store.WriteInBackground(ctx, func(tx *store.Tx) (err error) {
		now := r.now()
		if absence, err = tx.Absence(a.Name); errors.Is(err, store.ErrNotFound) {
			return tx.SaveAbsence(store.Absence{Account: a.Name, AliveAt: now})
		} else if err != nil {
			return err
		}
		away = now.Sub(absence.AliveAt)
		noteAbsence(&absence, now)
		if err := tx.SaveAbsence(absence); err != nil {
			return err
		}
		n, last, err := tx.Resends(a.Name, now.Add(-24*time.Hour), now)
		if err != nil || !absence.From.Before(absence.Until) || n >= resendADay || now.Sub(last) < resendEvery {
			return err
		}
		ask, until = true, earlier(absence.From.Add(resendSpan), absence.Until)
		return tx.CountResend(a.Name, absence.From, until, now)
	})
	if err == nil && away >= downtime {
		log.Info("asking for the callbacks of an absence, an hour of them a minute", zap.String("account", a.Name),
			zap.Duration("away", away), zap.Time("from", absence.From))
	}
	if err != nil || !ask {
		return err
	}

	// 2. Ask for one span, and go on behind it unless it has to be tried again.
	failed := a.Client.Resend(ctx, absence.From, until)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	absence.Tries++
	giveUp := absence.Tries >= resendTries
	if failed != nil {
		log.Warn("asking for callbacks again", zap.String("account", a.Name), zap.Time("from", absence.From), zap.Bool("giving_up", giveUp), zap.Error(failed))
	}
	if failed == nil || giveUp {
		absence.From, absence.Tries = until, 0
	}
	return r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return tx.SaveAbsence(absence) })
}

// noteAbsence takes into an account's absence what follows from the time at which it was
// seen alive before. It stays one span of time, however often the server was away.
func noteAbsence(a *store.Absence, now time.Time) {
	if now.Sub(a.AliveAt) >= downtime {
		from := a.AliveAt.Add(-firstTries)
		if !a.From.Before(a.Until) || from.Before(a.From) {
			a.From, a.Tries = from, 0
		}
		a.Until = now
	}
	a.AliveAt = now
	if oldest := now.Add(-longestCatchUp); a.From.Before(oldest) {
		a.From = oldest
	}
	if a.Until.After(now) {
		a.Until = now // the clock was ahead
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
