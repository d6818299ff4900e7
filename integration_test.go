package ccpayment

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddytest"
)

const (
	testAppID  = "202302010636261620672405236006912"
	testSecret = "00112233445566778899aabbccddeeff"
	testToken  = "0912e09a-d8e2-41d7-a0bc-a25530892988"
	base       = "http://localhost:9080"
)

// shop is a running Caddy with the plugin.
type shop struct {
	t       *testing.T
	gen     *generation
	gateway *fakeGateway
	path    string // of the store
	tester  *caddytest.Tester
}

// config is the Caddyfile of a shop.
func (s *shop) config(bill, webhook, more string) string {
	return fmt.Sprintf(`{
	admin localhost:2999
	auto_https off
	http_port 9080
	grace_period 1s
	ccpayment {
		app_id %s
		app_secret %s
		api %s
		endpoint %s
		timeout 500ms
		store sqlite %s
	}
}
http://localhost:9080 {
	handle /pay/* {
		ccpayment_bill {
			product field-guide 25.00 "Field guide"
			method usdt-trc20 %s
			rate_limit 1000/1s 1000
			%s
		}
	}
	handle /hooks/* {
		ccpayment_webhook {
			%s
		}
	}
	%s
}
`, testAppID, testSecret, s.gen.api, s.gateway.URL, s.path, s.gen.coin, bill, webhook, more)
}

// openShop opens a shop on API v1, for tests of what has nothing to do with the gateway.
func openShop(t *testing.T, bill, webhook, more string) *shop {
	t.Helper()
	return generations[0].openShop(t, bill, webhook, more)
}

func (gen *generation) openShop(t *testing.T, bill, webhook, more string) *shop {
	t.Helper()
	s := &shop{t: t, gen: gen, gateway: newFakeGateway(t, gen), path: filepath.Join(t.TempDir(), "ccpayment.db")}
	s.tester = caddytest.NewTester(t)
	s.reload(bill, webhook, more)
	// The store must be closed before its directory is removed.
	t.Cleanup(func() { s.tester.InitServer("{\n\tadmin localhost:2999\n}\n", "caddyfile") })
	integrationRan.Add(1)
	return s
}

func (s *shop) reload(bill, webhook, more string) {
	s.t.Helper()
	s.tester.InitServer(s.config(bill, webhook, more), "caddyfile")
}

// client opens a connection for each request: one that is kept could be closed by
// a reload at the moment it is used again.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       10 * time.Second,
}

// do makes a request. Headers come in pairs.
func (s *shop) do(method, path, body string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	send := func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(context.Background(), method, base+path, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Add(headers[i], headers[i+1])
		}
		return client.Do(req)
	}
	resp, err := send()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		// A reload closes the old listening socket. What waits there to be accepted
		// is dropped by the kernel, and every client has to come again.
		resp, err = send()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(answer)
}

var cart = url.Values{"item": {"field-guide"}, "quantity": {"2"}, "method": {"usdt-trc20"}}.Encode()

// buy posts an order as a program does.
func (s *shop) buy(form string, headers ...string) (*http.Response, map[string]any) {
	s.t.Helper()
	headers = append([]string{"Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json"}, headers...)
	resp, body := s.do(http.MethodPost, "/pay/bills", form, headers...)
	var out map[string]any
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		s.t.Fatalf("status %d, not JSON: %s", resp.StatusCode, body)
	}
	return resp, out
}

// callback posts a correctly signed callback.
func (s *shop) callback(body string) (*http.Response, string) {
	s.t.Helper()
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	return s.do(http.MethodPost, "/hooks/ccpayment", body,
		"Content-Type", "application/json; charset=utf-8", "Appid", testAppID, "Timestamp", timestamp, "Sign", s.gen.signature(timestamp, body))
}

// deposit is the body of a callback about a payment, which the gateway lists.
func (s *shop) deposit(reference, record, status, amount string) string {
	s.gateway.list(reference, pay{record: record, status: status, amount: amount})
	return s.gen.deposit(reference, record, status, amount)
}

