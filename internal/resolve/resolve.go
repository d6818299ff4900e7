// Package resolve turns callbacks into bill states and events. It takes what is in
// the inbox, applies each callback to its bill, and writes the bill, the event and
// its deliveries in one transaction, so that a crash leaves either all or nothing.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

const (
	// batch is how many callbacks one transaction resolves.
	batch = 64
	// retryAfter is the wait after an error of the store and before looking again
	// at callbacks of an account that is not configured.
	retryAfter = time.Second
	missing    = time.Minute
)

// An Account is what resolving needs of a merchant account.
type Account struct {
	Name   string
	API    string
	Client gateway.Client
	// Upstreams names the upstreams that want events of a type.
	Upstreams func(eventType string) []string
}

// A Resolver works through the inbox until it is stopped.
type Resolver struct {
	store *store.Store
	now   func() time.Time

	mu       sync.Mutex
	accounts map[string]Account
	log      *zap.Logger
	changed  chan struct{}
}

// New returns a resolver. It does nothing before Run.
func New(s *store.Store, now func() time.Time) *Resolver {
	return &Resolver{store: s, now: now, log: zap.NewNop(), changed: make(chan struct{}, 1)}
}

// Configure sets the accounts that are served from now on.
func (r *Resolver) Configure(accounts map[string]Account, log *zap.Logger) {
	r.mu.Lock()
	r.accounts, r.log = accounts, log
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *Resolver) settings() (map[string]Account, *zap.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accounts, r.log
}

// Run resolves until the context ends. It waits for commits and for times, and
// never polls.
func (r *Resolver) Run(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := r.pass(ctx)
		if more && err == nil {
			continue
		}
		wait := retryAfter
		if err == nil {
			wait, err = r.untilNext(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			_, log := r.settings()
			log.Error("resolving callbacks", zap.Error(err))
			wait = retryAfter
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.store.Inbox:
		case <-r.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass resolves what is due. It reports whether there may be more.
func (r *Resolver) pass(ctx context.Context) (more bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	accounts, log := r.settings()
	if len(accounts) == 0 {
		return false, nil
	}
	list, err := r.store.Unresolved(ctx, r.now(), batch)
	if err != nil {
		return false, err
	}
	if err := r.resolve(ctx, accounts, log, list); err != nil {
		return false, err
	}
	for _, a := range accounts {
		references, err := r.store.ExpiredBills(ctx, a.Name, r.now(), batch)
		if err != nil {
			return false, err
		}
		for _, reference := range references {
			if err := r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.expire(tx, a, reference) }); err != nil {
				return false, err
			}
		}
		more = more || len(references) == batch
	}
	return more || len(list) == batch, nil
}

// resolve resolves a list of callbacks in one transaction. Should that fail, each
// gets its own, so that one that cannot be resolved does not hold up the others.
func (r *Resolver) resolve(ctx context.Context, accounts map[string]Account, log *zap.Logger, list []store.Callback) error {
	// Only what needs no question to the gateway can share a transaction.
	var plain []message
	for _, c := range list {
		account, ok := accounts[c.Account]
		switch {
		case !ok:
			problem := fmt.Sprintf("account %q is not configured", c.Account)
			if err := r.postpone(ctx, c, problem, missing); err != nil {
				return err
			}
		case c.State == store.Quarantined:
			if err := r.confirm(ctx, account, log, c); err != nil {
				return err
			}
		default:
			m, err := read(account, c)
			if err != nil {
				log.Error("resolving callback", zap.Int64("callback", c.Number), zap.Error(err))
				if err := r.postpone(ctx, c, err.Error(), missing); err != nil {
					return err
				}
				continue
			}
			plain = append(plain, m)
		}
	}
	if len(plain) == 0 {
		return nil
	}
	err := r.store.WriteInBackground(ctx, func(tx *store.Tx) error {
		for _, m := range plain {
			if err := r.apply(tx, m, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
		return err
	}
	for _, m := range plain {
		err := r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.apply(tx, m, false) })
		if err == nil {
			continue
		}
		log.Error("resolving callback", zap.Int64("callback", m.Number), zap.Error(err))
		if err := r.postpone(ctx, m.Callback, err.Error(), missing); err != nil {
			return err
		}
	}
	return nil
}

func (r *Resolver) postpone(ctx context.Context, c store.Callback, problem string, wait time.Duration) error {
	return r.store.WriteInBackground(ctx, func(tx *store.Tx) error {
		return tx.PostponeCallback(c.Number, problem, r.now().Add(wait))
	})
}

// untilNext is the time until something becomes due that no commit announces.
func (r *Resolver) untilNext(ctx context.Context) (time.Duration, error) {
	const longest = time.Hour
	next := r.now().Add(longest)
	accounts, _ := r.settings()
	if len(accounts) == 0 {
		return longest, nil
	}
	due, ok, err := r.store.NextUnresolved(ctx)
	if err != nil {
		return 0, err
	}
	if ok && due.Before(next) {
		next = due
	}
	for name := range accounts {
		due, ok, err := r.store.NextExpiry(ctx, name)
		if err != nil {
			return 0, err
		}
		if ok && due.Before(next) {
			next = due
		}
	}
	// Times in the store are whole milliseconds; a little later is surely due.
	return max(next.Sub(r.now()), 0) + time.Millisecond, nil
}
