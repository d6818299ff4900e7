package ccpayment

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// scrape reads the plugin's metrics as Prometheus does.
func (s *shop) scrape() map[string]string {
	s.t.Helper()
	resp, err := client.Get(adminBase + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	metrics := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^caddy_ccpayment_(\S+) (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		metrics[m[1]] = m[2]
	}
	return metrics
}

func TestMetricsAreNamedAndDescribedAsPrometheusWants(t *testing.T) {
	openShop(t, "", "upstream http://127.0.0.1:1/ {\nname lint\n}", "") // the queues' metrics come from its store
	reg := prometheus.NewPedanticRegistry()
	if err := metrics.register(reg); err != nil {
		t.Fatal(err)
	}
	if err := metrics.register(reg); err != nil {
		t.Errorf("registering a second time: %v", err)
	}
	observeTry("lint", "delivered", time.Second)
	observeGateway("lint")("/bill/info", "success", time.Second)
	metrics.callbacks.WithLabelValues("lint", "order", "stored").Inc()
	metrics.billsCreated.WithLabelValues("lint", "created").Inc()
	metrics.billStatus.WithLabelValues("lint", "paid").Inc()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 12 {
		t.Errorf("%d metrics were looked at, %v", len(families), err)
	}
}

// A metric that begins at zero after every reload cannot be counted with.
func TestMetricsGoOnOverReloads(t *testing.T) {
	b := newBackend(t)
	b.answer(http.StatusInternalServerError)
	webhook := "upstream " + b.URL + "/events {\nname metered\nretry 1h\n}"
	s := openShop(t, "", webhook, "")
	s.pay("m1")
	s.eventually("tried", func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE tries = 1") == 1 })
	first := s.scrape()
	for name, want := range map[string]string{
		`deliveries_pending{upstream="metered"}`:               "1",
		`deliveries_dead{upstream="metered"}`:                  "0",
		`deliveries_total{result="failed",upstream="metered"}`: "1",
		`delivery_duration_seconds_count{upstream="metered"}`:  "1",
		`inbox_unresolved`: "0",
		`sse_clients`:      "0",
	} {
		if first[name] != want {
			t.Errorf("%s is %q, want %s", name, first[name], want)
		}
	}
	if number(t, first[`oldest_pending_delivery_seconds{upstream="metered"}`]) <= 0 || first["store_commit_duration_seconds_count"] == "" {
		t.Errorf("got %v", first)
	}

	counter := `callbacks_total{account="default",kind="order",result="stored"}`
	created := `bills_created_total{account="default",result="created"}`
	paid := `bill_status_total{account="default",status="paid"}`
	asked := `gateway_request_duration_seconds_count{account="default",endpoint="bill/create",result="success"}`
	before := first
	for i := range 3 {
		s.reload("", webhook, fmt.Sprintf("respond /reload/%d 204", i))
		s.pay(fmt.Sprintf("again%d", i))
		after := s.scrape()
		for _, name := range []string{counter, created, paid, asked} {
			if number(t, after[name]) != number(t, before[name])+1 {
				t.Errorf("reload %d: %s went from %s to %s", i, name, before[name], after[name])
			}
		}
		before = after
	}

	s.callback(deposit("x", "m1", "success", "1")) // a record that is known
	s.raw("{}", "1677152490", strings.Repeat("0", 64))
	after := s.scrape()
	for _, name := range []string{`callbacks_total{account="default",kind="order",result="duplicate"}`, `callbacks_total{account="default",kind="unverified",result="unauthorized"}`} {
		if number(t, after[name]) < 1 {
			t.Errorf("%s is %q", name, after[name])
		}
	}
}

func number(t *testing.T, s string) (n float64) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatalf("%q is not a number", s)
	}
	return n
}

// A recorder takes Caddy events.
type recorder struct{}

var recorded struct {
	mu     sync.Mutex
	events []caddy.Event
	hold   chan struct{}
}

func init() { caddy.RegisterModule(recorder{}) }

func (recorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.ccpayment_test_recorder", New: func() caddy.Module { return new(recorder) }}
}

func (*recorder) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (*recorder) Handle(_ context.Context, e caddy.Event) error {
	recorded.mu.Lock()
	recorded.events = append(recorded.events, e)
	hold := recorded.hold
	recorded.mu.Unlock()
	<-hold
	return nil
}

