package forward

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	agent  = "caddy-ccpayment/test"
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	older  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// keys reads secrets.
func keys(t *testing.T, secrets ...string) [][]byte {
	t.Helper()
	var list [][]byte
	for _, s := range secrets {
		key, err := ParseSecret(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, key)
	}
	return list
}

// A rig is a store with a forwarder on it.
type rig struct {
	t    *testing.T
	s    *store.Store
	path string
	f    *Forwarder
	log  *zap.Logger
	// outcomes has what the forwarder logged about each try, once its outcome was
	// on disk.
	outcomes chan string

	mu     sync.Mutex
	logged bytes.Buffer
}

// assemble returns a rig whose forwarder does not run yet.
func assemble(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "ccpayment.db"), outcomes: make(chan string, 10000)}
	var err error
	if r.s, err = store.OpenSQLite(t.Context(), r.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.s.Close() })
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(r), zap.DebugLevel)
	r.log = zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		r.outcomes <- e.Message
		return nil
	}))
	r.f = New(r.s, time.Now, agent)
	return r
}

// run starts the forwarder. It stops when the test ends, or before.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.f.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-stopped
	}
	r.t.Cleanup(stop)
	return stop
}

func (r *rig) configure(upstreams ...*Upstream) { r.f.Configure(upstreams, r.log) }

// Write takes what is logged.
func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logged.Write(p)
}

func (r *rig) logs() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logged.String()
}

// outcome waits until the outcome of n tries is on disk and returns what was
// logged about the last.
func (r *rig) outcome(n int) (message string) {
	r.t.Helper()
	for range n {
		message = await(r.t, r.outcomes)
	}
	return message
}

// await takes the next value of a channel; it must come soon.
func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatal("nothing came")
	}
	return v
}

