package resolve

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/trace"
)

// The callbacks of some API generations name a payment and do not say what was paid.
// The gateway is asked, and it is normal that it does not list a payment yet when its
// callback has come. These are the waits between one question and the next: a minute
// settles most, and an outage of days loses nothing.
var askWaits = []time.Duration{
	5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
	10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour,
	24 * time.Hour, 24 * time.Hour, 24 * time.Hour, 24 * time.Hour, 24 * time.Hour,
}

const (
	// askUnlisted is how many answers without the payment end the asking, after about
	// a day.
	askUnlisted = 14
	// askUncounted is how many are enough where nothing is counted: a payment that is
	// on its way or has failed may never be listed.
	askUncounted = 3
	// askAtOnce is how many questions of one account are under way at a time, and
	// askBatch how many are taken up together.
	askAtOnce = 8
	askBatch  = 32
)

// askPass asks the gateway about the callbacks that are due. Accounts do not wait for
// each other's answers within a pass, and neither do bills; the callbacks of one bill
// are asked about in their order. The others of an account whose gateway does not answer
// are left for the next pass, so that it does not hold up this one.
func (r *Resolver) askPass(ctx context.Context) (more bool, err error) {
	accounts, log := r.settings()
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		problems []error
	)
	for _, a := range accounts {
		list, err := r.store.AskingCallbacks(ctx, a.Name, r.now(), askBatch)
		if err != nil {
			return false, err
		}
		more = more || len(list) == askBatch
		messages, err := r.readAll(ctx, accounts, log, list)
		if err != nil {
			return false, err
		}
		bySubject := make(map[string][]message)
		for _, m := range messages {
			bySubject[m.content.Subject] = append(bySubject[m.content.Subject], m)
		}
		turns := make(chan struct{}, askAtOnce)
		silent := new(atomic.Bool)
		for _, messages := range bySubject {
			wg.Go(func() {
				turns <- struct{}{}
				defer func() { <-turns }()
				for _, m := range messages {
					if silent.Load() {
						return
					}
					answered, err := r.askAbout(ctx, log, m)
					if !answered {
						silent.Store(true)
					}
					if err := r.settle(ctx, log, m.Callback, err); err != nil {
						mu.Lock()
						problems = append(problems, err)
						mu.Unlock()
						return
					}
				}
			})
		}
	}
	wg.Wait()
	return more, errors.Join(problems...)
}

// untilAsk is the time until the gateway has to be asked about a callback again.
func (r *Resolver) untilAsk(ctx context.Context) (time.Duration, error) {
	accounts, _ := r.settings()
	next := longest
	for name := range accounts {
		due, ok, err := r.store.NextAsking(ctx, name)
		if err != nil {
			return 0, err
		}
		if ok {
			next = min(next, r.until(due))
		}
	}
	return next, nil
}

// askAbout asks about one callback and decides with the answer, if the gateway has given
// one. A panic concerns that callback alone.
func (r *Resolver) askAbout(ctx context.Context, log *zap.Logger, m message) (answered bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	complete, failed := m.account.Client.Complete(trace.WithParent(ctx, m.Trace), m.content)
	if ctx.Err() != nil {
		return false, ctx.Err() // a stop says nothing about the gateway
	}
	g := new(gateway.Error)
	answered = !errors.As(failed, &g) || g.Failure != gateway.Unreachable
	return answered, r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.answered(tx, log, m, complete, failed) })
}

// answered decides about a callback with what the gateway has answered.
func (r *Resolver) answered(tx *store.Tx, log *zap.Logger, m message, complete gateway.Callback, failed error) error {
	if failed == nil {
		failed = r.priced(tx, m, complete)
	}
	if failed == nil && m.Denied < askUnlisted {
		failed = r.upToDate(tx, m, complete)
	}
	denied := errors.Is(failed, gateway.ErrUnlisted)
	switch {
	case failed == nil, denied && m.content.Status != bill.Success && m.Denied >= askUncounted:
		m.content = complete
		m.content.Incomplete = false
		if !complete.ArrivedAt.IsZero() {
			m.arrived = complete.ArrivedAt
		}
		return r.apply(tx, m, false)
	case denied && m.Denied >= askUnlisted, m.Asked >= len(askWaits):
		log.Warn("handing on callback about which the gateway does not tell", zap.Int64("callback", m.Number), zap.Error(failed))
		return r.apply(tx, m, true)
	}
	wait := askWaits[min(m.Asked, len(askWaits)-1)]
	var refused *gateway.Error
	if errors.As(failed, &refused) && refused.RetryAfter() > 0 {
		// Too many questions say nothing about this one.
		return tx.PostponeCallback(m.Number, failed.Error(), r.now().Add(max(wait, refused.RetryAfter())))
	}
	if err := tx.CountQuestion(m.Number, denied); err != nil {
		return err
	}
	return tx.PostponeCallback(m.Number, failed.Error(), r.now().Add(wait))
}

// priced reports whether it is known what a hosted bill costs in the coin of a confirmed
// payment, without which the payment would never count.
func (r *Resolver) priced(tx *store.Tx, m message, complete gateway.Callback) error {
	if complete.Kind != gateway.KindOrder || complete.Status != bill.Success || complete.Due.IsPositive() {
		return nil
	}
	rec, err := tx.Bill(m.account.Name, complete.Reference)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case rec.Hosted && (!rec.Due.IsPositive() || !rec.Pays.Accepts(complete.Token)):
		return fmt.Errorf("%w with what its bill costs in its coin", gateway.ErrUnlisted)
	}
	return nil
}

// upToDate reports whether the gateway's answer is as new as the callback. A payment that is
// held here already, and that the callback does not flag, may have been released a moment
// before the gateway's lists say so.
func (r *Resolver) upToDate(tx *store.Tx, m message, complete gateway.Callback) error {
	if m.content.Kind != gateway.KindOrder || m.content.Risky || !complete.Risky {
		return nil
	}
	rec, err := tx.Bill(m.account.Name, complete.Reference)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err == nil && slices.ContainsFunc(rec.Payments, func(p bill.Payment) bool { return p.ID == m.RecordID && p.Status == bill.Success && p.Risky }) {
		err = fmt.Errorf("%w as released", gateway.ErrUnlisted)
	}
	return err
}