// deposit is the body of a callback of API v1 about a payment.
func deposit(reference, record, status, amount string) string {
	return fmt.Sprintf(`{"pay_status":%q,"order_type":"API Deposit","record_id":%q,"order_id":"order-of-%s","product_price":"50.00","denominated_currency":"USD","order_amount":"50.0137","fiat_rate":"1","paid_amount":%q,"token_rate":"0.9997","chain":"TRX","txid":"tx-%s","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","extend":{"merchant_order_id":%q}}`,
		status, record, reference, amount, record, reference)
}

// rows counts what a query finds in the store, beside the running server.
func (s *shop) rows(query string, args ...any) (n int) {
	s.t.Helper()
	s.scan(query, args, &n)
	return n
}

// scan reads the only row of a query.
func (s *shop) scan(query string, args []any, into ...any) {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+s.path+"?_pragma=query_only(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query, args...).Scan(into...); err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits for a condition that others bring about.
func (s *shop) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	s.t.Fatalf("waited in vain for: %s", what)
}

func (s *shop) status(self string) string {
	_, body := s.do(http.MethodGet, self, "", "Accept", "application/json")
	var b struct{ Status string }
	_ = json.Unmarshal([]byte(body), &b)
	return b.Status
}

func TestABillIsMadeShownAndPaid(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		resp, bill := s.buy(cart)
		if resp.StatusCode != 201 || bill["status"] != "awaiting_payment" {
			t.Fatalf("status %d: %v", resp.StatusCode, bill)
		}
		pay := bill["pay"].(map[string]any)
		if pay["amount"] != "50.0137" || pay["due"] != "50.0137" || pay["network"] != "TRC20" || pay["address"] != "TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt" {
			t.Errorf("got %v", pay)
		}
		self := resp.Header.Get("Location")
		if self != bill["self"] || !strings.HasPrefix(self, "/pay/bills/") {
			t.Errorf("Location %q, self %v", self, bill["self"])
		}
		for _, name := range []string{"Sign", "Timestamp", "Appid"} {
			if resp.Header.Get(name) != "" {
				t.Errorf("the gateway's header %s was handed on", name)
			}
		}

		reference := bill["reference"].(string)
		for _, step := range []struct{ record, status, amount, want string }{
			{"r1", "processing", "20", "awaiting_payment"},
			{"r1", "success", "20", "underpaid"},
			{"r1", "success", "20", "underpaid"},
			{"r2", "success", "30.0137", "paid"},
			{"r2", "pending", "30.0137", "paid"},
			{"r3", "success", "0.000000000000000001", "overpaid"},
		} {
			if resp, body := s.callback(s.deposit(reference, step.record, step.status, step.amount)); resp.StatusCode != 200 || body != "success" {
				t.Fatalf("callback %v: %d %q", step, resp.StatusCode, body)
			}
			s.eventually(fmt.Sprintf("%v resolved", step), func() bool {
				return s.rows("SELECT count(*) FROM callbacks WHERE state <> 'resolved'") == 0
			})
			if got := s.status(self); got != step.want {
				t.Errorf("after %v: %s", step, got)
			}
		}
		if n := s.rows("SELECT count(*) FROM events"); n != 5 {
			t.Errorf("%d events, want 5: the repeated callback is told once", n)
		}
		_, page := s.do(http.MethodGet, self, "", "Accept", "text/html")
		if !strings.Contains(page, `data-status="overpaid"`) {
			t.Errorf("the page does not say overpaid:\n%s", page)
		}
	})
}

