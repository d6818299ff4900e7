package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"
)

const (
	testAppID  = "202302010636261620672405236006912"
	testSecret = "00112233445566778899aabbccddeeff"
	testInbox  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	usdtTRC20  = "0912e09a-d8e2-41d7-a0bc-a25530892988"
	notifyURL  = "http://shop.test/hooks"
)

// shop stands in for what the sandbox sends callbacks to. It needs no network, so
// that time can be simulated around it.
type shop struct {
	mu     sync.Mutex
	got    []received
	answer func(n int, r *http.Request) (int, string, error)
}

type received struct {
	at     time.Time
	header http.Header
	body   string
}

func (s *shop) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.got = append(s.got, received{time.Now(), r.Header.Clone(), string(body)})
	n := len(s.got)
	answer := s.answer
	s.mu.Unlock()
	status, text := http.StatusOK, "success"
	if answer != nil {
		if status, text, err = answer(n, r); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		StatusCode: status, Body: io.NopCloser(strings.NewReader(text)), Header: http.Header{}, Request: r,
	}, nil
}

func (s *shop) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

func newTestSandbox(t *testing.T) (*Sandbox, *shop) {
	t.Helper()
	st := newState()
	sh := new(shop)
	st.client.Transport = sh
	t.Cleanup(func() {
		if err := st.Destruct(); err != nil {
			t.Error(err)
		}
	})
	inbox, err := standardwebhooks.NewWebhook(testInbox)
	if err != nil {
		t.Fatal(err)
	}
	return &Sandbox{
		AppID: testAppID, secret: testSecret, notifyURL: notifyURL, speed: 1,
		inbox: inbox, state: st, logger: zap.NewNop(),
	}, sh
}

// serve answers a request as Caddy would.
func serve(s *Sandbox, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	if err := s.ServeHTTP(w, r, nil); err != nil {
		status := http.StatusInternalServerError
		if he, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
			status = he.StatusCode
		}
		w.WriteHeader(status)
	}
	return w
}

// signature is written down a second time here, to check the one that is tested.
func signature(timestamp string, body []byte) string {
	sum := sha256.Sum256([]byte(testAppID + testSecret + timestamp + string(body)))
	return hex.EncodeToString(sum[:])
}

func apiRequest(s *Sandbox, endpoint, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://gateway.test/ccpayment/v1/"+endpoint, strings.NewReader(body))
	timestamp := strconv.FormatInt(s.state.now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Appid", testAppID)
	r.Header.Set("Timestamp", timestamp)
	r.Header.Set("Sign", signature(timestamp, []byte(body)))
	return r
}

type envelope struct {
	Code   int             `json:"code"`
	Reason string          `json:"reason"`
	Msg    string          `json:"msg"`
	Data   json.RawMessage `json:"data"`
}

// call makes a signed request, and checks the signature of a successful answer.
func call(t *testing.T, s *Sandbox, endpoint, body string) envelope {
	t.Helper()
	w := serve(s, apiRequest(s, endpoint, body))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d", endpoint, w.Code)
	}
	var e envelope
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("%s: %v in %q", endpoint, err, w.Body)
	}
	got := w.Header().Get("Sign")
	if e.Code == codeSuccess {
		if want := signature(w.Header().Get("Timestamp"), w.Body.Bytes()); got != want {
			t.Errorf("%s: answer is signed %q, want %q", endpoint, got, want)
		}
		if w.Header().Get("Appid") != testAppID || len(w.Header().Get("Timestamp")) != 10 {
			t.Errorf("%s: bad headers %v", endpoint, w.Header())
		}
	} else if got != "" {
		t.Errorf("%s: a refusal is signed", endpoint)
	}
	return e
}

func createBody(merchantID string) string {
	return fmt.Sprintf(`{"merchant_order_id":%q,"product_price":"50.00","token_id":%q,"denominated_currency":"USD"}`,
		merchantID, usdtTRC20)
}