func TestStoredEventsAreCaddyEventsAndNobodyWaitsForTheirHandlers(t *testing.T) {
	recorded.hold = make(chan struct{})
	s := openShop(t, "", "", "")
	config := strings.Replace(s.config("", "", ""), "\tccpayment {", "\tevents {\n\t\ton ccpayment.bill.paid ccpayment_test_recorder\n\t}\n\tccpayment {", 1)
	s.tester.InitServer(config, "caddyfile")
	reference := s.pay("e1")
	s.eventually("the handler has it", func() bool {
		recorded.mu.Lock()
		defer recorded.mu.Unlock()
		return len(recorded.events) == 1
	})
	s.pay("e2") // while the handler of the first still works
	close(recorded.hold)
	s.eventually("the handler has both", func() bool {
		recorded.mu.Lock()
		defer recorded.mu.Unlock()
		return len(recorded.events) == 2
	})
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	e := recorded.events[0]
	if e.Name() != "ccpayment.bill.paid" || e.Data["subject"] != reference || e.Data["origin"] != "callback" || e.Data["account"] != "default" || e.Data["id"] == "" {
		t.Errorf("got %s %v", e.Name(), e.Data)
	}
	for name := range e.Data {
		if !strings.Contains("id type account subject origin", name) {
			t.Errorf("the event tells %q, and Caddy logs it", name)
		}
	}
}

// A handler that hangs keeps Caddy neither from a reload nor from stopping.
func TestAHandlerThatHangsIsNotWaitedFor(t *testing.T) {
	recorded.mu.Lock()
	recorded.events, recorded.hold = nil, make(chan struct{})
	hold := recorded.hold
	recorded.mu.Unlock()
	defer close(hold)
	s := openShop(t, "", "", "")
	s.tester.InitServer(strings.Replace(s.config("", "", ""), "\tccpayment {", "\tevents {\n\t\ton ccpayment.bill.paid ccpayment_test_recorder\n\t}\n\tccpayment {", 1), "caddyfile")
	s.pay("h1")
	s.eventually("the handler has it", func() bool {
		recorded.mu.Lock()
		defer recorded.mu.Unlock()
		return len(recorded.events) == 1
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.tester.InitServer("{\n\tadmin localhost:2999\n}\n", "caddyfile")
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("unloading the configuration waits for the handler")
	}
}

// A trace that a callback comes with reaches the upstream, after a restart of the
// plugin's own steps in between; one that a buyer comes with reaches the gateway.
func TestTracesGoOn(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	b := newBackend(t)
	var (
		mu    sync.Mutex
		asked = make(map[string]string) // traces the gateway saw, by path
	)
	s := openShop(t, "", "", "")
	through := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.URL.Path] = r.Header.Get("Traceparent")
		mu.Unlock()
		s.gateway.ServeHTTP(w, r)
	}))
	defer through.Close()
	direct := s.gateway.URL
	s.gateway.URL = through.URL
	webhook := "upstream " + b.URL + "/events {\nname traced\n}"
	s.tester.InitServer(strings.Replace(s.config("", webhook, ""), "http://localhost:9080 {", "http://localhost:9080 {\n\ttracing\n", 1), "caddyfile")
	s.gateway.URL = direct

	const buyer, caller = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
	_, bill := s.buy(cart, "Traceparent", "00-"+buyer+"-b7ad6b7169203331-01")
	mu.Lock()
	if got := asked["/bill/create"]; !strings.HasPrefix(got, "00-"+buyer+"-") || strings.Contains(got, "b7ad6b7169203331") {
		t.Errorf("the gateway saw %q, want another span of trace %s", got, buyer)
	}
	mu.Unlock()
	body := s.deposit(bill["reference"].(string), "t1", "success", "50.0137")
	timestamp := fmt.Sprint(time.Now().Unix())
	s.raw(body, timestamp, signV1(timestamp, body), "Traceparent", "00-"+caller+"-00f067aa0ba902b7-01")
	s.eventually("delivered", func() bool { return len(b.got()) == 1 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if !strings.HasPrefix(b.trace[0], "00-"+caller+"-") {
		t.Errorf("the upstream saw %q, want trace %s", b.trace[0], caller)
	}
}

func TestWithoutTracingNothingIsAdded(t *testing.T) {
	b := newBackend(t)
	s := openShop(t, "", "upstream "+b.URL+"/events {\nname untraced\n}", "")
	s.pay("u1")
	s.eventually("delivered", func() bool { return len(b.got()) == 1 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trace[0] != "" {
		t.Errorf("the upstream saw a trace: %q", b.trace[0])
	}
}
