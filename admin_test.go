package ccpayment

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

const adminBase = "http://localhost:2999"

// admin asks the admin endpoint and reads its answer into out.
func (s *shop) admin(method, path, body string, out any) (status int, header http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, adminBase+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Origin", adminBase)
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		s.t.Fatalf("%s %s: status %d, not what was expected (%v): %s", method, path, resp.StatusCode, err, text)
	}
	return resp.StatusCode, resp.Header
}

// command runs a command as an operator does and returns what it prints.
func (s *shop) command(args ...string) (string, error) {
	s.t.Helper()
	return runCommand(nil, append(args, "--address", "localhost:2999")...)
}

func runCommand(stdin io.Reader, args ...string) (string, error) {
	root := &cobra.Command{Use: "ccpayment", SilenceUsage: true, SilenceErrors: true}
	addCommands(root)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(io.Discard)
	root.SetIn(stdin)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	return out.String(), err
}

// A backend answers with a status and remembers what it was sent.
type backend struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	ids    []string
	trace  []string
}

func newBackend(t *testing.T) *backend {
	b := &backend{status: http.StatusOK}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ids = append(b.ids, r.Header.Get("Webhook-Id"))
		b.trace = append(b.trace, r.Header.Get("Traceparent"))
		w.WriteHeader(b.status)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *backend) answer(status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status = status
}

func (b *backend) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ids)
}

// pay buys something and pays it in full.
func (s *shop) pay(record string) (reference string) {
	s.t.Helper()
	_, bill := s.buy(cart)
	reference = bill["reference"].(string)
	if resp, _ := s.callback(s.deposit(reference, record, "success", "50.0137")); resp.StatusCode != 200 {
		s.t.Fatal(resp.Status)
	}
	s.eventually(record+" told", func() bool { return s.rows("SELECT count(*) FROM events WHERE subject = ?", reference) == 1 })
	return reference
}

func TestOperatorsSeeBillsEventsAndDeliveries(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		b := newBackend(t)
		s := gen.openShop(t, "", "upstream "+b.URL+"/events {\nname shop\n}", "")
		paid := []string{s.pay("r1"), s.pay("r2"), s.pay("r3")}
		_, open := s.buy(cart)
		s.eventually("delivered", func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE state = 'delivered'") == 3 })

		var status statusView
		s.admin("GET", "/ccpayment/status", "", &status)
		if status.Store.State != "open" || status.Bills["default"]["paid"] != 3 || status.Bills["default"]["awaiting_payment"] != 1 ||
			len(status.Upstreams) != 1 || status.Upstreams[0] != (queueView{Account: "default", Name: "shop", Configured: true}) {
			t.Errorf("status: %+v", status)
		}

		// Bills come newest first, in pages.
		var references []string
		for path := "/ccpayment/bills?limit=3"; path != ""; {
			var page []billView
			_, header := s.admin("GET", path, "", &page)
			for _, bill := range page {
				references = append(references, bill.Reference)
			}
			path = ""
			if next := regexp.MustCompile(`^<(.*)>; rel="next"$`).FindStringSubmatch(header.Get("Link")); next != nil {
				path = next[1]
			}
		}
		if want := []string{open["reference"].(string), paid[2], paid[1], paid[0]}; !slices.Equal(references, want) {
			t.Errorf("bills are %v, want %v", references, want)
		}
		var list []billView
		if s.admin("GET", "/ccpayment/bills?status=awaiting_payment", "", &list); len(list) != 1 || list[0].Reference != open["reference"] {
			t.Errorf("open bills are %+v", list)
		}
		var detail billDetail
		s.admin("GET", "/ccpayment/bills/"+paid[0], "", &detail)
		if detail.Status != "paid" || detail.Paid != "50.0137" || len(detail.Payments) != 1 || !detail.Payments[0].Counts || len(detail.Events) != 1 || detail.Events[0].Type != "bill.paid" {
			t.Errorf("bill: %+v", detail)
		}
		var text json.RawMessage
		s.admin("GET", "/ccpayment/bills/"+paid[0], "", &text)
		if token := s.token(paid[0]); strings.Contains(string(text), token) {
			t.Error("the buyer's token is shown")
		}

		// So do events; one is found by the beginning of its id too.
		var events []eventView
		s.admin("GET", "/ccpayment/events", "", &events)
		if len(events) != 3 || events[0].Subject != paid[2] {
			t.Fatalf("events: %+v", events)
		}
		var older []eventView
		if s.admin("GET", "/ccpayment/events?before="+events[0].ID, "", &older); len(older) != 2 || older[0].ID != events[1].ID {
			t.Errorf("older events: %+v", older)
		}
		for _, id := range []string{events[0].ID, events[0].ID[:shownID]} {
			var e struct {
				ID         string
				Envelope   struct{ Type string }
				Deliveries []deliveryView
			}
			if s.admin("GET", "/ccpayment/events/"+id, "", &e); e.ID != events[0].ID || e.Envelope.Type != "bill.paid" || len(e.Deliveries) != 1 || e.Deliveries[0].State != "delivered" {
				t.Errorf("event %s: %+v", id, e)
			}
		}

		var deliveries []deliveryView
		if s.admin("GET", "/ccpayment/deliveries?state=delivered&upstream=shop&limit=2", "", &deliveries); len(deliveries) != 2 || deliveries[0].ID != 3 || deliveries[0].Tries != 1 {
			t.Errorf("deliveries: %+v", deliveries)
		}
		if s.admin("GET", "/ccpayment/deliveries?state=delivered&before=2", "", &deliveries); len(deliveries) != 1 || deliveries[0].ID != 1 {
			t.Errorf("older deliveries: %+v", deliveries)
		}
	})
}

