package checkout_test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
)

var statuses = []bill.Status{
	bill.Awaiting, bill.Underpaid, bill.Paid, bill.Overpaid,
	bill.Expired, bill.UnderpaidOverdue, bill.PaidOverdue, bill.OverpaidOverdue,
}

var paymentStatuses = []bill.PaymentStatus{bill.Pending, bill.Processing, bill.Success, bill.Failed}

// page is the page of a bill.
func page(t *testing.T, b *bill.Bill, at time.Time) string {
	t.Helper()
	return pageOf(t, checkout.Describe(b, at, links))
}

func pageOf(t *testing.T, b checkout.Bill) string {
	t.Helper()
	w := httptest.NewRecorder()
	if err := checkout.WritePage(w, b, links); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusOK {
		t.Fatalf("status is %d", w.Code)
	}
	expectSafe(t, w)
	return w.Body.String()
}

// expectSafe checks what holds for every page: nothing of it can be run or framed.
func expectSafe(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	csp := w.Header().Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, directive) {
			t.Errorf("the policy lacks %s: %s", directive, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "data:") {
		t.Errorf("the policy is weak: %s", csp)
	}
	if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options is %q", got)
	}
	if got := w.Header().Get("Referrer-Policy"); got != "no-referrer" {
		t.Errorf("Referrer-Policy is %q", got)
	}
	for _, tag := range tags(w.Body.String()) {
		if regexp.MustCompile(`^<(script|style|iframe|object|embed|base|form)\b| (on\w+|style|http-equiv)=`).MatchString(tag) {
			t.Errorf("the page has %s", tag)
		}
	}
}

// expectFinished looks for what templates leave behind when something is missing.
func expectFinished(t *testing.T, page string) {
	t.Helper()
	if left := regexp.MustCompile(`\{\w*\}|\{\{|ZgotmplZ|%!|<nil>|<no value>`).FindString(html.UnescapeString(page)); left != "" {
		t.Errorf("the page says %q", left)
	}
}

var tag = regexp.MustCompile(`<[^>]*>`)

func tags(page string) []string { return tag.FindAllString(page, -1) }

// skeleton is the page's tags with the names of their attributes.
func skeleton(page string) string {
	value := regexp.MustCompile(`"[^"]*"`)
	var list []string
	for _, tag := range tags(page) {
		list = append(list, value.ReplaceAllString(tag, ""))
	}
	return strings.Join(list, "\n")
}

// text is what a reader sees.
func text(page string) string { return html.UnescapeString(tag.ReplaceAllString(page, "")) }

// expectInOrder looks for words in the page, each one after the other.
func expectInOrder(t *testing.T, page string, words ...string) {
	t.Helper()
	rest := page
	for i, word := range words {
		_, after, found := strings.Cut(rest, word)
		if !found {
			t.Errorf("%q is missing, or not after %q", word, words[:i])
			return
		}
		rest = after
	}
}

func TestThePageTellsHowToPay(t *testing.T) {
	got := page(t, example(), now)
	expectFinished(t, got)
	expectInOrder(t, got,
		"Part of the amount has arrived",
		"20 USDT has arrived",
		"Send exactly 30.0137 USDT on TRC20.",
		"Send only USDT, and only on TRC20.",
		`src="/pay/bills/`+token+`/qr.svg"`,
		">30.0137<",
		"<span>TYWn</span><span>k1EG</span>",
		"<span>uK</span><span>Mbyt</span>",
		"Pay before 2026-01-02 16:04 UTC",
		"Time left: 29 min",
		`href="/pay/bills/`+token+`"`, "Check again",
		`href="/contact/"`,
		"Field guide", "2 × 25.00 USD", "50.00 USD",
		"20 USDT", "TRC20", "confirmed", "0xabc",
		"our-order-id", "2026-01-02 15:04 UTC",
	)
	if !strings.Contains(text(got), address) {
		t.Error("the groups of the address cannot be copied as one")
	}
	if strings.Contains(got, "Open in wallet") {
		t.Error("a link to a wallet, though no URI is safe on this network")
	}
	if strings.Contains(got, example().Note) {
		t.Error("the shop's own note is shown")
	}
}