func TestABrowserIsLedToThePageOfItsBill(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		resp, _ := s.do(http.MethodPost, "/pay/bills", cart, "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html,*/*;q=0.8", "Origin", base)
		if resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("status %d", resp.StatusCode)
		}
		resp, page := s.do(http.MethodGet, resp.Header.Get("Location"), "", "Accept", "text/html")
		if resp.StatusCode != 200 || !strings.Contains(page, "50.0137") {
			t.Errorf("status %d:\n%s", resp.StatusCode, page)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex, nofollow"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

func TestThePrefixIsFoundHoweverThePathWasRewritten(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", `handle_path /shop/checkout/* {
		ccpayment_bill {
			product field-guide 25.00
			method usdt-trc20 `+gen.coin+`
		}
	}`)
		resp, bill := s.buy(cart)
		if resp.Header.Get("Location") != bill["self"] {
			t.Errorf("Location %q", resp.Header.Get("Location"))
		}
		resp, body := s.do(http.MethodPost, "/shop/checkout/bills", cart, "Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json")
		if location := resp.Header.Get("Location"); !strings.HasPrefix(location, "/shop/checkout/bills/") || !strings.Contains(body, `"qr":"`+location+`/qr.svg"`) {
			t.Errorf("Location %q: %s", location, body)
		}
		if resp, _ := s.do(http.MethodGet, resp.Header.Get("Location"), "", "Accept", "application/json"); resp.StatusCode != 200 {
			t.Errorf("the bill is not where Location says: %d", resp.StatusCode)
		}
	})
}

func TestWhatTheBrowserSaysBesideTheCartHasNoEffect(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		form := cart + "&price=0.01&product_price=0.01&notify_url=https://evil.example.com&return_url=https://evil.example.com&merchant_order_id=mine"
		resp, bill := s.buy(form)
		if resp.StatusCode != 201 || bill["price"].(map[string]any)["amount"] != "50.00" || bill["reference"] == "mine" {
			t.Errorf("status %d: %v", resp.StatusCode, bill)
		}
		resp, body := s.do(http.MethodPost, "/pay/bills", `{"items":[{"id":"field-guide","quantity":2,"price":"0.01"}],"method":"usdt-trc20","price":"0.01"}`,
			"Content-Type", "application/json", "Accept", "application/json")
		if resp.StatusCode != 201 || !strings.Contains(body, `"price":{"amount":"50.00"`) {
			t.Errorf("status %d: %s", resp.StatusCode, body)
		}
	})
}

func TestRefusedOrders(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, `max_quantity 9
			allow_origin https://friend.example.com`, "", "")
		const form = "application/x-www-form-urlencoded"
		for _, test := range []struct {
			name, contentType, body string
			headers                 []string
			status                  int
			code                    string
		}{
			{"unknown product", form, "item=lantern&quantity=1&method=usdt-trc20", nil, 422, "unknown_product"},
			{"empty cart", form, "method=usdt-trc20", nil, 422, "unknown_product"},
			{"quantity of zero", form, "item=field-guide&quantity=0&method=usdt-trc20", nil, 422, "bad_quantity"},
			{"too many", form, "item=field-guide&quantity=10&method=usdt-trc20", nil, 422, "bad_quantity"},
			{"half a book", form, "item=field-guide&quantity=0.5&method=usdt-trc20", nil, 422, "bad_quantity"},
			{"quantities missing", form, "item=field-guide&item=field-guide&quantity=1", nil, 400, "bad_request"},
			{"unknown method", form, "item=field-guide&quantity=1&method=gold", nil, 422, "unknown_method"},
			{"an amount for what has a price", form, "item=field-guide&quantity=1&method=usdt-trc20&amount=0.01", nil, 422, "bad_amount"},
			{"a note that is too long", form, cart + "&note=" + strings.Repeat("x", 65), nil, 400, "bad_request"},
			{"broken JSON", "application/json", `{"items":`, nil, 400, "bad_request"},
			{"JSON with a field twice", "application/json", `{"items":[],"items":[]}`, nil, 400, "bad_request"},
			{"plain text", "text/plain", "field-guide", nil, 415, "unsupported_type"},
			{"a large body", form, strings.Repeat("x", 70000), nil, 413, "too_large"},
			{"a foreign page", form, cart, []string{"Origin", "https://evil.example.com"}, 403, "origin_not_allowed"},
			{"a page of unknown origin", form, cart, []string{"Origin", "null"}, 403, "origin_not_allowed"},
			{"a sandboxed page", form, cart, []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403, "origin_not_allowed"},
			{"a foreign page without Origin", form, cart, []string{"Sec-Fetch-Site", "cross-site"}, 403, "origin_not_allowed"},
			{"a key with spaces", form, cart, []string{"Idempotency-Key", "a b"}, 400, "bad_request"},
		} {
			t.Run(test.name, func(t *testing.T) {
				resp, body := s.do(http.MethodPost, "/pay/bills", test.body, append([]string{"Content-Type", test.contentType, "Accept", "application/json"}, test.headers...)...)
				var p struct {
					Status    int
					Code      string
					Retryable *bool
				}
				if err := json.Unmarshal([]byte(body), &p); err != nil {
					t.Fatalf("status %d, not JSON: %s", resp.StatusCode, body)
				}
				if resp.StatusCode != test.status || p.Status != test.status || p.Code != test.code || p.Retryable == nil {
					t.Errorf("got %d %s", resp.StatusCode, body)
				}
				if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
					t.Errorf("Content-Type %q", got)
				}
			})
		}
		if n := s.gateway.total(); n != 0 {
			t.Errorf("the gateway was asked %d times about orders that were refused here", n)
		}
		resp, page := s.do(http.MethodPost, "/pay/bills", "item=lantern", "Content-Type", form, "Accept", "text/html")
		if resp.StatusCode != 422 || !strings.Contains(page, "<h1>") || !strings.Contains(page, "lantern") {
			t.Errorf("a browser got %d:\n%s", resp.StatusCode, page)
		}

		// A page of the shop itself that sends no referrer has no origin either.
		if resp, _ := s.buy(cart, "Origin", "null", "Sec-Fetch-Site", "same-origin"); resp.StatusCode != 201 {
			t.Errorf("own page without referrer: %d", resp.StatusCode)
		}

		// The allowed origin may, and is told so.
		resp, _ = s.do(http.MethodOptions, "/pay/bills", "", "Origin", "https://friend.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "idempotency-key")
		if resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "https://friend.example.com" || !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Idempotency-Key") {
			t.Errorf("preflight: %d %v", resp.StatusCode, resp.Header)
		}
		if resp, _ := s.buy(cart, "Origin", "https://friend.example.com"); resp.StatusCode != 201 || resp.Header.Get("Access-Control-Expose-Headers") == "" {
			t.Errorf("allowed origin: %d %v", resp.StatusCode, resp.Header)
		}
	})
}

