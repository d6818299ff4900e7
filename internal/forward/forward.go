package forward

import (
	"context"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

const (
	// concurrency is how many deliveries one upstream gets at a time.
	concurrency = 8
	// storeRetry is the wait after an error of the store.
	storeRetry = time.Second
	// grace is how long deliveries under way may take when forwarding stops.
	grace = 3 * time.Second
)

// A Forwarder has one worker for each upstream.
type Forwarder struct {
	// Observe is told of every try: delivered, failed or dead, and the time it took.
	// It must be set before Run; nil is for nobody.
	Observe func(upstream, result string, took time.Duration)

	store     *store.Store
	now       func() time.Time
	userAgent string

	mu      sync.Mutex
	workers map[key]*worker
	leaving map[key]*worker // those whose upstream is gone, the last of each
	wg      sync.WaitGroup
	ctx     context.Context // set by Run
}

// key is the identity of a queue.
type key struct{ account, name string }

// New returns a forwarder. Upstreams may be configured before or after Run.
func New(s *store.Store, now func() time.Time, userAgent string) *Forwarder {
	return &Forwarder{store: s, now: now, userAgent: userAgent, workers: make(map[key]*worker), leaving: make(map[key]*worker)}
}

// Configure sets the upstreams that are served from now on. An upstream that stays
// keeps its worker; deliveries to one that is gone stay in the store.
func (f *Forwarder) Configure(upstreams []*Upstream, log *zap.Logger) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := make(map[key]bool, len(upstreams))
	for _, u := range upstreams {
		k := key{u.Account, u.Name}
		wanted[k] = true
		if w := f.workers[k]; w != nil {
			w.configure(u, log)
			continue
		}
		w := &worker{
			store:     f.store,
			now:       f.now,
			userAgent: f.userAgent,
			observe:   f.Observe,
			account:   u.Account,
			name:      u.Name,
			wake:      make(chan struct{}, 1),
			inFlight:  make(map[int64]bool),
			results:   make(chan int64, concurrency),
			stop:      make(chan struct{}),
			ended:     make(chan struct{}),
			before:    f.leaving[k],
		}
		w.configure(u, log)
		f.workers[k] = w
		if f.ctx != nil {
			f.start(w)
		}
	}
	for k, w := range f.workers {
		if !wanted[k] {
			close(w.stop)
			delete(f.workers, k)
			if f.ctx != nil {
				f.leaving[k] = w
			}
		}
	}
}

func (f *Forwarder) start(w *worker) {
	ctx := f.ctx
	f.wg.Go(func() { w.run(ctx) })
}

// Run forwards until the context ends and then gives what is under way a moment
// to finish.
func (f *Forwarder) Run(ctx context.Context) {
	f.mu.Lock()
	f.ctx = ctx
	for _, w := range f.workers {
		f.start(w)
	}
	f.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-f.store.Outbox:
			f.mu.Lock()
			for _, w := range f.workers {
				w.poke()
			}
			f.mu.Unlock()
		}
	}
	f.mu.Lock()
	f.ctx = nil // no worker is started any more
	f.mu.Unlock()
	f.wg.Wait()
}

// A worker serves the queue of one upstream.
type worker struct {
	store         *store.Store
	now           func() time.Time
	userAgent     string
	observe       func(upstream, result string, took time.Duration)
	account, name string

	wake    chan struct{}
	results chan int64 // deliveries whose try is over
	stop    chan struct{}
	ended   chan struct{}
	// before is the worker that served the queue until its upstream was removed. It
	// may have deliveries under way, which must not be sent beside it or overtaken.
	before *worker

	inFlight map[int64]bool // used by run alone

	session atomic.Pointer[session]
}

// A session is what a worker was configured with last.
type session struct {
	*Upstream
	client *http.Client
	target string
	log    *zap.Logger
}

