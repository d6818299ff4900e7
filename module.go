// Package ccpayment lets a shop without a backend take crypto payments through
// CCPayment. It is a plugin for Caddy with two HTTP handlers, ccpayment_bill and
// ccpayment_webhook, and the app ccpayment, which holds the merchant accounts and
// the store they share.
//
// A payment goes one way: a callback is received (verified, written to disk,
// answered), resolved (applied to its bill, told as an event) and forwarded
// (delivered to the merchant's upstreams). The three steps meet only in the store,
// so each can be interrupted at any moment and go on from there.
package ccpayment

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/forward"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/resolve"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/trace"
)

func init() {
	caddy.RegisterModule(App{})
	caddy.RegisterModule(SQLite{})
	caddy.RegisterModule(Bill{})
	caddy.RegisterModule(Webhook{})
	caddy.RegisterModule(adminAPI{})
}

// defaultAccount is the name of the account that is configured without one.
const defaultAccount = "default"

const (
	defaultRetain    = 90 * 24 * time.Hour
	minRetain        = 24 * time.Hour
	defaultReconcile = 5 * time.Minute
	minReconcile     = time.Second
)

// now is the clock of everything in this package.
var now = time.Now

// App is the app ccpayment: the merchant accounts at the gateway and the store in
// which bills, callbacks, events and deliveries are kept.
type App struct {
	// The default account.
	Account

	// Further merchant accounts, by the name with which handlers choose them.
	Accounts map[string]*Account `json:"account,omitempty"`

	// Where bills, callbacks, events and deliveries are kept. Default: the module
	// sqlite with a file in Caddy's data directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=ccpayment.stores inline_key=module"`

	// How long closed bills and delivered events are kept. Default: 2160h (90d)
	Retain caddy.Duration `json:"retain,omitempty"`

	// How often the gateway is asked about open bills, in case a callback was missed.
	// Use -1 for never. Default: 5m
	Reconcile caddy.Duration `json:"reconcile,omitempty"`

	// After this server was away for more than five minutes, have the gateway send
	// again what it could not deliver meanwhile, as far as its limits allow: an hour
	// of callbacks a minute, for the last 24 hours. Default: false
	CatchUp bool `json:"catch_up,omitempty"`

	accounts  map[string]*Account
	upstreams []*forward.Upstream
	storage   Storage
	transport *http.Transport
	events    *caddyevents.App
	ctx       caddy.Context
	log       *zap.Logger

	mu     *sync.Mutex // a pointer, because modules are registered by value
	engine *engine
	closed bool
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "ccpayment",
		New: func() caddy.Module { return &App{mu: new(sync.Mutex)} },
	}
}

// Provision sets up the accounts. It opens nothing and asks nobody, because it
// also runs for "caddy validate", beside a server that is in use.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.log = ctx, ctx.Logger()
	a.transport = gateway.NewTransport()
	var err error
	if a.events, err = eventsApp(ctx); err != nil {
		return err
	}
	if err := metrics.register(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %v", err)
	}

	a.accounts = make(map[string]*Account, len(a.Accounts)+1)
	if !a.Account.empty() {
		a.accounts[defaultAccount] = &a.Account
	}
	for name, account := range a.Accounts {
		if _, twice := a.accounts[name]; twice || account == nil {
			return fmt.Errorf("account %s: that is the name of the account outside of an account block", name)
		}
		a.accounts[name] = account
	}
	if len(a.accounts) == 0 {
		return fmt.Errorf("no account: the global option block 'ccpayment' needs app_id, app_secret and api")
	}
	for name, account := range a.accounts {
		if err := account.provision(name, trace.Transport(a.transport), a.log); err != nil {
			return err
		}
	}

	if a.Retain == 0 {
		a.Retain = caddy.Duration(defaultRetain)
	}
	if a.Retain < caddy.Duration(minRetain) {
		return fmt.Errorf("ccpayment: retain must be at least %s, or callbacks that the gateway repeats would not be recognized", minRetain)
	}
	if a.Reconcile == 0 {
		a.Reconcile = caddy.Duration(defaultReconcile)
	}
	if a.Reconcile > 0 && a.Reconcile < caddy.Duration(minReconcile) {
		return fmt.Errorf("ccpayment: reconcile must be at least %s, because the gateway bans those who ask too much", minReconcile)
	}

	a.storage = new(SQLite)
	if a.StoreRaw != nil {
		mod, err := ctx.LoadModule(a, "StoreRaw")
		if err != nil {
			return fmt.Errorf("loading store: %v", err)
		}
		a.storage = mod.(Storage)
	}
	return nil
}