func TestPathsThatLeadNowhere(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		for _, test := range []struct {
			method, path string
			status       int
		}{
			{"GET", "/pay/bills/AAAAAAAAAAAAAAAAAAAAAA", 404},
			{"GET", "/pay/bills/short", 404},
			{"GET", "/pay/bills/AAAAAAAAAAAAAAAAAAAAAA/events", 404},
			{"GET", "/pay/bills/AAAAAAAAAAAAAAAAAAAAAA/qr.svg", 404},
			{"GET", "/pay/nothing", 404},
			{"GET", "/pay/bills", 405},
			{"DELETE", "/pay/bills/AAAAAAAAAAAAAAAAAAAAAA", 405},
		} {
			resp, body := s.do(test.method, test.path, "", "Accept", "application/json")
			if resp.StatusCode != test.status || !strings.Contains(body, `"code"`) {
				t.Errorf("%s %s: %d %s", test.method, test.path, resp.StatusCode, body)
			}
			if test.status == 405 && resp.Header.Get("Allow") == "" {
				t.Errorf("%s %s: no Allow", test.method, test.path)
			}
		}
	})
}

func TestFaultsOfTheGateway(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		for _, test := range []struct {
			name  string
			fault func(http.ResponseWriter)
			code  string
		}{
			{"refusal", func(w http.ResponseWriter) {
				_, _ = io.WriteString(w, `{"code":224066,"msg":"Service error, pleaser try again","data":null}`)
			}, "gateway_refused"},
			{"wrong signature", func(w http.ResponseWriter) {
				gen.signed(w, `{"code":10000,"msg":"success","data":{"order_id":"1","pay_address":"T","address":"T","amount":"1"}} `)
				_, _ = io.WriteString(w, " ")
			}, "gateway_bad_signature"},
			{"signature of the other generation", func(w http.ResponseWriter) {
				gen.other().signed(w, `{"code":10000,"msg":"success","data":{"order_id":"1","pay_address":"T","address":"T","amount":"1"}}`)
			}, "gateway_bad_signature"},
			{
				"no signature, nothing in it", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"code":10000,"msg":"success","data":{}}`) },
				map[string]string{"v1": "gateway_bad_signature", "v2": "gateway_unreachable"}[gen.api],
			},
			{"no price, or another one", func(w http.ResponseWriter) {
				gen.signed(w, `{"code":10000,"msg":"success","data":{"amount":"0.0","order_id":"1","pay_address":"T","address":"T"}}`)
			}, "gateway_unreachable"},
			{"too many requests", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"code":11004,"msg":"RateLimit"}`) }, "gateway_refused"},
			{"error 500", func(w http.ResponseWriter) { w.WriteHeader(500) }, "gateway_unreachable"},
			{"HTML", func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>maintenance</html>") }, "gateway_unreachable"},
			{"2 MiB", func(w http.ResponseWriter) {
				gen.signed(w, `{"code":10000,"msg":"`+strings.Repeat("x", 2<<20)+`"}`)
			}, "gateway_unreachable"},
			{"dropped connection", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "gateway_unreachable"},
			{"time-out", func(http.ResponseWriter) { time.Sleep(time.Second) }, "gateway_unreachable"},
		} {
			t.Run(test.name, func(t *testing.T) {
				s := gen.openShop(t, "", "", "")
				s.gateway.setFault(gen.create, test.fault)
				resp, problem := s.buy(cart, "Idempotency-Key", "one")
				if resp.StatusCode != 502 || problem["code"] != test.code {
					t.Errorf("got %d %v", resp.StatusCode, problem)
				}
				if n := s.gateway.count(gen.create); n != 1 {
					t.Errorf("the gateway was asked for %d orders", n)
				}
				if test.name == "too many requests" && (problem["retryable"] != true || resp.Header.Get("Retry-After") != "30") {
					t.Errorf("not told when to come again: %v, Retry-After %q", problem, resp.Header.Get("Retry-After"))
				}
				if test.name == "refusal" {
					words := problem["gateway"].(map[string]any)
					if words["code"] != 224066.0 || words["msg"] != "Service error, pleaser try again" {
						t.Errorf("the gateway's words: %v", words)
					}
				}
				if n := s.rows("SELECT count(*) FROM bills WHERE stage = 'open'"); n != 0 {
					t.Errorf("%d bills are open", n)
				}

				// The same key works once the gateway does, with another reference: the
				// first order may exist, and must not be taken for the second.
				s.gateway.setFault(gen.create, nil)
				resp, _ = s.buy(cart, "Idempotency-Key", "one")
				if resp.StatusCode != 201 {
					t.Errorf("afterwards: %d", resp.StatusCode)
				}
				if o := s.gateway.orders; len(o) != 2 || o[0] == o[1] {
					t.Errorf("references %v", o)
				}
			})
		}
	})
}

