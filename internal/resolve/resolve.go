// Package resolve turns callbacks into bill states and events. It takes what is in
// the inbox, applies each callback to its bill, and writes the bill, the event and
// its deliveries in one transaction, so that a crash leaves either all or nothing.
package resolve

import (
	"context"
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
	// Reconcile is how often open bills are asked about; zero is never.
	Reconcile time.Duration
	// CatchUp has the gateway send callbacks again after this server was away.
	CatchUp bool
}

// A Resolver works through the inbox until it is stopped. The main loop resolves what
// can be believed and tells the end of bills' validity. Three others ask the gateway,
// about stale callbacks, about those that do not say what was paid, and about open
// bills, so that its answers hold up nobody. One removes what is old, and the last
// catches up after an absence.
type Resolver struct {
	store *store.Store
	now   func() time.Time

	mu       sync.Mutex
	accounts map[string]Account
	retain   time.Duration
	log      *zap.Logger

	changed chan struct{}
	stale   chan struct{} // has a signal when there may be something to confirm
	asking  chan struct{} // has a signal when there may be something to ask
	open    chan struct{} // has a signal when there may be another open bill
	prune   chan struct{} // has a signal when the time of retention has changed
	away    chan struct{} // has a signal when catching up may have been switched on

	reconciling sync.Mutex // held while the gateway is asked about open bills
}

// New returns a resolver. It does nothing before Run.
func New(s *store.Store, now func() time.Time) *Resolver {
	return &Resolver{
		store:   s,
		now:     now,
		log:     zap.NewNop(),
		changed: make(chan struct{}, 1),
		stale:   make(chan struct{}, 1),
		asking:  make(chan struct{}, 1),
		open:    make(chan struct{}, 1),
		prune:   make(chan struct{}, 1),
		away:    make(chan struct{}, 1),
	}
}

// Configure sets the accounts that are served from now on.
func (r *Resolver) Configure(accounts map[string]Account, log *zap.Logger) {
	r.mu.Lock()
	r.accounts, r.log = accounts, log
	r.mu.Unlock()
	poke(r.changed)
	poke(r.away)
}

// Retain sets for how long what is over is kept; zero is for good.
func (r *Resolver) Retain(d time.Duration) {
	r.mu.Lock()
	r.retain = d
	r.mu.Unlock()
	poke(r.prune)
}

func (r *Resolver) settings() (map[string]Account, *zap.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accounts, r.log
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run resolves until the context ends. It waits for commits and for times, and
// never polls.
func (r *Resolver) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { r.loop(ctx, r.stale, r.confirmPass, r.untilStale) })
	wg.Go(func() { r.loop(ctx, r.asking, r.askPass, r.untilAsk) })
	wg.Go(func() { r.loop(ctx, r.open, r.reconcilePass, r.untilCheck) })
	wg.Go(func() { r.loop(ctx, r.prune, r.prunePass, r.untilPrune) })
	wg.Go(func() { r.loop(ctx, r.away, r.catchUpPass, r.untilCatchUp) })
	r.loop(ctx, r.store.Inbox, r.pass, r.untilDue)
	wg.Wait()
}

// loop makes passes: again at once while there is more, else after a signal or when
// the next thing becomes due. After an error of the store only time helps, and the
// more of it the longer it lasts: most loops ask the gateway first, which bans those
// who ask too much.
func (r *Resolver) loop(ctx context.Context, signal <-chan struct{},
	pass func(context.Context) (more bool, err error), until func(context.Context) (time.Duration, error),
) {
	changed, longestRetry := r.changed, retryAfter
	if signal != r.store.Inbox {
		changed = nil // the main loop passes it on
		longestRetry = time.Minute
	}
	retry := retryAfter
	for ctx.Err() == nil {
		more, err := guarded(ctx, pass)
		if more && err == nil {
			continue
		}
		var wait time.Duration
		if err == nil {
			wait, err = until(ctx)
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			_, log := r.settings()
			log.Error("resolving callbacks", zap.Error(err))
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
			retry = min(2*retry, longestRetry)
			continue
		}
		retry = retryAfter
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-signal:
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// guarded turns a panic into an error, since there it would end the whole server.
func guarded(ctx context.Context, pass func(context.Context) (bool, error)) (more bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return pass(ctx)
}

// pass resolves what is due. It reports whether there may be more.
func (r *Resolver) pass(ctx context.Context) (more bool, err error) {
	defer poke(r.stale)
	defer poke(r.asking)
	defer poke(r.open)
	accounts, log := r.settings()
	if len(accounts) == 0 {
		return false, nil
	}
	list, err := r.store.Unresolved(ctx, store.Received, r.now(), batch)
	if err != nil {
		return false, err
	}
	if err := r.resolve(ctx, accounts, log, list); err != nil {
		return false, err
	}
	more = len(list) == batch
	for _, a := range accounts {
		references, err := r.store.ExpiredBills(ctx, a.Name, r.now(), batch)
		if err != nil {
			return false, err
		}
		var failed error
		for _, reference := range references {
			err := r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.expire(tx, a, reference) })
			if err != nil {
				failed = fmt.Errorf("ending the validity of bill %s: %w", reference, err)
			}
		}
		if failed != nil {
			return false, failed // the others were told all the same
		}
		more = more || len(references) == batch
	}
	return more, nil
}