func create(t *testing.T, s *Sandbox, merchantID string) {
	t.Helper()
	if e := call(t, s, "bill/create", createBody(merchantID)); e.Code != codeSuccess {
		t.Fatalf("bill/create: %+v", e)
	}
}

// act presses a button as a program would.
func act(t *testing.T, s *Sandbox, id, action string, form url.Values) actionAnswer {
	t.Helper()
	w := actRaw(s, id, action, form)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", action, w.Code, w.Body)
	}
	var a actionAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func actRaw(s *Sandbox, id, action string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://gateway.test/sandbox/orders/"+url.PathEscape(id)+"/"+action,
		strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	return serve(s, r)
}

func readTestdata(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// TestCaddy runs the module in Caddy itself: addresses are printed once and only by
// a server that is up, and orders survive a reload.
func TestCaddy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()

	printed, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = printed
	t.Cleanup(func() { os.Stderr = stderr; printed.Close() })
	output := func() string {
		b, err := os.ReadFile(printed.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}

	config := func(speed int) []byte {
		return fmt.Appendf(nil, `{
			"admin": {"disabled": true, "config": {"persist": false}},
			"logging": {"logs": {"default": {"writer": {"output": "discard"}}}},
			"apps": {"http": {"servers": {"s": {
				"listen": [%q], "automatic_https": {"disable": true},
				"routes": [{"handle": [{
					"handler": "ccpayment_sandbox", "app_id": %q, "app_secret": %q, "speed": %d,
					"open": [{"label": "Shop", "url": "http://localhost:8080/"}]
				}]}]
			}}}}
		}`, addr, testAppID, testSecret, speed)
	}

	var parsed caddy.Config
	if err := json.Unmarshal(config(1), &parsed); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&parsed); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(output(), "Shop") {
		t.Error("validating prints addresses")
	}
	if n, ok := states.References(testAppID); ok {
		t.Errorf("validating left %d references to the state", n)
	}

	if err := caddy.Load(config(1), true); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			if err := caddy.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
	defer stop()
	if !strings.Contains(output(), "Shop  http://localhost:8080/") {
		t.Errorf("addresses were not printed: %q", output())
	}

	body := createBody("reload-1")
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/ccpayment/v1/bill/create", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Appid", testAppID)
	req.Header.Set("Timestamp", timestamp)
	req.Header.Set("Sign", signature(timestamp, []byte(body)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !bytes.Contains(got, []byte(`"code":10000`)) {
		t.Fatalf("bill/create: %d %s", resp.StatusCode, got)
	}

	// A configuration that cannot be provisioned must not cost the state.
	bad := bytes.Replace(config(2), []byte(`"app_secret"`), []byte(`"inbox_secret":"whsec_!","app_secret"`), 1)
	if err := caddy.Load(bad, true); err == nil {
		t.Fatal("a bad inbox_secret was accepted")
	}
	for speed := 2; speed < 5; speed++ {
		if err := caddy.Load(config(speed), true); err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get("http://" + addr + "/sandbox/orders/reload-1")
		if errors.Is(err, syscall.ECONNRESET) {
			// The reload has closed the old socket, with what waited there to be accepted.
			resp, err = http.Get("http://" + addr + "/sandbox/orders/reload-1")
		}
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("after reload %d the order is gone: %d", speed, resp.StatusCode)
		}
	}
	if n := strings.Count(output(), "Shop"); n != 1 {
		t.Errorf("addresses were printed %d times", n)
	}
	if n, _ := states.References(testAppID); n != 1 {
		t.Errorf("the state has %d references, want 1", n)
	}

	// A dropped connection is one, also through Caddy's response writers.
	faults, err := http.PostForm("http://"+addr+"/sandbox/faults",
		url.Values{"endpoint": {"coin/all"}, "fault": {faultDrop}})
	if err != nil {
		t.Fatal(err)
	}
	faults.Body.Close()
	req, err = http.NewRequest(http.MethodPost, "http://"+addr+"/ccpayment/v1/coin/all", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	timestamp = strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Appid", testAppID)
	req.Header.Set("Timestamp", timestamp)
	req.Header.Set("Sign", signature(timestamp, nil))
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("the connection was not dropped")
	}

	http.DefaultClient.CloseIdleConnections()
	stop()
	if _, ok := states.References(testAppID); ok {
		t.Error("the state outlives the last configuration")
	}
}

