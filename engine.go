package ccpayment

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/forward"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/resolve"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// lockRetry is how often a store that another process uses is tried again.
const lockRetry = 500 * time.Millisecond

// engines are the open stores with what works on them, by location alone: a reload
// with other options must find the store that is open and not open it twice.
var engines = caddy.NewUsagePool()

// Storage is a module in the namespace ccpayment.stores.
type Storage interface {
	// Location tells one store from another.
	Location() string
	// Open opens the store; store.ErrInUse means that another process has it.
	Open(context.Context) (*store.Store, error)
}

// SQLite keeps everything in one SQLite file, for one Caddy instance.
type SQLite struct {
	// Path of the file. Default: ccpayment/ccpayment.db in Caddy's data directory.
	Path string `json:"path,omitempty"`

	location string
}

// CaddyModule returns the Caddy module information.
func (SQLite) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "ccpayment.stores.sqlite",
		New: func() caddy.Module { return new(SQLite) },
	}
}

// Provision finds out which file is meant.
func (s *SQLite) Provision(caddy.Context) error {
	if s.Path == "" {
		return nil
	}
	path, err := expand("path", s.Path)
	if err != nil {
		return err
	}
	s.location, err = filepath.Abs(path)
	return err
}

// Location returns the absolute path of the file.
func (s *SQLite) Location() string {
	if s.location == "" {
		return filepath.Join(caddy.AppDataDir(), "ccpayment", "ccpayment.db")
	}
	return s.location
}

// Open opens or creates the file.
func (s *SQLite) Open(ctx context.Context) (*store.Store, error) {
	return store.OpenSQLite(ctx, s.Location())
}

// An engine is an open store and the two workers on it. It lives as long as some
// configuration uses the store and follows the settings of the newest one.
type engine struct {
	location string

	mu        sync.Mutex
	apps      []*App // attached, newest last
	store     *store.Store
	problem   error // why there is none
	resolver  *resolve.Resolver
	forwarder *forward.Forwarder
	emitter   *emitter

	// creating has the bills whose order is being made, by idempotency key.
	creating singleflight.Group

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newEngine opens a store. If another process has it, the engine waits in the
// background: a rolling restart must not fail, and requests meanwhile are told to
// come again.
func newEngine(location string, storage Storage, log *zap.Logger) (*engine, error) {
	e := &engine{location: location, problem: store.ErrInUse}
	e.emitter = newEmitter(e.newest)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	s, err := storage.Open(e.ctx)
	switch {
	case err == nil:
		e.run(s)
	case errors.Is(err, store.ErrInUse):
		log.Error("waiting for the store, which another process has open; is Caddy running twice?", zap.String("store", location))
		e.wg.Go(func() { e.await(storage, log) })
	default:
		e.cancel()
		return nil, err
	}
	return e, nil
}

func (e *engine) await(storage Storage, log *zap.Logger) {
	ticker := time.NewTicker(lockRetry)
	defer ticker.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-ticker.C:
		}
		s, err := storage.Open(e.ctx)
		if err == nil {
			log.Info("opened the store after waiting for another process", zap.String("store", e.location))
			e.run(s)
			return
		}
		if before := e.setProblem(err); err.Error() != before.Error() {
			log.Error("opening the store", zap.String("store", e.location), zap.Error(err))
		}
	}
}

// run starts the workers on an open store.
func (e *engine) run(s *store.Store) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.store = s
	s.Observe(observeStore(e.emitter.take))
	e.resolver = resolve.New(s, now)
	e.forwarder = forward.New(s, now, userAgent())
	e.forwarder.Observe = observeTry
	e.configure()
	go e.emitter.run(e.ctx.Done())
	e.wg.Go(func() { e.resolver.Run(e.ctx) })
	e.wg.Go(func() { e.forwarder.Run(e.ctx) })
}

// openStore returns the store, or store.ErrInUse while another process has it.
func (e *engine) openStore() (*store.Store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.store == nil {
		return nil, e.problem
	}
	return e.store, nil
}

// setProblem notes why the store cannot be opened, and returns what was noted before.
func (e *engine) setProblem(err error) (before error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before, e.problem = e.problem, err
	return before
}

// attach makes the engine follow an app's settings.
func (e *engine) attach(a *App) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apps = append(e.apps, a)
	e.configure()
	inForce.add(a)
}

// detach forgets an app. Should it have been the newest one, because its
// configuration failed to start, the one before it holds again.
func (e *engine) detach(a *App) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.apps = slices.DeleteFunc(e.apps, func(other *App) bool { return other == a })
	e.configure()
	inForce.remove(a)
}

// newest returns the app whose settings are in force, if any.
func (e *engine) newest() *App {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.apps) == 0 {
		return nil
	}
	return e.apps[len(e.apps)-1]
}

// inForce has the apps that are started, newest last. The admin endpoint and the
// metrics have no other way to the app: Caddy sets them up before it.
var inForce apps

type apps struct {
	mu   sync.Mutex
	list []*App
}

func (l *apps) add(a *App) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, a)
}

func (l *apps) remove(a *App) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(other *App) bool { return other == a })
}

// currentApp returns the app of the configuration that is in force, if any.
func currentApp() *App {
	inForce.mu.Lock()
	defer inForce.mu.Unlock()
	if len(inForce.list) == 0 {
		return nil
	}
	return inForce.list[len(inForce.list)-1]
}

func (e *engine) configure() {
	if e.store == nil || len(e.apps) == 0 {
		return
	}
	a := e.apps[len(e.apps)-1]
	e.resolver.Configure(a.resolving(), a.log)
	e.resolver.Retain(time.Duration(a.Retain))
	e.forwarder.Configure(a.upstreams, a.log)
}

// reconcile asks the gateway about the open bills of all accounts, now.
func (e *engine) reconcile(ctx context.Context) (resolve.Reconciled, error) {
	if _, err := e.openStore(); err != nil {
		return resolve.Reconciled{}, err
	}
	return e.resolver.Reconcile(ctx) // set with the store, and never again
}

// Destruct stops the workers and closes the store.
func (e *engine) Destruct() error {
	e.cancel()
	e.wg.Wait()
	if e.store == nil {
		return nil
	}
	e.emitter.wait()
	return e.store.Close()
}

// userAgent names the plugin and its version to upstreams.
func userAgent() string { return "caddy-ccpayment/" + version() }

// Interface guards
var (
	_ Storage           = (*SQLite)(nil)
	_ caddy.Provisioner = (*SQLite)(nil)
	_ caddy.Destructor  = (*engine)(nil)
)