// add stores events of a bill, for each of the upstreams.
func (r *rig) add(reference string, upstreams []string, ids ...string) {
	r.t.Helper()
	err := r.s.Write(context.WithoutCancel(r.t.Context()), func(tx *store.Tx) error {
		for _, id := range ids {
			at := time.Now()
			envelope, err := event.Encode(id, event.BillPaid, reference, at, event.Data{Account: "default", API: "v1", Origin: event.FromCallback})
			if err != nil {
				return err
			}
			if err := tx.AddEvent(store.Event{
				ID: id, Account: "default", Type: event.BillPaid, Subject: reference, Origin: event.FromCallback, OccurredAt: at, Envelope: envelope,
			}, upstreams, at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// A delivery is what the store knows of one.
type delivery struct {
	State  string
	Tries  int
	Due    time.Time
	Status int
	Error  string
}

// delivery reads the only delivery of an event from the file, as an operator would.
func (r *rig) delivery(id string) (d delivery) {
	r.t.Helper()
	db, err := sql.Open("sqlite", "file:"+r.path+"?mode=ro")
	if err != nil {
		r.t.Fatal(err)
	}
	defer db.Close()
	var due sql.NullInt64
	if err := db.QueryRowContext(context.WithoutCancel(r.t.Context()),
		"SELECT state, tries, due_at, last_status, last_error FROM deliveries WHERE event = ?", id,
	).Scan(&d.State, &d.Tries, &due, &d.Status, &d.Error); err != nil {
		r.t.Fatal(err)
	}
	if due.Valid {
		d.Due = time.UnixMilli(due.Int64)
	}
	return d
}

// A message is one request that an upstream has received.
type message struct {
	ce.Event
	Method, Path, Host string
	Header             http.Header
	Body               string
	At                 time.Time
	Try                int // how often the event has come, this time included
}

// A receiver is an upstream as a merchant would write it: signatures are checked by
// the library of Standard Webhooks and events are read by the one of CloudEvents.
type receiver struct {
	t *testing.T
	// secrets are those that are accepted; with none, nothing is signed.
	secrets []string
	// answer writes the answer; the default is 200.
	answer func(w http.ResponseWriter, r *http.Request, m message)

	arrived chan message

	mu  sync.Mutex
	got []message
}

func receive(t *testing.T, answer func(http.ResponseWriter, *http.Request, message)) *receiver {
	return &receiver{t: t, answer: answer, arrived: make(chan message, 10000)}
}

// status answers with HTTP statuses, one after the other and the last one forever.
func status(list ...int) func(http.ResponseWriter, *http.Request, message) {
	return func(w http.ResponseWriter, _ *http.Request, m message) {
		w.WriteHeader(list[min(m.Try, len(list))-1])
	}
}

func (u *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m, err := u.read(r)
	if err != nil {
		u.t.Errorf("the receiver refuses: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	for _, earlier := range u.got {
		if earlier.ID() == m.ID() {
			m.Try++
		}
	}
	u.got = append(u.got, m)
	u.mu.Unlock()
	u.arrived <- m
	if u.answer != nil {
		u.answer(w, r, m)
	}
}

func (u *receiver) read(r *http.Request) (message, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return message{}, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		return message{}, err
	}
	for _, s := range u.secrets {
		hook, err := standardwebhooks.NewWebhook(s)
		if err != nil {
			return message{}, err
		}
		if err := hook.Verify(body, r.Header); err != nil {
			return message{}, err
		}
	}
	return message{
		Event: *e, Method: r.Method, Path: r.URL.RequestURI(), Host: r.Host, Header: r.Header, Body: string(body), At: time.Now(), Try: 1,
	}, e.Validate()
}

// ids lists the events that came, in their order.
func (u *receiver) ids() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var list []string
	for _, m := range u.got {
		list = append(list, m.ID())
	}
	return list
}

// serve gives the receiver an address and returns an upstream that leads there.
func (u *receiver) serve(name string) *Upstream {
	server := httptest.NewServer(u)
	u.t.Cleanup(server.Close)
	return upstream(name, server.URL+"/payments")
}

func upstream(name, url string) *Upstream {
	return &Upstream{Account: "default", Name: name, URL: url, Timeout: 15 * time.Second, Retry: []time.Duration{time.Hour}}
}

// inMemory leads the upstreams to receivers without a network between, which in a
// synctest bubble would keep time from passing. It must be called before Run.
func (r *rig) inMemory(receivers map[string]http.Handler) {
	var upstreams []*Upstream
	for name := range receivers {
		u := upstream(name, "http://"+name+".invalid/")
		u.Retry = DefaultRetry
		upstreams = append(upstreams, u)
	}
	r.configure(upstreams...)
	for k, w := range r.f.workers {
		w.session.Load().client.Transport = wire{receivers[k.name]}
	}
}

type wire struct{ http.Handler }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	w.ServeHTTP(answer, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return answer.Result(), nil
}

func TestAnEventArrivesAsItWasStored(t *testing.T) {
	r := assemble(t)
	shop := receive(t, nil)
	shop.secrets = []string{secret}
	u := shop.serve("shop")
	u.URL += "?via=caddy"
	u.Secrets = keys(t, secret)
	r.configure(u)
	r.add("a", []string{"shop"}, "evt_1")
	due, err := r.s.DueDeliveries(t.Context(), "default", "shop", time.Now(), 1)
	if err != nil || len(due) != 1 {
		t.Fatal(due, err)
	}
	r.run()

	m := await(t, shop.arrived)
	if m.Body != string(due[0].Envelope) {
		t.Errorf("body is\n%s\nwant\n%s", m.Body, due[0].Envelope)
	}
	if m.ID() != "evt_1" || m.Type() != "bill.paid" || m.Subject() != "a" || m.Source() != "/ccpayment/default" || m.SpecVersion() != "1.0" {
		t.Errorf("event is %v", m.Event)
	}
	if m.Method != http.MethodPost || m.Path != "/payments?via=caddy" {
		t.Errorf("request is %s %s", m.Method, m.Path)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/cloudevents+json", "User-Agent": agent, "Webhook-Id": "evt_1",
	} {
		if got := m.Header.Values(name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := r.outcome(1); got != "delivered event" {
		t.Errorf("logged %q", got)
	}
	if d := r.delivery("evt_1"); d != (delivery{State: store.Delivered, Tries: 1, Status: 200}) {
		t.Errorf("delivery is %+v", d)
	}
}

func TestEventsThatAreStoredLaterAreSentWithoutWaiting(t *testing.T) {
	r := assemble(t)
	shop := receive(t, nil)
	r.configure(shop.serve("shop"))
	r.run()
	for _, id := range []string{"1", "2", "3"} {
		r.add("a", []string{"shop"}, id)
		if m := await(t, shop.arrived); m.ID() != id {
			t.Errorf("got %s, want %s", m.ID(), id)
		}
	}
}

// TestNothingSecretIsLogged: an address may hold a key, a body holds what somebody
// bought.
func TestNothingSecretIsLogged(t *testing.T) {
	r := assemble(t)
	gone := receive(t, status(http.StatusGone))
	hangs := receive(t, func(_ http.ResponseWriter, r *http.Request, _ message) { <-r.Context().Done() })
	resets := receive(t, func(http.ResponseWriter, *http.Request, message) { panic(http.ErrAbortHandler) })
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	upstreams := []*Upstream{
		gone.serve("gone"), hangs.serve("hangs"), resets.serve("resets"),
		upstream("closed", closed.URL), upstream("nowhere", "http://no.such.name.invalid/"), upstream("not tls", strings.Replace(closed.URL, "http:", "https:", 1)),
	}
	names := make([]string, len(upstreams))
	for i, u := range upstreams {
		names[i] = u.Name
		u.URL += "?key=hidden"
		u.Timeout = 100 * time.Millisecond
		u.Secrets = keys(t, secret)
		u.Header = http.Header{"Authorization": {"Bearer hidden"}}
	}
	r.configure(upstreams...)
	r.add("a", names, "1")
	stop := r.run()
	r.outcome(len(upstreams))
	stop()
	for _, hidden := range []string{"hidden", strings.TrimPrefix(secret, "whsec_"), "v1,", `specversion`} {
		if strings.Contains(r.logs(), hidden) {
			t.Errorf("the log has %q:\n%s", hidden, r.logs())
		}
	}
}