// What is not in the reader's language keeps its own direction, also where the text
// around it runs the other way.
func TestValuesKeepTheirDirection(t *testing.T) {
	arabic := links
	arabic.Language = "ar"
	w := httptest.NewRecorder()
	if err := checkout.WritePage(w, checkout.Describe(example(), now, arabic), arabic); err != nil {
		t.Fatal(err)
	}
	got := w.Body.String()
	expectInOrder(t, got,
		"\u20682026-01-02 16:04 UTC\u2069", "\u206829\u2069",
		"<bdi>Field guide</bdi>", `<bdi dir="ltr">2 × 25.00 USD</bdi>`, `<bdi dir="ltr">50.00 USD</bdi>`,
		`<bdi class="number" dir="ltr">20 USDT</bdi> <bdi class="tag">TRC20</bdi>`,
		`<bdi dir="ltr">50.0137 USDT</bdi> · <bdi>TRC20</bdi>`, `<bdi dir="ltr">`+address+`</bdi>`,
		`<time dir="ltr"`,
	)
	// The element puts the same values into the same texts.
	for key, place := range map[string]string{"deadline": "{time}", "timer": "{time}", "minutes": "{minutes}"} {
		if text := catalog(t, "ar")[key]; !strings.Contains(text, "\u2068"+place+"\u2069") {
			t.Errorf("%s: %q", key, text)
		}
	}
}

func TestAMemoStandsBeforeTheAddressAndTheCode(t *testing.T) {
	b := example()
	b.Memo = "884213"
	got := page(t, b, now)
	expectInOrder(t, got,
		"Memo / tag", ">884213<", "cannot be matched",
		"<details", "Show the QR code (it does not contain the memo)", "/qr.svg", "</details>",
		"<span>TYWn</span>",
	)
	if strings.Count(got, "<img") != 1 {
		t.Error("the code is shown outside its gate")
	}
	if strings.Contains(page(t, example(), now), "Memo") {
		t.Error("a memo is asked for where there is none")
	}
}

func TestAWalletCanBeOpenedWhereTheURIIsSafe(t *testing.T) {
	b := example()
	b.Pays, b.Address = bill.Token{Crypto: "BTC", Network: "Bitcoin", Chain: "BTC"}, bitcoinAddress
	got := html.UnescapeString(page(t, b, now))
	expectInOrder(t, got, `href="bitcoin:`+bitcoinAddress+`?amount=50.0137"`, "Open in wallet")
}

func TestThePageOfASimulatedBillSaysThatItIsATest(t *testing.T) {
	simulated := links
	simulated.Test = true
	w := httptest.NewRecorder()
	if err := checkout.WritePage(w, checkout.Describe(example(), now, simulated), simulated); err != nil {
		t.Fatal(err)
	}
	expectInOrder(t, w.Body.String(), "This is a test. Do not send money", "Send exactly")
	if strings.Contains(page(t, example(), now), "This is a test") {
		t.Error("a real bill is called a test")
	}
}

func TestAHostedBillLeadsToTheGatewaysPage(t *testing.T) {
	b := example()
	b.Hosted, b.PaymentURL, b.Payments = true, "https://ccpayment.com/pay?key=1&lang=en", nil
	b.Pays, b.Address, b.Due = bill.Token{}, "", amount("0")
	got := html.UnescapeString(page(t, b, now))
	expectInOrder(t, got, "Waiting for your payment", `href="https://ccpayment.com/pay?key=1&lang=en"`, "Continue to the payment page")
	if strings.Contains(got, "<img") {
		t.Error("a code is shown")
	}
}