// Start opens the store and begins to resolve and to forward.
func (a *App) Start() error {
	_, err := a.open()
	return err
}

// Stop does nothing. Requests may still be under way, since apps stop in any
// order; what they need is released in Cleanup.
func (a *App) Stop() error { return nil }

// Cleanup hands the store back. If a newer configuration uses it too, everything
// goes on there without a pause.
func (a *App) Cleanup() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.transport != nil {
		a.transport.CloseIdleConnections()
	}
	a.closed = true
	if a.engine == nil {
		return nil
	}
	a.engine.detach(a)
	_, err := engines.Delete(a.engine.location)
	return err
}

// open returns the engine of the app's store, opening it at first use. Apps start
// in any order, so a request may come before Start.
func (a *App) open() (*engine, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.engine != nil {
		// After Cleanup too: a reload does not wait for requests under way. The store
		// is still open then, for the new configuration, or says that it is closed.
		return a.engine, nil
	}
	if a.closed {
		return nil, store.ErrClosed
	}
	location := a.storage.Location()
	v, _, err := engines.LoadOrNew(location, func() (caddy.Destructor, error) {
		return newEngine(location, a.storage, a.log)
	})
	if err != nil {
		return nil, fmt.Errorf("opening store %s: %w", location, err)
	}
	a.engine = v.(*engine)
	a.engine.attach(a)
	return a.engine, nil
}

// store returns the open store, or why there is none.
func (a *App) store() (*store.Store, error) {
	e, err := a.open()
	if err != nil {
		return nil, err
	}
	return e.openStore()
}

// account returns the account a handler has chosen; no name means the default one.
func (a *App) account(name string) (*Account, error) {
	if name == "" {
		name = defaultAccount
	}
	account, ok := a.accounts[name]
	if !ok {
		return nil, fmt.Errorf("account %q is not in the global option block 'ccpayment'", name)
	}
	return account, nil
}

// addUpstream registers an upstream of a handler. The same one may come twice,
// because Caddy makes a handler for each server its site is on; two different ones
// may not share a queue.
func (a *App) addUpstream(u *forward.Upstream) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.upstreams {
		if other.Account != u.Account || other.Name != u.Name {
			continue
		}
		if other.Equal(u) {
			return nil
		}
		return fmt.Errorf("upstream %s: two upstreams with different settings would share one queue; give one of them another name", u.Name)
	}
	a.upstreams = append(a.upstreams, u)
	return nil
}

// resolving is what the resolver needs of the app's accounts.
func (a *App) resolving() map[string]resolve.Account {
	accounts := make(map[string]resolve.Account, len(a.accounts))
	for name, account := range a.accounts {
		accounts[name] = resolve.Account{
			Name:   name,
			API:    account.API,
			Client: account.client,
			// Negative is never.
			Reconcile: max(0, time.Duration(a.Reconcile)),
			CatchUp:   a.CatchUp,
			Upstreams: func(eventType string) []string {
				var names []string
				for _, u := range a.upstreams {
					if u.Account == name && u.Wants(eventType) {
						names = append(names, u.Name)
					}
				}
				return names
			},
		}
	}
	return accounts
}

// appOf returns the app for a handler and says what to add where it is missing.
func appOf(ctx caddy.Context, directive string) (*App, error) {
	v, err := ctx.AppIfConfigured("ccpayment")
	if err != nil {
		return nil, fmt.Errorf("%s needs the global option block 'ccpayment { app_id …; app_secret …; api v1|v2 }': %w", directive, err)
	}
	return v.(*App), nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