// token reads a bill's token from the store.
func (s *shop) token(reference string) (token string) {
	s.t.Helper()
	s.scan("SELECT token FROM bills WHERE reference = ?", []any{reference}, &token)
	return token
}

func TestOrdersOfOperatorsThatCannotBeCarriedOutChangeNothing(t *testing.T) {
	b := newBackend(t)
	b.answer(http.StatusGone) // dead at once
	s := openShop(t, "", "upstream "+b.URL+"/events {\nname shop\n}", "")
	s.pay("r1")
	s.eventually("dead", func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE state = 'dead'") == 1 })
	before := s.dump()
	for _, test := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/ccpayment/", "", 404, "GET /ccpayment/status"},
		{"GET", "/ccpayment/nonsense", "", 404, "GET /ccpayment/status"},
		{"POST", "/ccpayment/status", "", 405, "use GET"},
		{"GET", "/ccpayment/reconcile", "", 405, "use POST"},
		{"GET", "/ccpayment/bills?state=paid", "", 400, "known here: status, limit, before"},
		{"GET", "/ccpayment/bills?status=Paid", "", 400, "known: awaiting_payment"},
		{"GET", "/ccpayment/bills?limit=0", "", 400, "from 1 to 500"},
		{"GET", "/ccpayment/bills?limit=1&limit=2", "", 400, "there twice"},
		{"GET", "/ccpayment/bills?before=nobody", "", 404, `no bill "nobody"`},
		{"GET", "/ccpayment/bills/nobody", "", 404, `no bill "nobody"`},
		{"GET", "/ccpayment/events?before=evt_x", "", 404, `no event "evt_x"`},
		{"GET", "/ccpayment/events/evt_x", "", 404, `no event "evt_x"`},
		{"GET", "/ccpayment/deliveries?state=lost", "", 400, "pending, dead, delivered"},
		{"GET", "/ccpayment/deliveries?before=x", "", 400, "a number"},
		{"POST", "/ccpayment/deliveries/x/retry", "", 400, "a number"},
		{"POST", "/ccpayment/deliveries/99/retry", "", 404, "no delivery 99"},
		{"POST", "/ccpayment/deliveries/1/retry?upstream=nobody", "", 409, "shop"},
		{"POST", "/ccpayment/deliveries/1/retry", `{"upstrem":"shop"}`, 400, "upstrem"},
		{"POST", "/ccpayment/events/replay", "", 400, "name the events"},
		{"POST", "/ccpayment/events/replay", `{"ids":[]}`, 400, "name the events"},
		{"POST", "/ccpayment/events/replay", `{"ids":["evt_x"]}`, 404, `no event "evt_x"`},
		{"POST", "/ccpayment/events/replay", `{"since":"yesterday"}`, 400, "since"},
		{"POST", "/ccpayment/events/replay", `{"since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}`, 400, "before until"},
		{"POST", "/ccpayment/events/replay", `{"since":"2026-01-01T00:00:00Z","upstream":"nobody"}`, 409, "shop"},
		{"POST", "/ccpayment/events/replay", `{"ids":["x"],"since":"2026-01-01T00:00:00Z"}`, 400, "exclude each other"},
		{"POST", "/ccpayment/events/replay", `{"since":"2026-01-01T00:00:00Z"} {}`, 400, "not one JSON object"},
		{"POST", "/ccpayment/events/replay", `{"ids":[""]}`, 404, "no event"},
		{"POST", "/ccpayment/events/replay", `{"ids":["evt_"]}`, 404, "no event"},
		{"GET", "/ccpayment/events?before=e", "", 404, "no event"},
		{"POST", "/ccpayment/reconcile", `{"account":"x"}`, 400, "account"},
	} {
		var problem struct{ Error string }
		status, _ := s.admin(test.method, test.path, test.body, &problem)
		if status != test.status || !strings.Contains(problem.Error, test.says) {
			t.Errorf("%s %s %s: %d %q, want %d with %q", test.method, test.path, test.body, status, problem.Error, test.status, test.says)
		}
	}
	for _, args := range [][]string{
		{"nonsense"},
		{"retry"},
		{"retry", "x"},
		{"retry", "1", "--upstream", "nobody"},
		{"replay"},
		{"replay", "--since", "yesterday"},
		{"replay", "evt_x"},
		{"bills", "nobody"},
		{"bills", "--status", "x"},
		{"events", "evt_x"},
		{"deliveries", "--state", "x"},
		{"status", "extra"},
	} {
		if out, err := s.command(args...); err == nil {
			t.Errorf("%v: no error, and it prints %q", args, out)
		}
	}
	if after := s.dump(); after != before {
		t.Errorf("something was changed:\n%s\nwas\n%s", after, before)
	}
}