func (w *worker) configure(u *Upstream, log *zap.Logger) {
	s := &session{Upstream: u, log: log}
	if old := w.session.Load(); old != nil && old.URL == u.URL && old.Timeout == u.Timeout {
		s.client, s.target = old.client, old.target
	} else {
		s.client, s.target = u.client()
		if old != nil {
			old.client.CloseIdleConnections()
		}
	}
	w.session.Store(s)
	w.poke()
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run sends what is due, up to the bound, and waits for commits, for results and
// for the time of the next try.
func (w *worker) run(ctx context.Context) {
	defer close(w.ended)
	if w.before != nil {
		<-w.before.ended // within the grace
		w.before = nil
	}
	// Tries outlive ctx by a moment, so that a stop does not repeat them needlessly.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopped := false
	for !stopped {
		wait, err := w.dispatch(ctx, sending)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			w.session.Load().log.Error("reading deliveries", zap.String("upstream", w.name), zap.Error(err))
			wait = storeRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			stopped = true
		case <-w.stop:
			stopped = true
		case <-w.wake:
		case number := <-w.results:
			delete(w.inFlight, number)
		case <-timer.C:
		}
		timer.Stop()
	}

	timer := time.AfterFunc(grace, cancel)
	defer timer.Stop()
	for len(w.inFlight) > 0 {
		delete(w.inFlight, <-w.results)
	}
	w.session.Load().client.CloseIdleConnections()
}

// dispatch starts what is due and returns the time until something else becomes so.
func (w *worker) dispatch(ctx, sending context.Context) (time.Duration, error) {
	const longest = time.Hour
	free := concurrency - len(w.inFlight)
	if free == 0 {
		return longest, nil // a result comes first
	}
	// Those under way are still due in the store, so as many more are asked for.
	due, err := w.store.DueDeliveries(ctx, w.account, w.name, w.now(), concurrency+len(w.inFlight))
	if err != nil {
		return 0, err
	}
	for _, d := range due {
		if free == 0 {
			return longest, nil
		}
		if w.inFlight[d.Number] {
			continue
		}
		w.inFlight[d.Number] = true
		free--
		go w.deliver(sending, d)
	}
	next, ok, err := w.store.NextDelivery(ctx, w.account, w.name, w.now())
	if err != nil || !ok {
		return longest, err
	}
	// Times in the store are whole milliseconds; a little later is surely due.
	return min(max(next.Sub(w.now()), 0)+time.Millisecond, longest), nil
}

// guardedSend takes a panic for a failed try: left alone it would end the server, and
// unrecorded the delivery would be sent again at once.
func (w *worker) guardedSend(ctx context.Context, s *session, d store.Delivery) (try store.Try, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("delivering panicked", zap.Any("error", p), zap.ByteString("stack", debug.Stack()))
			try, err = w.failed(s, d, 0, 0, "panic while sending"), nil
		}
	}()
	return w.send(ctx, s, d)
}

// results names the outcomes of a try.
var results = map[string]string{store.Delivered: "delivered", store.Dead: "dead", store.PendingDelivery: "failed"}

// deliver tries once and stores the outcome before the next of the same bill can
// become due.
func (w *worker) deliver(ctx context.Context, d store.Delivery) {
	s := w.session.Load()
	log := s.log
	defer func() { w.results <- d.Number }()
	fields := []zap.Field{zap.String("upstream", w.name), zap.String("event", d.Event), zap.String("type", d.Type), zap.Int("try", d.Tries+1)}
	began := time.Now()
	try, err := w.guardedSend(ctx, s, d)
	if err != nil {
		return // stopped; the delivery is still due
	}
	if w.observe != nil {
		w.observe(w.name, results[try.State], time.Since(began))
	}
	try.Round = d.Round
	for {
		if err = w.store.RecordTry(ctx, try, w.now()); err == nil || ctx.Err() != nil {
			break
		}
		// The upstream has answered. Until that is on disk the delivery counts as
		// under way, or it would be sent over and over.
		log.Error("storing the outcome of a delivery", append(fields, zap.Error(err))...)
		select {
		case <-ctx.Done():
		case <-w.stop:
			return
		case <-time.After(storeRetry):
		}
	}
	switch try.State {
	case store.Delivered:
		log.Debug("delivered event", fields...)
	case store.Dead:
		log.Error("giving up on delivery", append(fields, zap.String("reason", try.Error))...)
	default:
		log.Warn("delivering failed, trying again", append(fields, zap.String("reason", try.Error), zap.Duration("in", time.Until(try.DueAt)))...)
	}
}