func TestThePageSaysHowTheBillStands(t *testing.T) {
	for name, tc := range map[string]struct {
		payments []bill.Payment
		at       time.Time
		says     []string
		payable  bool
	}{
		"nothing paid":         {nil, now, []string{"Waiting for your payment", "Check again"}, true},
		"part seen":            {[]bill.Payment{paid("20", bill.Pending, created)}, now, []string{"Payment seen", "20 of 50.0137 USDT has been seen.", "The network is confirming", "Check again", "seen"}, false},
		"more seen":            {[]bill.Payment{paid("20", bill.Success, created), paid("10", bill.Pending, created)}, now, []string{"Payment seen", "10 of 30.0137 USDT has been seen."}, false},
		"seen, not how much":   {[]bill.Payment{paid("0", bill.Announced, created)}, now, []string{"Payment seen, waiting for confirmation", "The network is confirming"}, false},
		"the whole seen":       {[]bill.Payment{paid("50.0137", bill.Processing, created)}, now, []string{"Payment seen", "50.0137 of 50.0137 USDT has been seen.", "Check again", "confirming"}, false},
		"a payment failed":     {[]bill.Payment{paid("20", bill.Failed, created)}, now, []string{"Waiting for your payment", "has failed", "failed"}, true},
		"paid":                 {[]bill.Payment{paid("50.0137", bill.Success, created)}, now, []string{"Paid. Thank you!", "whole amount", "Back to the shop"}, false},
		"overpaid":             {[]bill.Payment{paid("60", bill.Success, created)}, now, []string{"Paid. Thank you!", "60 USDT instead of 50.0137 USDT", "Back to the shop"}, false},
		"expired":              {nil, expires, []string{"has ended", "do not pay again", "Check again"}, false},
		"underpaid, overdue":   {[]bill.Payment{paid("20", bill.Success, created)}, expires, []string{"has ended", "20 of 50.0137 USDT", "do not send more", "Check again"}, false},
		"seen after its time":  {[]bill.Payment{paid("50.0137", bill.Pending, expires)}, expires, []string{"Payment seen", "50.0137 of 50.0137 USDT has been seen.", "Check again"}, false},
		"paid late":            {[]bill.Payment{paid("50.0137", bill.Success, expires)}, expires, []string{"Paid. Thank you!", "after the time had ended", "Back to the shop"}, false},
		"overpaid late":        {[]bill.Payment{paid("60", bill.Success, expires)}, expires, []string{"Paid. Thank you!", "More than was due", "Back to the shop"}, false},
		"more seen, when paid": {[]bill.Payment{paid("50.0137", bill.Success, created), paid("1", bill.Pending, created)}, now, []string{"Paid. Thank you!", "Back to the shop"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := example()
			b.Payments = tc.payments
			got := page(t, b, tc.at)
			expectInOrder(t, text(got), tc.says...)
			for _, way := range []string{"<span>TYWn</span>", "<img", "Send exactly", "Pay before"} {
				if strings.Contains(got, way) != tc.payable {
					t.Errorf("%q is there: %v", way, !tc.payable)
				}
			}
			if said, want := strings.Contains(got, "has been seen"), strings.Contains(strings.Join(tc.says, " "), "has been seen"); said != want {
				t.Errorf("how much was seen is there: %v", said)
			}
			if !strings.Contains(got, `href="/contact/"`) {
				t.Error("help is missing")
			}
		})
	}
}

// TestEveryBillHasAPage renders every state with everything known and with nothing
// known that may be unknown.
func TestEveryBillHasAPage(t *testing.T) {
	headings := map[bill.Status]string{
		bill.Awaiting:         "Waiting for your payment",
		bill.Underpaid:        "Part of the amount has arrived",
		bill.Paid:             "Paid. Thank you!",
		bill.Overpaid:         "Paid. Thank you!",
		bill.Expired:          "The time for this payment has ended",
		bill.UnderpaidOverdue: "Part of the amount has arrived, but the time has ended",
		bill.PaidOverdue:      "Paid. Thank you!",
		bill.OverpaidOverdue:  "Paid. Thank you!",
	}
	full := example()
	full.Memo, full.Payments = "1", nil
	for i, status := range paymentStatuses {
		full.Payments = append(full.Payments, paid(fmt.Sprint(i+1), status, created))
	}
	bare := &bill.Bill{Token: token, Price: amount("50"), Currency: "USD", CreatedAt: created, ExpiresAt: expires}
	for _, b := range []*bill.Bill{full, bare} {
		for _, status := range statuses {
			for flags := range 8 {
				described := checkout.Describe(b, now, links)
				described.Status = status
				described.Confirming, described.Payable, described.Final = flags&1 > 0, flags&2 > 0, flags&4 > 0
				want := headings[status]
				if described.Confirming && !status.PaidInFull() {
					want = "Payment seen, waiting for confirmation"
				}
				got := pageOf(t, described)
				expectFinished(t, got)
				if !strings.Contains(got, "<h1>"+want+"</h1>") || !strings.Contains(got, want+"</title>") {
					t.Errorf("%s, %+v: heading %q is missing", status, described, want)
				}
			}
		}
	}
}