// dump writes down the deliveries and events as they are.
func (s *shop) dump() string {
	s.t.Helper()
	var deliveries, events string
	s.scan("SELECT coalesce(group_concat(number || upstream || state || tries || coalesce(due_at, '') || updated_at), '') FROM deliveries", nil, &deliveries)
	s.scan("SELECT coalesce(group_concat(id), '') FROM events", nil, &events)
	return deliveries + "\n" + events
}

func TestADeadDeliveryIsRetriedAndARenamedUpstreamIsNotLost(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		b := newBackend(t)
		b.answer(http.StatusGone)
		s := gen.openShop(t, "", "upstream "+b.URL+"/events {\nname old\n}", "")
		s.pay("r1")
		dead := func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE state = 'dead'") == 1 }
		s.eventually("dead", dead)

		// The upstream's name changes; its deliveries stay where they can be seen.
		s.reload("", "upstream "+b.URL+"/events {\nname new\n}", "")
		out, err := s.command("status")
		if err != nil || !regexp.MustCompile(`(?m)^old +default +0 +1 `).MatchString(out) || !strings.Contains(out, "not in the configuration") {
			t.Errorf("status (%v):\n%s", err, out)
		}
		if _, err := s.command("retry", "1"); err == nil || !strings.Contains(err.Error(), "new") {
			t.Errorf("retrying to an upstream that is gone: %v", err)
		}
		b.answer(http.StatusOK)
		if out, err := s.command("retry", "1", "--upstream", "new"); err != nil || out != "delivery 1 of bill.paid to new is pending\n" {
			t.Errorf("retrying: %q %v", out, err)
		}
		s.eventually("delivered", func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE state = 'delivered'") == 1 })
		if ids := b.got(); len(ids) != 2 || ids[0] != ids[1] {
			t.Errorf("sent as %v, want the same id twice", ids)
		}
	})
}

func TestEventsAreReplayed(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		b := newBackend(t)
		s := gen.openShop(t, "", "upstream "+b.URL+"/events {\nname shop\n}", "")
		s.pay("r1")
		s.pay("r2")
		delivered := func(n int) func() bool {
			return func() bool {
				return len(b.got()) == n && s.rows("SELECT count(*) FROM deliveries WHERE state = 'pending'") == 0
			}
		}
		s.eventually("delivered", delivered(2))
		first := b.got()[0]

		if out, err := s.command("replay", first[:shownID]); err != nil || out != "told again: 1 events in 1 deliveries\n" {
			t.Errorf("%q %v", out, err)
		}
		s.eventually("delivered again", delivered(3))
		if ids := b.got(); ids[2] != first {
			t.Errorf("sent %v", ids)
		}

		// Whatever the order in which they are named, and however often: they are told in the
		// order in which they happened.
		var both replayed
		ids := b.got()
		s.admin("POST", "/ccpayment/events/replay", fmt.Sprintf(`{"ids":[%q,%q,%q]}`, ids[1], ids[0], ids[1][:shownID]), &both)
		if both != (replayed{Events: 2, Deliveries: 2}) {
			t.Errorf("replayed %+v", both)
		}
		s.eventually("delivered once more", delivered(5))

		// An upstream that is new gets what was before its time.
		s.reload("", "upstream "+b.URL+"/events {\nname shop\n}\nupstream "+b.URL+"/books {\nname books\ntypes bill.*\n}", "")
		var r replayed
		s.admin("POST", "/ccpayment/events/replay", fmt.Sprintf(`{"since":%q,"upstream":"books"}`, time.Now().Add(-time.Hour).Format(time.RFC3339)), &r)
		if r != (replayed{Events: 2, Deliveries: 2}) {
			t.Errorf("replayed %+v", r)
		}
		s.eventually("delivered to the new one", delivered(7))
	})
}

