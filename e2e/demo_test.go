package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	shop      = "http://localhost:8080"
	simulator = "http://localhost:8081"
)

// One test for each generation of the gateway's API, because the examples have fixed
// ports and the walk is one story.
func TestThePathOfAPaymentInTheDemo(t *testing.T) {
	for api, d := range demos {
		t.Run(api, func(t *testing.T) { d.walk(t, api) })
	}
}

// TestTheDemosDifferInTheGenerationOnly, so that what is shown with one holds for both.
func TestTheDemosDifferInTheGenerationOnly(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		_, config, _ := strings.Cut(string(text), "\n{\n")
		return regexp.MustCompile(`v[12]\b|(?m)^(\s+method \S+) .*?( \{)?$`).ReplaceAllString(config, "$1$2")
	}
	if v1, v2 := read("Caddyfile.example"), read("Caddyfile.v2.example"); v1 != v2 {
		t.Errorf("they are\n%s\nand\n%s", v1, v2)
	}
}

func (d demo) walk(t *testing.T, api string) {
	server := d.start(t)
	toSend := regexp.MustCompile(`Send exactly ([0-9.]+) USDT on TRON \(TRC20\)`)
	for _, link := range []string{shop, simulator, simulator + "/inbox"} {
		eventually(t, "the program says where to click: "+link, func() bool { return strings.Contains(server.output(), link) })
	}

	// 1. A person without JavaScript orders two field guides.
	b := newBrowser(t)
	b.open(shop + "/")
	b.submit(`value="field-guide"`, map[string]string{"quantity": "2", "method": "usdt-trc20"})
	if !strings.HasPrefix(b.at.Path, "/pay/bills/") {
		t.Fatalf("after ordering, the browser is at %s", b.at)
	}
	bill := b.at.String()
	if !strings.Contains(b.page, `data-status="awaiting_payment"`) {
		t.Errorf("the page does not wait for a payment:\n%s", b.page)
	}
	due := toSend.FindStringSubmatch(b.page)
	if due == nil {
		t.Fatalf("the page does not say what to send:\n%s", b.page)
	}
	for _, image := range regexp.MustCompile(`(?:src|href)="(/pay/[^"]+)"`).FindAllStringSubmatch(b.page, -1) {
		resp, err := http.Get(shop + image[1])
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: status %d", image[1], resp.StatusCode)
		}
	}

	// 2. They pay half of it, and are told what is left.
	reference := regexp.MustCompile(`Order reference: <code[^>]*>([^<]+)</code>`).FindStringSubmatch(b.page)[1]
	pay := newBrowser(t)
	pay.open(simulator + "/")
	orders := pay.page
	if !strings.Contains(orders, reference) || !strings.Contains(orders, due[1]) {
		t.Errorf("the simulator does not show order %s of %s", reference, due[1])
	}
	act := func(action string) {
		t.Helper()
		resp, err := http.PostForm(simulator+"/sandbox/orders/"+reference+"/"+action, url.Values{})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("%s: status %d", action, resp.StatusCode)
		}
	}
	status := func(want string) {
		t.Helper()
		eventually(t, "the page says "+want, func() bool {
			b.open(bill)
			return strings.Contains(b.page, `data-status="`+want+`"`)
		})
	}
	act("pay-part")
	status("underpaid")
	left := toSend.FindStringSubmatch(b.page)
	if left == nil || left[1] == due[1] {
		t.Errorf("the page asks for %v of %s", left, due[1])
	}

	// 3. A forged callback changes nothing.
	act("bad-signature")
	status("underpaid")

	// 4. They pay the rest. Where the gateway flags the payment, it counts once it is
	// released.
	story := []string{"bill.underpaid underpaid", "bill.paid paid"}
	if d.flags {
		act("flag")
		story = slices.Insert(story, 1, "bill.payment_held underpaid")
		eventually(t, "the payment is held", func() bool {
			b.open(bill)
			return !toSend.MatchString(b.page)
		})
		if !strings.Contains(b.page, `data-status="underpaid"`) {
			t.Errorf("a flagged payment counts:\n%s", b.page)
		}
		act("release")
	} else {
		act("pay")
	}
	status("paid")
	if strings.Contains(b.page, "qr.svg") || strings.Contains(b.page, "Send exactly") {
		t.Errorf("the paid page still asks for money:\n%s", b.page)
	}
	if !strings.Contains(b.page, `href="/thanks/"`) {
		t.Error("the paid page does not lead back to the shop")
	}

	// 5. The shop's backend has all events, in order, each once and rightly signed.
	var events []received
	eventually(t, "all events are in the inbox", func() bool {
		events = inbox(t)
		return len(events) >= len(story)
	})
	if len(events) != len(story) {
		t.Fatalf("%d events, want %d: %v", len(events), len(story), events)
	}
	for i, e := range slices.Backward(events) { // newest first
		if want := story[len(story)-1-i]; e.Type+" "+e.Event.Data.Bill.Status != want || e.Subject != reference || !e.Verified || e.Times != 1 || e.Event.Data.API != api {
			t.Errorf("want %s, got event %+v", want, e)
		}
	}
	if paid := events[0].Event.Data.Bill; paid.Due != due[1] || paid.Paid != due[1] {
		t.Errorf("due %s, paid %s, shown to the buyer %s", paid.Due, paid.Paid, due[1])
	}
}

// received is an event in the demo's inbox.
type received struct {
	ID, Type, Subject string
	Verified          bool
	Times             int
	Event             struct {
		Data struct {
			API  string
			Bill struct{ Status, Due, Paid string }
		}
	}
}

// inbox is what the shop's backend has received, the newest first.
func inbox(t *testing.T) (all []received) {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, simulator+"/inbox", nil)
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &all); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return all
}

// The dashboard of API v2 asks an address before it takes it.
func TestTheDemoAnswersTheDashboard(t *testing.T) {
	demos["v2"].start(t)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, simulator+"/sandbox/probe", nil)
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var probe struct {
		Status int
		Answer string
		Taken  bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&probe); err != nil || !probe.Taken || probe.Status != 200 || probe.Answer != `{"msg":"success"}` {
		t.Errorf("got %+v, %v", probe, err)
	}
}

// The demo's inbox takes only what is signed with its secret; were it to take
// anything, the test above would prove nothing.
func TestTheInboxRefusesForeignSignatures(t *testing.T) {
	demos["v1"].start(t)
	wh, err := standardwebhooks.NewWebhook("whsec_b3RoZXItc2VjcmV0LW90aGVyLXNlY3JldC1vdGhlcg==")
	if err != nil {
		t.Fatal(err)
	}
	body := `{"specversion":"1.0","id":"evt_1","source":"/x","type":"bill.paid"}`
	at := time.Now()
	sign, err := wh.Sign("evt_1", at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, simulator+"/inbox", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/cloudevents+json")
	req.Header.Set("Webhook-Id", "evt_1")
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("Webhook-Signature", sign)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", resp.StatusCode)
	}
}