func TestABillWhoseNetworkIsNotKnownHasAPage(t *testing.T) {
	for name, unknown := range map[string]bill.Token{
		"network": {Crypto: "USDT", Chain: "TRX"},
		"coin":    {Network: "TRC20", Chain: "TRX"},
	} {
		b := example()
		b.Pays = unknown
		if err := checkout.WritePage(httptest.NewRecorder(), checkout.Describe(b, now, links), links); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoTextOfOthersBecomesMarkup(t *testing.T) {
	build := func(s string) string {
		b := example()
		b.Reference, b.Memo, b.Address, b.Note, b.Currency, b.Method = s, s, s, s, s, s
		b.Items = []bill.Item{{ID: s, Name: s, Quantity: 1, Price: s}}
		b.Pays = bill.Token{Crypto: s, Network: s, Chain: s}
		b.Payments[0].ID, b.Payments[0].TxID = s, s
		b.Payments[0].Token = b.Pays
		return page(t, b, now)
	}
	for _, hostile := range []string{
		`"><script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `</main></body>`, `' onmouseover='alert(1)`, `" onclick="alert(1)`,
		`</title><script>`, `<!--`, `{{.Token}}`, "`${alert(1)}`", `javascript:alert(1)`, "\u202e\u0000<b>",
	} {
		harmless := strings.Repeat("x", len(hostile))
		if got, want := skeleton(build(hostile)), skeleton(build(harmless)); got != want {
			t.Errorf("%q changes the page to\n%s", hostile, got)
		}
	}

	// What stands in an address of the page cannot leave it either.
	for _, hostile := range []string{`javascript:alert(1)`, `JaVaScRiPt:alert(1)`, ` javascript:alert(1)`, `data:text/html,<script>`, `vbscript:x`, `/thanks/" onclick="alert(1)`} {
		b := example()
		b.Payments = []bill.Payment{paid("60", bill.Success, created)}
		described := checkout.Describe(b, now, checkout.Links{Prefix: "/pay", ReturnURL: hostile, SupportURL: hostile})
		hosted := checkout.Describe(b, now, links)
		hosted.Payable, hosted.Pay.Due, hosted.Pay.PaymentURL = true, nil, hostile
		for _, d := range []checkout.Bill{described, hosted} {
			w := httptest.NewRecorder()
			if err := checkout.WritePage(w, d, links); err != nil {
				t.Fatal(err)
			}
			for _, tag := range tags(w.Body.String()) {
				if regexp.MustCompile(`(?i)href="\s*(javascript|data|vbscript):|onclick="`).MatchString(tag) {
					t.Errorf("%q becomes %s", hostile, tag)
				}
			}
		}
	}

	b := example()
	b.Pays, b.Address = bill.Token{Crypto: "BTC", Network: "Bitcoin", Chain: "BTC"}, `bc1q" onclick="alert(1)`
	if strings.Contains(page(t, b, now), `" onclick="`) {
		t.Error("an address leaves the link to the wallet")
	}
}

func TestAProblemHasAPage(t *testing.T) {
	for _, tc := range []struct {
		problem checkout.Problem
		says    []string
	}{
		{
			checkout.Problem{Status: 502, Code: "gateway_unreachable", Detail: "The payment service does not answer.", Retryable: true, SupportURL: "/contact/", Prefix: "/pay"},
			[]string{"This did not work", "The payment service does not answer.", "try again", `href="/contact/"`},
		},
		{
			checkout.Problem{Status: 422, Code: "unknown_product", Detail: `There is no product "<script>".`, Prefix: "/pay"},
			[]string{"This did not work", `There is no product &#34;&lt;script&gt;&#34;.`, "check your order"},
		},
	} {
		w := httptest.NewRecorder()
		if err := checkout.WriteProblem(w, tc.problem); err != nil {
			t.Fatal(err)
		}
		if w.Code != tc.problem.Status {
			t.Errorf("status is %d, want %d", w.Code, tc.problem.Status)
		}
		expectSafe(t, w)
		expectFinished(t, w.Body.String())
		expectInOrder(t, w.Body.String(), append([]string{`href="/pay/checkout.css?v=`, `data-code="` + tc.problem.Code + `"`}, tc.says...)...)
		if tc.problem.SupportURL == "" && strings.Contains(w.Body.String(), "<a") {
			t.Error("a link leads nowhere")
		}
	}
}

// styleURL is the address of the stylesheet as pages name it.
func styleURL(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`<link rel="stylesheet" href="([^"]+)">`).FindStringSubmatch(page(t, example(), now))
	if m == nil {
		t.Fatal("the page has no stylesheet")
	}
	return html.UnescapeString(m[1])
}