// resolve resolves a list of callbacks in one transaction. Should that fail, each
// gets its own, so that one that cannot be resolved does not hold up the others.
func (r *Resolver) resolve(ctx context.Context, accounts map[string]Account, log *zap.Logger, list []store.Callback) error {
	messages, err := r.readAll(ctx, accounts, log, list)
	if err != nil || len(messages) == 0 {
		return err
	}
	err = r.store.WriteInBackground(ctx, func(tx *store.Tx) error {
		for _, m := range messages {
			if err := r.apply(tx, m, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || stopped(ctx, err) {
		return err
	}
	for _, m := range messages {
		err := r.store.WriteInBackground(ctx, func(tx *store.Tx) error { return r.apply(tx, m, false) })
		if err := r.settle(ctx, log, m.Callback, err); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads callbacks before the transaction that everybody waits for. Those
// that cannot be resolved now are postponed.
func (r *Resolver) readAll(ctx context.Context, accounts map[string]Account, log *zap.Logger, list []store.Callback) ([]message, error) {
	messages := make([]message, 0, len(list))
	for _, c := range list {
		account, ok := accounts[c.Account]
		if !ok {
			if err := r.postpone(ctx, c, fmt.Sprintf("account %q is not configured", c.Account), missing); err != nil {
				return nil, err
			}
			continue
		}
		m, err := read(account, c)
		if m.foreign {
			log.Warn("handing on callback of another generation of the API than the account's", zap.Int64("callback", c.Number), zap.String("account", c.Account))
		}
		if err == nil {
			messages = append(messages, m)
		} else if err := r.settle(ctx, log, c, err); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// settle postpones a callback that could not be resolved, whatever the reason. Its
// error is one that concerns all.
func (r *Resolver) settle(ctx context.Context, log *zap.Logger, c store.Callback, err error) error {
	if err == nil || stopped(ctx, err) {
		return err
	}
	log.Error("resolving callback", zap.Int64("callback", c.Number), zap.Error(err))
	return r.postpone(ctx, c, err.Error(), missing)
}

// stopped reports whether an error says that work has to end or to wait, and nothing
// about the callback it came with. One that is put off for it would be overtaken by
// the next of its bill.
func stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil || store.Unwell(err)
}

func (r *Resolver) postpone(ctx context.Context, c store.Callback, problem string, wait time.Duration) error {
	return r.store.WriteInBackground(ctx, func(tx *store.Tx) error {
		return tx.PostponeCallback(c.Number, problem, r.now().Add(wait))
	})
}

// pruneBatch is how many rows of each kind are looked for at once.
const pruneBatch = 5000

// prunePass removes some of what is older than it need be.
func (r *Resolver) prunePass(ctx context.Context) (more bool, err error) {
	r.mu.Lock()
	retain := r.retain
	r.mu.Unlock()
	if retain <= 0 {
		return false, nil
	}
	return r.store.Prune(ctx, r.now().Add(-retain), pruneBatch)
}

func (r *Resolver) untilPrune(context.Context) (time.Duration, error) { return longest, nil }

// longest is the longest time without a look at what is due.
const longest = time.Hour

// untilDue is the time until something becomes due that no commit announces.
func (r *Resolver) untilDue(ctx context.Context) (time.Duration, error) {
	accounts, _ := r.settings()
	if len(accounts) == 0 {
		return longest, nil
	}
	next, err := r.untilUnresolved(ctx, store.Received)
	if err != nil {
		return 0, err
	}
	for name := range accounts {
		due, ok, err := r.store.NextExpiry(ctx, name)
		if err != nil {
			return 0, err
		}
		if ok {
			next = min(next, r.until(due))
		}
	}
	return next, nil
}

// untilStale is the time until the gateway has to be asked again.
func (r *Resolver) untilStale(ctx context.Context) (time.Duration, error) {
	if accounts, _ := r.settings(); len(accounts) == 0 {
		return longest, nil
	}
	return r.untilUnresolved(ctx, store.Quarantined)
}

func (r *Resolver) untilUnresolved(ctx context.Context, state string) (time.Duration, error) {
	due, ok, err := r.store.NextUnresolved(ctx, state)
	if err != nil || !ok {
		return longest, err
	}
	return min(r.until(due), longest), nil
}

// until is the time until a time in the store is surely over: those are whole
// milliseconds.
func (r *Resolver) until(due time.Time) time.Duration {
	return max(due.Sub(r.now()), 0) + time.Millisecond
}