func TestProvision(t *testing.T) {
	for name, tc := range map[string]struct {
		s    Sandbox
		want string
	}{
		"no app id":        {Sandbox{AppSecret: testSecret}, "app_id is required"},
		"no secret":        {Sandbox{AppID: "provision"}, "app_secret is required"},
		"unset variable":   {Sandbox{AppID: "provision", AppSecret: "{env.CCPAYMENT_SANDBOX_UNSET}"}, "resolving app_secret"},
		"bad notify_url":   {Sandbox{AppID: "provision", AppSecret: testSecret, NotifyURL: "ftp://x"}, "notify_url"},
		"bad inbox_secret": {Sandbox{AppID: "provision", AppSecret: testSecret, InboxSecret: "whsec_#"}, "inbox_secret"},
		"no prefix":        {Sandbox{AppID: "provision", AppSecret: testSecret, InboxSecret: "MfKQ9r8G"}, "inbox_secret"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
			defer cancel()
			err := tc.s.Provision(ctx)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			// Cleanup runs all the same, and has nothing to release.
			if err := tc.s.Cleanup(); err != nil {
				t.Error(err)
			}
			if _, ok := states.References("provision"); ok {
				t.Error("the state was acquired")
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	s, _ := newTestSandbox(t)
	create(t, s, "routes/with slash")
	for _, tc := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/", 200},
		{"GET", "/sandbox/", 200},
		{"HEAD", "/sandbox/", 200},
		{"GET", "/sandbox/style.css", 200},
		{"GET", "/sandbox/logo/usdt.svg", 200},
		{"GET", "/sandbox/logo/other.svg", 404},
		{"GET", "/sandbox/orders", 200},
		{"GET", "/sandbox/orders?limit=0", 400},
		{"GET", "/sandbox/orders/routes%2Fwith%20slash", 200},
		{"GET", "/sandbox/orders/unknown", 404},
		{"POST", "/sandbox/orders/unknown/pay", 404},
		{"POST", "/sandbox/orders/routes%2Fwith%20slash/dance", 404},
		{"POST", "/sandbox/orders/routes", 405},
		{"GET", "/sandbox/faults", 200},
		{"GET", "/inbox", 200},
		{"GET", "/inbox/fail", 405},
		{"GET", "/pay", 404},
		{"GET", "/pay?key=unknown", 404},
		{"GET", "/ccpayment/v1/bill/create", 405},
		{"POST", "/ccpayment/v1/withdraw", 404},
		{"POST", "/ccpayment/v3/createAppOrderDepositAddress", 404},
		{"GET", "/favicon.ico", 404},
		{"DELETE", "/", 405},
	} {
		w := serve(s, httptest.NewRequest(tc.method, "http://gateway.test"+tc.target, nil))
		if w.Code != tc.want {
			t.Errorf("%s %s: got %d, want %d", tc.method, tc.target, w.Code, tc.want)
		}
	}
}

// TestPrefix checks that links survive handle_path.
func TestPrefix(t *testing.T) {
	s, _ := newTestSandbox(t)
	orig := httptest.NewRequest(http.MethodGet, "http://gateway.test/gateway/sandbox/", nil)
	r := orig.Clone(context.WithValue(context.Background(), caddyhttp.OriginalRequestCtxKey, *orig))
	r.URL.Path = "/sandbox/"
	w := serve(s, r)
	if !strings.Contains(w.Body.String(), `href="/gateway/sandbox/style.css"`) {
		t.Error("links do not have the prefix")
	}
}