func serveStyle(t *testing.T, method, url, etag string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, url, nil)
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	w := httptest.NewRecorder()
	if !checkout.WriteAsset(w, r, "checkout.css") {
		t.Fatal("there is no stylesheet")
	}
	return w
}

func TestTheStylesheetIsKeptAsLongAsItsAddressSays(t *testing.T) {
	named := serveStyle(t, http.MethodGet, styleURL(t), "")
	if named.Code != http.StatusOK || named.Header().Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(named.Body.String(), ".panel") {
		t.Errorf("status %d, %v", named.Code, named.Header())
	}
	if got := named.Header().Get("Cache-Control"); !strings.Contains(got, "immutable") {
		t.Errorf("with its version: %s", got)
	}
	for _, url := range []string{"/pay/checkout.css", "/pay/checkout.css?v=0123456789abcdef"} {
		if got := serveStyle(t, http.MethodGet, url, "").Header().Get("Cache-Control"); strings.Contains(got, "immutable") {
			t.Errorf("%s: %s", url, got)
		}
	}

	etag := named.Header().Get("ETag")
	if !regexp.MustCompile(`^"[0-9a-f]+"$`).MatchString(etag) {
		t.Fatalf("ETag is %s", etag)
	}
	for _, match := range []string{etag, "W/" + etag, `"other", ` + etag, "*"} {
		if w := serveStyle(t, http.MethodGet, "/pay/checkout.css", match); w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("ETag") != etag {
			t.Errorf("If-None-Match %s: status %d, %d bytes", match, w.Code, w.Body.Len())
		}
	}
	if w := serveStyle(t, http.MethodGet, "/pay/checkout.css", `"other"`); w.Code != http.StatusOK {
		t.Errorf("another version: status %d", w.Code)
	}
	if w := serveStyle(t, http.MethodHead, "/pay/checkout.css", ""); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("HEAD: status %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestTheStylesheetLoadsNothing(t *testing.T) {
	css := serveStyle(t, http.MethodGet, "/pay/checkout.css", "").Body.String()
	if found := regexp.MustCompile(`(?i)@import|url\(|https?:`).FindString(css); found != "" {
		t.Errorf("the stylesheet has %s", found)
	}
}

// TestEveryTextIsUsedAndEveryTextThatIsUsedExists reads the sources of the pages,
// where a text is named by its key or, for those of a state, by the beginning of it.
func TestEveryTextIsUsedAndEveryTextThatIsUsedExists(t *testing.T) {
	var texts map[string]string
	data, err := os.ReadFile("messages/en.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &texts); err != nil {
		t.Fatal(err)
	}

	used := []string{"heading.creating", "heading.loading", "heading.confirming", "explain.confirming"}
	for _, what := range []string{"amount", "address", "memo"} {
		used = append(used, "copy."+what, "copied."+what)
	}
	// What the storefront API can answer to an order that a buyer fills in, and that
	// nothing has answered.
	for _, code := range []string{
		"bad_quantity", "bad_amount", "too_many_open_bills", "rate_limited",
		"gateway_refused", "gateway_bad_signature", "gateway_unreachable", "store_unavailable", "offline",
	} {
		used = append(used, "problem."+code)
	}
	for _, status := range statuses {
		used = append(used, "heading."+string(status))
		if status != bill.Awaiting { // where the instruction says it all
			used = append(used, "explain."+string(status))
		}
	}
	for _, status := range paymentStatuses {
		used = append(used, "status."+string(status))
	}
	literal := regexp.MustCompile(`\{\{[^}]*?\bt "([^"]+)"`)
	for _, name := range sources(t, "*.html") {
		for _, m := range literal.FindAllStringSubmatch(read(t, name), -1) {
			used = append(used, m[1])
		}
	}
	for _, key := range used {
		if texts[key] == "" {
			t.Errorf("there is no text %q", key)
		}
	}

	var scripts strings.Builder
	for _, name := range sources(t, "web/*.js") {
		scripts.WriteString(read(t, name))
	}
	for key := range texts {
		named := regexp.QuoteMeta(key)
		if !slices.Contains(used, key) && !regexp.MustCompile(`['"`+"`"+`]`+named+`['"`+"`"+`]|words\.`+named+`\b|\bt\.`+named+`\b|texts\.`+named+`\b`).MatchString(scripts.String()) {
			t.Errorf("the text %q is used nowhere", key)
		}
	}
}

func sources(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