func TestAMissedCallbackIsFoundWhenTheOperatorAsks(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		_, bill := s.buy(cart)
		reference := bill["reference"].(string)
		out, err := s.command("reconcile")
		if err != nil || out != "bills asked about: 1\npayments found whose callback had not come: 0\n" {
			t.Errorf("%q %v", out, err)
		}
		body := s.deposit(reference, "r1", "success", "50.0137") // listed, and its callback not sent
		if out, err = s.command("reconcile", "--json"); err != nil || out != `{"bills":1,"found":1}`+"\n" {
			t.Errorf("%q %v", out, err)
		}
		if got := s.status(bill["self"].(string)); got != "paid" {
			t.Errorf("the bill is %s", got)
		}
		// Its callback comes after all, and is the same payment.
		s.callback(body)
		s.eventually("resolved", func() bool { return s.rows("SELECT count(*) FROM callbacks WHERE state = 'resolved'") == 1 })
		if n := s.rows("SELECT count(*) FROM events WHERE origin = 'reconcile'"); n != 1 || s.rows("SELECT count(*) FROM events") != 1 {
			t.Errorf("%d events of reconciling, %d in all", n, s.rows("SELECT count(*) FROM events"))
		}

		_, open := s.buy(cart)
		s.gateway.setFault(gen.info, func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) })
		if _, err := s.command("reconcile"); err == nil || !strings.Contains(err.Error(), "asking the gateway") {
			t.Errorf("with a gateway that is out of order: %v (bill %v)", err, open["code"])
		}
	})
}

// What the gateway or whoever pays has written does nothing to a terminal.
func TestTablesAreOfPrintableCharacters(t *testing.T) {
	var out bytes.Buffer
	tab := &table{header: []string{"A", "B"}}
	tab.row("a note\x1b[2J", "\x1b[31mred\nline", "\u202egnp")
	tab.write(&out)
	if got, want := out.String(), "A              B\n?[31mred?line  ?gnp\n  a note?[2J\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReferencesAreNoFlags(t *testing.T) {
	for range 1000 {
		if r := reference(); r[0] == '-' || len(r) != 22 {
			t.Fatal(r)
		}
	}
}

// Whatever the names and amounts are, a terminal of 80 columns shows a row in one line.
func TestTablesFitATerminal(t *testing.T) {
	b := newBackend(t)
	b.answer(http.StatusInternalServerError)
	name := "upstream-with-a-very-long-name.internal.example.com:8443/webhooks/payments/v2"
	s := openShop(t, "", "upstream "+b.URL+"/events {\nname "+name+"\n}", "")
	s.pay("r1")
	_, bill := s.buy(cart)
	s.callback(s.deposit(bill["reference"].(string), "record-of-forty-digits-0123456789-0123456", "success", "0.123456789012345678"))
	s.eventually("tried", func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE tries > 0") == 2 })
	for _, args := range [][]string{
		{"status"}, {"bills"}, {"bills", bill["reference"].(string)}, {"events"}, {"deliveries"}, {"deliveries", "--state", "dead"},
	} {
		out, err := s.command(args...)
		if err != nil || out == "" {
			t.Fatalf("%v: %q %v", args, out, err)
		}
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.HasPrefix(line, "store") {
				t.Errorf("%v: %d columns: %s", args, n, line)
			}
		}
	}
	for _, path := range []string{"status", "bills", "events", "deliveries"} {
		var want, got any
		s.admin("GET", "/ccpayment/"+path, "", &want)
		out, err := s.command(path, "--json")
		if err != nil || json.Unmarshal([]byte(out), &got) != nil || path != "status" && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s --json (%v): %s\nwant %v", path, err, out, want)
		}
	}
}

func TestWithoutAServerTheCommandsSayWhatToDo(t *testing.T) {
	_, err := runCommand(nil, "status", "--address", "localhost:1")
	if err == nil || !strings.Contains(err.Error(), "Is Caddy running") {
		t.Errorf("got %v", err)
	}
	_, err = runCommand(nil, "status", "--config", "nowhere.json")
	if err == nil || !strings.Contains(err.Error(), "nowhere.json") {
		t.Errorf("got %v", err)
	}
}