func TestTheAmountIsLearnedOrTheBillIsRefused(t *testing.T) {
	refuse := func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"code":224066,"msg":"service err"}`) }
	s := openShop(t, "", "", "")
	s.gateway.setFault("/bill/info", refuse)
	if _, bill := s.buy(cart); bill["pay"].(map[string]any)["amount"] != "50.015005" {
		t.Errorf("from the rate: %v", bill["pay"])
	}

	s.gateway.setFault("/token/rate", refuse)
	resp, problem := s.buy(cart, "Idempotency-Key", "one")
	if resp.StatusCode != 502 {
		t.Fatalf("got %d %v", resp.StatusCode, problem)
	}
	// The order was made, so a retry goes on with it and makes no second one.
	s.gateway.setFault("/bill/info", nil)
	before := s.gateway.count("/bill/create")
	resp, bill := s.buy(cart, "Idempotency-Key", "one")
	if resp.StatusCode != 201 || bill["pay"].(map[string]any)["amount"] != "50.0137" {
		t.Errorf("got %d %v", resp.StatusCode, bill)
	}
	if n := s.gateway.count("/bill/create"); n != before {
		t.Errorf("%d more orders were made", n-before)
	}
}

func TestOneKeyIsOneBill(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		s.gateway.setDelay(gen.create, 50*time.Millisecond) // long enough for all to come together
		var (
			wg    sync.WaitGroup
			mu    sync.Mutex
			selfs = make(map[string]int)
		)
		for range 10 {
			wg.Go(func() {
				resp, bill := s.buy(cart, "Idempotency-Key", "double-click")
				mu.Lock()
				defer mu.Unlock()
				selfs[fmt.Sprint(resp.StatusCode, bill["self"])]++
			})
		}
		wg.Wait()
		if len(selfs) != 1 || s.gateway.count(gen.create) != 1 {
			t.Errorf("%d orders, bills %v", s.gateway.count(gen.create), selfs)
		}
		resp, problem := s.buy("item=field-guide&quantity=3&method=usdt-trc20", "Idempotency-Key", "double-click")
		if resp.StatusCode != 422 || problem["code"] != "idempotency_conflict" {
			t.Errorf("another cart: %d %v", resp.StatusCode, problem)
		}
		// The key may also be a field of the form.
		_, first := s.buy(cart + "&idempotency_key=field")
		_, second := s.buy(cart + "&idempotency_key=field")
		if first["self"] != second["self"] {
			t.Errorf("two bills for one field: %v, %v", first["self"], second["self"])
		}
	})
}

func TestLimits(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "max_open 2", "", "")
		s.buy(cart)
		s.buy(cart)
		if resp, problem := s.buy(cart); resp.StatusCode != 409 || problem["code"] != "too_many_open_bills" || problem["retryable"] != true {
			t.Errorf("got %d %v", resp.StatusCode, problem)
		}

		s = gen.openShop(t, "", "", `handle /slow/* {
		ccpayment_bill {
			product field-guide 25.00
			method usdt-trc20 `+gen.coin+`
			rate_limit 1/1m 2
		}
	}`)
		var statuses []int
		var last *http.Response
		for range 3 {
			last, _ = s.do(http.MethodPost, "/slow/bills", cart, "Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json")
			statuses = append(statuses, last.StatusCode)
		}
		if fmt.Sprint(statuses) != "[201 201 429]" {
			t.Errorf("statuses %v", statuses)
		}
		if after, err := strconv.Atoi(last.Header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
			t.Errorf("Retry-After %q", last.Header.Get("Retry-After"))
		}
		if n := s.gateway.count(gen.create); n != 2 {
			t.Errorf("the gateway was asked for %d orders", n)
		}
	})
}

func TestHandleErrorsComesFirst(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", `handle_errors 404 {
		respond "our own page for {err.status_code}"
	}`)
		resp, body := s.do(http.MethodGet, "/pay/bills/AAAAAAAAAAAAAAAAAAAAAA", "", "Accept", "application/json")
		if resp.StatusCode != 404 || body != "our own page for 404" {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
		// An error that the site does not handle keeps the plugin's own body.
		resp, problem := s.buy("item=lantern&quantity=1")
		if resp.StatusCode != 422 || problem["code"] != "unknown_product" {
			t.Errorf("got %d %v", resp.StatusCode, problem)
		}
	})
}

func TestARedirectOfHandleErrorsIsFollowed(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", `handle_errors 422 {
		redir * /sorry
	}
	handle_errors 404 {
		header X-From site
		respond 404
	}`)
		resp, _ := s.do(http.MethodPost, "/pay/bills", "item=lantern", "Content-Type", "application/x-www-form-urlencoded")
		if resp.StatusCode != 302 || resp.Header.Get("Location") != "/sorry" {
			t.Errorf("got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
		}
		// A bare status is no answer: the plugin's own follows, without what was set for it.
		resp, body := s.do(http.MethodGet, "/pay/bills/AAAAAAAAAAAAAAAAAAAAAA", "", "Accept", "application/json")
		if resp.StatusCode != 404 || !strings.Contains(body, "not_found") || resp.Header.Get("X-From") != "" {
			t.Errorf("got %d %q, %v", resp.StatusCode, body, resp.Header)
		}
	})
}

func TestLinksLeadToThisServer(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		_, bill := s.buy(cart)
		token := bill["token"].(string)
		for _, path := range []string{
			"//evil.example.com/..%2Fpay/bills/" + token,
			"/pay/..%2F..%2F/bills/" + token,
			"/pay/%5Cevil.example.com/bills/" + token,
			"/pay//bills/" + token,
		} {
			resp, body := s.do(http.MethodGet, path, "", "Accept", "application/json")
			if resp.StatusCode == 200 && body != "" || strings.Contains(body, "evil") {
				t.Errorf("%s: %d %s", path, resp.StatusCode, body)
			}
		}
		resp, body := s.do(http.MethodGet, "/pay/a%3Fb/bills/"+token, "", "Accept", "application/json")
		if resp.StatusCode != 200 || !strings.Contains(body, `"self":"/pay/a%3Fb/bills/`) {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
	})
}

func TestARepeatedKeyIsNoWayRoundTheRateLimit(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", `handle /slow/* {
		ccpayment_bill {
			product field-guide 25.00
			method usdt-trc20 `+gen.coin+`
			rate_limit 1/1h 2
		}
	}`)
		refuse := func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"code":1,"msg":"no"}`) }
		for _, path := range gen.unfinished {
			s.gateway.setFault(path, refuse)
		}
		for range 6 {
			s.do(http.MethodPost, "/slow/bills", cart, "Content-Type", "application/x-www-form-urlencoded", "Idempotency-Key", "same")
		}
		if n := s.gateway.count(gen.unfinished[0]); n != 2 {
			t.Errorf("the gateway was asked %d times", n)
		}
	})
}

func TestAGatewayThatRefusesItsListIsNotAskedAgainAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		s.gateway.setFault(gen.coins, func(w http.ResponseWriter) {
			_, _ = fmt.Fprintf(w, `{"code":%d,"msg":"This merchant account can only call the other version"}`, map[string]int{"v1": 225213, "v2": 11013}[gen.api])
		})
		for range 5 {
			if resp, _ := s.do(http.MethodGet, "/pay/methods", "", "Accept", "application/json"); resp.StatusCode != 502 {
				t.Errorf("got %d", resp.StatusCode)
			}
		}
		if n := s.gateway.count(gen.coins); n != 1 {
			t.Errorf("the gateway was asked %d times", n)
		}
	})
}

func TestHostedCheckout(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "checkout hosted", "", "")
		resp, _ := s.do(http.MethodPost, "/pay/bills", cart, "Content-Type", "application/x-www-form-urlencoded")
		if resp.StatusCode != 303 || resp.Header.Get("Location") != "https://gateway.example.com/pay?key=1" {
			t.Errorf("got %d, %s", resp.StatusCode, resp.Header.Get("Location"))
		}
		_, bill := s.buy(cart)
		reference, self := bill["reference"].(string), bill["self"].(string)
		s.callback(s.deposit(reference, "h1", "success", "50.0137"))
		s.eventually("paid", func() bool { return s.status(self) == "paid" })
	})
}

func TestMethodsAreNamedAsTheGatewayNamesThem(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		for range 3 {
			resp, body := s.do(http.MethodGet, "/pay/methods", "")
			want := `[{"method":"usdt-trc20","label":"USDT (TRC20)","crypto":"USDT","network":"TRC20","logo":"https://gateway.example.com/usdt.png"}]`
			if resp.StatusCode != 200 || strings.TrimSpace(body) != want {
				t.Fatalf("got %d %s", resp.StatusCode, body)
			}
		}
		if n := s.gateway.count(gen.coins); n != 1 {
			t.Errorf("the list was fetched %d times", n)
		}
	})
}

func TestStreamTellsEveryChangeAndEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		_, bill := s.buy(cart)
		reference, self := bill["reference"].(string), bill["self"].(string)
		resp, err := http.Get(base + self + "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("Content-Type %q", got)
		}
		if got := resp.Header.Get("Cache-Control"); got != "no-store, no-transform" {
			t.Errorf("Cache-Control %q", got)
		}
		s.callback(s.deposit(reference, "r1", "processing", "50.0137"))
		s.eventually("confirming", func() bool { return s.rows("SELECT count(*) FROM bills WHERE confirming") == 1 })
		s.callback(s.deposit(reference, "r1", "success", "50.0137"))

		stream, err := io.ReadAll(resp.Body) // it ends by itself
		if err != nil {
			t.Fatal(err)
		}
		var statuses, ids []string
		for block := range strings.SplitSeq(string(stream), "\n\n") {
			for line := range strings.SplitSeq(block, "\n") {
				if id, ok := strings.CutPrefix(line, "id: "); ok {
					ids = append(ids, id)
				}
				if data, ok := strings.CutPrefix(line, "data: "); ok {
					var b struct {
						Status     string
						Confirming bool
					}
					if err := json.Unmarshal([]byte(data), &b); err != nil {
						t.Fatal(err)
					}
					statuses = append(statuses, fmt.Sprintf("%s %v", b.Status, b.Confirming))
				}
			}
		}
		if got := strings.Join(statuses, ", "); got != gen.changes {
			t.Errorf("told %s", got)
		}
		if got := strings.Join(ids, ","); !strings.HasPrefix("1,2,3,4", got) || len(ids) != len(statuses) {
			t.Errorf("ids %s", got)
		}
		if resp, _ := s.do(http.MethodGet, self+"/events", "", "Last-Event-ID", ids[len(ids)-1]); resp.StatusCode != http.StatusNoContent {
			t.Errorf("a page that has seen the end got %d", resp.StatusCode)
		}
	})
}

func TestAReloadKeepsStoreAndStreamsOfTheShop(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		_, bill := s.buy(cart)
		reference, self := bill["reference"].(string), bill["self"].(string)
		resp, err := http.Get(base + self + "/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		// Another time-out is another configuration on the same store.
		for i := range 5 {
			s.reload(fmt.Sprintf("valid_for %dm", 60+i), "tolerance 3m", "")
			if resp, body := s.callback(s.deposit(reference, fmt.Sprintf("r%d", i), "success", "10")); resp.StatusCode != 200 {
				t.Fatalf("reload %d: %d %s", i, resp.StatusCode, body)
			}
		}
		// The stream of the server that has stopped ends, so that the page comes back.
		done := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, resp.Body)
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the stream holds up the old server")
		}
		s.eventually("all counted", func() bool { return s.rows("SELECT count(*) FROM payments WHERE status = 'success'") == 5 })
		if got := s.status(self); got != "underpaid" {
			t.Errorf("status %s", got)
		}
	})
}

func TestSecretsAreShownNowhere(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		t.Setenv("CCPAYMENT_TEST_SECRET", testSecret)
		s := gen.openShop(t, "", "", "")
		config := strings.Replace(s.config("", "upstream http://localhost:1/x {\nsecret {env.CCPAYMENT_TEST_EVENTS}\n}", ""), "app_secret "+testSecret, "app_secret {env.CCPAYMENT_TEST_SECRET}", 1)
		t.Setenv("CCPAYMENT_TEST_EVENTS", "whsec_c2ltdWxhdG9yLW9ubHktc2VjcmV0LTAxMjM0NTY3ODk=")
		s.tester.InitServer(config, "caddyfile")
		resp, err := http.Get("http://localhost:2999/config/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var shown bytes.Buffer
		if _, err := shown.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(shown.String(), "{env.CCPAYMENT_TEST_SECRET}") {
			t.Fatalf("not the configuration: %s", shown.String())
		}
		for _, secret := range []string{testSecret, "c2ltdWxhdG9yLW9ubHktc2VjcmV0LTAxMjM0NTY3ODk="} {
			if strings.Contains(shown.String(), secret) {
				t.Errorf("the configuration shows %s", secret)
			}
		}
		if resp, _ := s.buy(cart); resp.StatusCode != 201 {
			t.Errorf("the secret from the environment does not work: %d", resp.StatusCode)
		}
	})
}
