package gateway_test

import (
	"bytes"
	"compress/gzip"
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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

const (
	appID     = "202302010636261620672405236006912"
	secret    = "00112233445566778899aabbccddeeff"
	timestamp = "1677152490"
)

// sign is the documented formula.
func sign(timestamp string, body []byte) string {
	sum := sha256.Sum256([]byte(appID + secret + timestamp + string(body)))
	return hex.EncodeToString(sum[:])
}

// plainSigner signs at one time and takes any.
type plainSigner struct{}

func (plainSigner) Sign(body []byte) (string, string, string) {
	return appID, timestamp, sign(timestamp, body)
}

func (plainSigner) Verify(id, timestamp, signature string, body []byte) (time.Time, error) {
	if id != appID || signature != sign(timestamp, body) {
		return time.Time{}, errors.New("signature does not match")
	}
	return time.Unix(1677152490, 0), nil
}

// request is one that has reached the gateway.
type request struct {
	method, path string
	header       http.Header
	body         string
}

// fakeGateway answers like the gateway and remembers what it was asked.
type fakeGateway struct {
	*testing.T
	client gateway.Client

	mu          sync.Mutex
	requests    []request
	connections int
}

// start runs a gateway that answers with a handler. The handler finds the request's
// body read.
func start(t *testing.T, answer http.HandlerFunc) *fakeGateway {
	return startWith(t, 10*time.Second, answer)
}

func startWith(t *testing.T, timeout time.Duration, answer http.HandlerFunc) *fakeGateway {
	t.Helper()
	g := &fakeGateway{T: t}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading a request: %v", err)
		}
		if r.Header.Get("Sign") != sign(r.Header.Get("Timestamp"), body) {
			t.Errorf("the signature of %s does not fit its body", r.URL.Path)
		}
		g.mu.Lock()
		g.requests = append(g.requests, request{r.Method, r.URL.Path, r.Header, string(body)})
		g.mu.Unlock()
		answer(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			g.mu.Lock()
			g.connections++
			g.mu.Unlock()
		}
	}
	server.Start()
	transport := gateway.NewTransport()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	g.client = gateway.NewV1(gateway.Config{
		Signer: plainSigner{}, AppID: appID, Endpoint: server.URL + "/ccpayment/v1", Timeout: timeout, Transport: transport,
	})
	return g
}

// received returns the requests so far.
func (g *fakeGateway) received() []request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.requests
}

// expectRequests checks paths and bodies of what was asked, in order.
func (g *fakeGateway) expectRequests(want ...string) {
	g.Helper()
	var got []string
	for _, r := range g.received() {
		got = append(got, strings.TrimPrefix(r.path, "/ccpayment/v1")+" "+r.body)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		g.Errorf("the gateway was asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// signed sends an answer as the gateway does when it says success.
func signed(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Appid", appID)
	w.Header().Set("Timestamp", timestamp)
	w.Header().Set("Sign", sign(timestamp, body))
	_, _ = w.Write(body)
}

func answering(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { signed(w, []byte(body)) }
}

// byPath answers by the endpoint; every other one refuses, without a signature.
func byPath(answers map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if body, ok := answers[strings.TrimPrefix(r.URL.Path, "/ccpayment/v1")]; ok {
			signed(w, []byte(body))
			return
		}
		fmt.Fprint(w, `{"code":224066,"msg":"service err, please try again"}`)
	}
}

// documented is the order of the documented example of /bill/create.
var documented = gateway.Order{
	Reference: "3735077979050379",
	Price:     amount("0.5"),
	Currency:  "USD",
	TokenID:   "0912e09a-d8e2-41d7-a0bc-a25530892988",
	ValidFor:  823456 * time.Second,
	Title:     "Field guide",
}

const documentedRequest = `{"merchant_order_id":"3735077979050379","product_price":"0.50","token_id":"0912e09a-d8e2-41d7-a0bc-a25530892988","denominated_currency":"USD","order_valid_period":823456}`

// failure returns the client's own error and checks that it is one of a kind.
func failure(t *testing.T, err error, want gateway.Failure, endpoint string) *gateway.Error {
	t.Helper()
	var e *gateway.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want %s", err, want)
	}
	if e.Failure != want || e.Endpoint != endpoint {
		t.Fatalf("got %s of %s (%v), want %s of %s", e.Failure, e.Endpoint, err, want, endpoint)
	}
	// 224066 is documented as "Service error, please try again".
	if e.Retryable() != (want != gateway.Refused || e.Code == 224066) {
		t.Errorf("%s: retryable is %v", e.Failure, e.Retryable())
	}
	return e
}

func TestRequestsAreSignedAsTheyAreSent(t *testing.T) {
	g := start(t, answering(string(testdata(t, "v1-bill-create-response.json"))))
	if _, err := g.client.Create(t.Context(), documented); err != nil {
		t.Fatal(err)
	}
	g.expectRequests("/bill/create " + documentedRequest)
	r := g.received()[0]
	if r.method != http.MethodPost {
		t.Errorf("method is %s", r.method)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=utf-8",
		"Appid":        appID,
		"Timestamp":    timestamp,
		"Sign":         sign(timestamp, []byte(documentedRequest)),
	} {
		if got := r.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if strings.Contains(fmt.Sprint(r), secret) {
		t.Error("the secret is sent")
	}
}

func TestOptionalFieldsAreSentOnlyWhenTheyAreSet(t *testing.T) {
	g := start(t, answering(string(testdata(t, "v1-bill-create-response.json"))))
	o := documented
	o.Remark, o.NotifyURL = "für <Zoë> & \"Co\"\u2028", "https://shop.example.com/hooks/ccpayment?a=1&b=2"
	if _, err := g.client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	var sent struct {
		Remark    string `json:"remark"`
		NotifyURL string `json:"notify_url"`
	}
	if err := json.Unmarshal([]byte(g.received()[0].body), &sent); err != nil {
		t.Fatal(err)
	}
	if sent.Remark != o.Remark || sent.NotifyURL != o.NotifyURL {
		t.Errorf("sent %+v", sent)
	}
}

func TestCreateReadsTheDocumentedAnswer(t *testing.T) {
	g := start(t, answering(string(testdata(t, "v1-bill-create-response.json"))))
	got, err := g.client.Create(t.Context(), documented)
	want := gateway.Created{
		OrderID: "202301090616511612332555323101184",
		Address: "TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt",
		Crypto:  "USDT",
		Network: "TRC20",
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCreateTakesOnlyAnAnswerToItsOwnRequest(t *testing.T) {
	example := string(testdata(t, "v1-bill-create-response.json"))
	for name, tc := range map[string]struct {
		old, new string
		good     bool
	}{
		"the price in another form":             {`"amount": "0.5"`, `"amount": "0.500"`, true},
		"the price as a number":                 {`"amount": "0.5"`, `"amount": 0.5`, true},
		"the price under its later name":        {`"amount": "0.5"`, `"product_price": "0.5"`, true},
		"the price under both names":            {`"amount": "0.5"`, `"product_price": "0.5", "amount": "0.5"`, true},
		"a memo":                                {`"memo": ""`, `"memo": "12345"`, true},
		"no token":                              {`"token_id": "0912e09a-d8e2-41d7-a0bc-a25530892988",`, ``, true},
		"unknown fields":                        {`"memo": ""`, `"memo": "", "level": {"a": [1]}`, true},
		"another price":                         {`"amount": "0.5"`, `"amount": "0.05"`, false},
		"another price under its later name":    {`"amount": "0.5"`, `"product_price": "5"`, false},
		"a price that is none":                  {`"amount": "0.5"`, `"amount": "about 0.5"`, false},
		"another token":                         {`"token_id": "0912e09a`, `"token_id": "1912e09a`, false},
		"no address":                            {`"pay_address": "TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt",`, ``, false},
		"an empty address":                      {`TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt`, ``, false},
		"an address that is no text":            {`"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt"`, `["T"]`, false},
		"no order_id":                           {`"order_id"`, `"orderId"`, false},
		"an address twice":                      {`"memo"`, `"pay_address": "TXXX", "memo"`, false},
		"an address twice, in another case":     {`"memo"`, `"Pay_Address": "TXXX", "memo"`, false},
		"data that is null":                     {example, `{"code":10000,"msg":"success","data":null}`, false},
		"no data":                               {example, `{"code":10000,"msg":"success"}`, false},
		"data that is a list":                   {example, `{"code":10000,"msg":"success","data":[]}`, false},
		"something after the answer":            {example, example + "{}", false},
		"a code that is a string":               {`10000`, `"10000"`, false},
		"an answer that is not UTF-8":           {`"memo": ""`, "\"memo\": \"\x80\"", false},
		"an answer with a NUL":                  {`"memo": ""`, "\"memo\": \"\x00\"", false},
		"a callback in place of an answer":      {example, string(testdata(t, "v1-webhook-api-deposit.json")), false},
		"our own request in place of an answer": {example, documentedRequest, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, answering(strings.Replace(example, tc.old, tc.new, 1)))
			created, err := g.client.Create(t.Context(), documented)
			switch {
			case tc.good && (err != nil || created.OrderID == "" || created.Address == ""):
				t.Errorf("got %+v, %v", created, err)
			case !tc.good && (err == nil || created != gateway.Created{}):
				t.Errorf("taken for %+v, %v", created, err)
			}
			if n := len(g.received()); n != 1 {
				t.Errorf("%d requests for one order", n)
			}
		})
	}
}

func TestOnlyASignedAnswerIsASuccess(t *testing.T) {
	example := testdata(t, "v1-bill-create-response.json")
	for name, tc := range map[string]struct {
		header func(h http.Header)
		good   bool
	}{
		"as documented":            {func(http.Header) {}, true},
		"no Appid":                 {func(h http.Header) { h.Del("Appid") }, true},
		"another Appid":            {func(h http.Header) { h.Set("Appid", "somebody else") }, true},
		"no Sign":                  {func(h http.Header) { h.Del("Sign") }, false},
		"an empty Sign":            {func(h http.Header) { h.Set("Sign", "") }, false},
		"the Sign of another body": {func(h http.Header) { h.Set("Sign", sign(timestamp, []byte("{}"))) }, false},
		"the Sign of another time": {func(h http.Header) { h.Set("Timestamp", "1677152491") }, false},
		"the same Sign twice":      {func(h http.Header) { h.Add("Sign", h.Get("Sign")) }, false},
		"a wrong Sign besides":     {func(h http.Header) { h.Add("Sign", "0") }, false},
		"two Signs in one line":    {func(h http.Header) { h.Set("Sign", h.Get("Sign")+", "+h.Get("Sign")) }, false},
		"no Timestamp":             {func(h http.Header) { h.Del("Timestamp") }, false},
		"two Timestamps":           {func(h http.Header) { h.Add("Timestamp", timestamp) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Appid", appID)
				w.Header().Set("Timestamp", timestamp)
				w.Header().Set("Sign", sign(timestamp, example))
				tc.header(w.Header())
				_, _ = w.Write(example)
			})
			_, err := g.client.Create(t.Context(), documented)
			if tc.good {
				if err != nil {
					t.Error(err)
				}
				return
			}
			failure(t, err, gateway.BadSignature, "/bill/create")
			if n := len(g.received()); n != 1 {
				t.Errorf("%d requests for one order", n)
			}
		})
	}
}

func TestARefusalIsToldInTheGatewaysWordsAndNeedsNoSignature(t *testing.T) {
	for name, tc := range map[string]struct {
		answer      string
		code        int
		msg, reason string
	}{
		"data null":    {string(testdata(t, "v1-bill-create-error.json")), 224066, "Service error, pleaser try again", ""},
		"without data": {string(testdata(t, "v1-error-service-without-data.json")), 224066, "service err, please try again", ""},
		"with reason":  {string(testdata(t, "v1-check-user-error.json")), 224083, "users do not exist", "ToUserNotFound"},
		"msg null":     {`{"code":225213,"msg":null}`, 225213, "", ""},
		"msg an array": {`{"code":225213,"msg":["no"]}`, 225213, "", ""},
		"data is text": {`{"code":1,"msg":"no","data":"nothing"}`, 1, "no", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, tc.answer) })
			_, err := g.client.Create(t.Context(), documented)
			e := failure(t, err, gateway.Refused, "/bill/create")
			if e.Code != tc.code || e.Msg != tc.msg || e.Reason != tc.reason {
				t.Errorf("code %d, msg %q, reason %q", e.Code, e.Msg, e.Reason)
			}
			if text := err.Error(); !strings.Contains(text, fmt.Sprint(tc.code)) || !strings.Contains(text, tc.msg) || !strings.Contains(text, tc.reason) {
				t.Errorf("the error says %q", text)
			}
			if n := len(g.received()); n != 1 {
				t.Errorf("%d requests for one order", n)
			}
		})
	}
}

func TestTheGatewaysWordsAreFitForALogLine(t *testing.T) {
	hostile := "no\r\nlevel=info \x1b[31m\x00\u2028\u202e" + strings.Repeat("é", 10<<10)
	answer, err := json.Marshal(map[string]any{"code": 1, "msg": hostile, "reason": hostile})
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
	_, err = g.client.Create(t.Context(), documented)
	e := failure(t, err, gateway.Refused, "/bill/create")
	for _, s := range []string{e.Msg, e.Reason} {
		if !strings.HasPrefix(s, "no") || strings.ContainsAny(s, "\r\n\x1b\x00\u2028\u202e") || len(s) > 500 {
			t.Errorf("%d bytes: %q", len(s), s)
		}
	}
}

func TestWhatIsNoAnswerOfTheGatewayIsToldAsUnreachable(t *testing.T) {
	example := testdata(t, "v1-bill-create-response.json")
	hijack := func(w http.ResponseWriter, bytes string) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(connection, bytes)
		_ = connection.Close()
	}
	for name, answer := range map[string]http.HandlerFunc{
		"HTTP 500, signed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Timestamp", timestamp)
			w.Header().Set("Sign", sign(timestamp, example))
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(example)
		},
		"HTTP 429 with the words of a refusal": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"code":1,"msg":"slow down"}`)
		},
		"HTTP 204":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"HTML":              func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!doctype html><title>Welcome</title>") },
		"an empty answer":   func(http.ResponseWriter, *http.Request) {},
		"half a JSON":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"code":`) },
		"a number":          func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `10000`) },
		"code twice":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"code":1,"Code":10000}`) },
		"a code beyond int": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"code":1e400}`) },
		"two megabytes": func(w http.ResponseWriter, _ *http.Request) {
			signed(w, []byte(`{"code":10000,"data":"`+strings.Repeat("a", 2<<20)+`"}`))
		},
		"two megabytes, compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(bytes.Repeat([]byte(" "), 2<<20))
			_ = z.Close()
		},
		"dropped before the answer": func(w http.ResponseWriter, _ *http.Request) { hijack(w, "") },
		"dropped within the header": func(w http.ResponseWriter, _ *http.Request) { hijack(w, "HTTP/1.1 200 OK\r\nContent-") },
		"dropped within the answer": func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"code\":10000,")
		},
		"dropped within a chunk": func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")
		},
		"something else than HTTP": func(w http.ResponseWriter, _ *http.Request) { hijack(w, "220 mail.example.com ESMTP\r\n") },
		"headers without an end": func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20))
		},
		"a redirect without a place": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			// The first order leaves a connection behind. The one after it must reach the
			// gateway once and not again, although the client may take the connection to
			// have been closed before.
			var g *fakeGateway
			g = start(t, func(w http.ResponseWriter, r *http.Request) {
				if len(g.received()) == 1 {
					signed(w, example)
					return
				}
				answer(w, r)
			})
			if _, err := g.client.Create(t.Context(), documented); err != nil {
				t.Fatal(err)
			}
			created, err := g.client.Create(t.Context(), documented)
			failure(t, err, gateway.Unreachable, "/bill/create")
			if created != (gateway.Created{}) {
				t.Errorf("got %+v", created)
			}
			if n := len(g.received()); n != 2 {
				t.Errorf("%d requests for two orders", n)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("followed to %s with signature %q", r.URL, r.Header.Get("Sign"))
	}))
	defer target.Close()
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		g := start(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target.URL+r.URL.Path, status)
		})
		_, err := g.client.Create(t.Context(), documented)
		failure(t, err, gateway.Unreachable, "/bill/create")
	}
}

func TestAGatewayThatHangsEndsInATimeout(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"before the answer": func(http.ResponseWriter) {},
		"within the answer": func(w http.ResponseWriter) {
			fmt.Fprint(w, `{"code":`)
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := startWith(t, 100*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
				begin(w)
				<-r.Context().Done() // until the client gives up
			})
			started := time.Now()
			_, err := g.client.Create(t.Context(), documented)
			e := failure(t, err, gateway.Unreachable, "/bill/create")
			var timeout net.Error
			if !errors.As(e, &timeout) || !timeout.Timeout() {
				t.Errorf("not a timeout: %v", err)
			}
			if took := time.Since(started); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if n := len(g.received()); n != 1 {
				t.Errorf("%d requests for one order", n)
			}
		})
	}
}

func TestACallersOwnCancellationCanBeTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := start(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := g.client.Create(ctx, documented)
	if failure(t, err, gateway.Unreachable, "/bill/create"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNobodyListeningIsToldAsUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	client := gateway.NewV1(gateway.Config{
		Signer: plainSigner{}, AppID: appID, Endpoint: "http://" + listener.Addr().String(), Timeout: 10 * time.Second, Transport: gateway.NewTransport(),
	})
	_, err = client.Create(t.Context(), documented)
	failure(t, err, gateway.Unreachable, "/bill/create")
}

// TestCompressionIsNoPartOfTheSignature has the gateway, or what stands before it,
// compress an answer for a client that says it can read that.
func TestCompressionIsNoPartOfTheSignature(t *testing.T) {
	example := testdata(t, "v1-bill-create-response.json")
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed)
	_, _ = z.Write(example)
	_ = z.Close()

	for name, tc := range map[string]struct {
		over []byte
		good bool
	}{
		"signature over the JSON":             {example, true},
		"signature over the compressed bytes": {compressed.Bytes(), false},
	} {
		g := start(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Timestamp", timestamp)
			w.Header().Set("Sign", sign(timestamp, tc.over))
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				_, _ = w.Write(example)
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(compressed.Bytes())
		})
		_, err := g.client.Create(t.Context(), documented)
		if tc.good && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !tc.good {
			failure(t, err, gateway.BadSignature, "/bill/create")
		}
	}
}

func TestConnectionsAreReused(t *testing.T) {
	answers := map[string]string{"/bill/create": string(testdata(t, "v1-bill-create-response.json"))}
	g := start(t, byPath(answers))
	for range 5 {
		if _, err := g.client.Create(t.Context(), documented); err != nil {
			t.Fatal(err)
		}
		if _, err := g.client.Lookup(t.Context(), []string{"1"}); err == nil { // refused
			t.Fatal("not refused")
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.requests) != 10 || g.connections != 1 {
		t.Errorf("%d requests on %d connections", len(g.requests), g.connections)
	}
}

func TestCreateHostedReturnsTheGatewaysPage(t *testing.T) {
	g := start(t, byPath(map[string]string{"/concise/url/get": string(testdata(t, "v1-concise-url-get-response.json"))}))
	o := documented
	o.ReturnURL = "https://shop.example.com/thanks/"
	page, err := g.client.CreateHosted(t.Context(), o)
	if err != nil || page != "https://ccpayment.com/pay?key=202301140359451614109992410173440" {
		t.Errorf("got %q, %v", page, err)
	}
	g.expectRequests(`/concise/url/get {"product_price":"0.50","merchant_order_id":"3735077979050379","product_name":"Field guide","order_valid_period":823456,"return_url":"https://shop.example.com/thanks/"}`)
}

func TestCreateHostedTakesOnlyTheAddressOfAPage(t *testing.T) {
	for _, page := range []string{`""`, `null`, `"javascript:alert(1)"`, `"//ccpayment.com/pay"`, `"/pay"`, `["https://ccpayment.com"]`} {
		g := start(t, answering(`{"code":10000,"msg":"success","data":{"payment_url":`+page+`}}`))
		got, err := g.client.CreateHosted(t.Context(), documented)
		failure(t, err, gateway.Unreachable, "/concise/url/get")
		if got != "" {
			t.Errorf("%s: got %q", page, got)
		}
	}
}

// TestCreateHostedRefusesPricesThatAreNotInUSD: the gateway's page takes every price
// for one in USD.
func TestCreateHostedRefusesPricesThatAreNotInUSD(t *testing.T) {
	g := start(t, byPath(map[string]string{"/concise/url/get": string(testdata(t, "v1-concise-url-get-response.json"))}))
	o := documented
	o.Currency = "JPY"
	if page, err := g.client.CreateHosted(t.Context(), o); err == nil {
		t.Errorf("0.50 JPY are asked for as 0.50 USD at %s", page)
	}
}

// Answers about the documented order for Due.
const (
	infoAsked = `/bill/info {"merchant_order_ids":["3735077979050379"]}`
	rateAsked = `/token/rate {"amount":"0.50","token_id":"0912e09a-d8e2-41d7-a0bc-a25530892988"}`
	coinAsked = `/coin/all {}`

	rateAnswer = `{"code":10000,"msg":"success","data":{"price":"0.9997","value":"0.500150045013504051"}}`
	coinAnswer = `{"code":10000,"msg":"success","data":{"list":[
		{"coin_id":"8e5741cf-6e51-4892-9d04-3d40e1dd0128","symbol":"USDT","crypto":"USDT","name":"Tether USD","logo":"https://resource.cwallet.com/token/icon/usdt.png",
		 "min":"0.01","price":"1","precision":6,"status":1,"tokens":[
			{"token_id":"0912e09a-d8e2-41d7-a0bc-a25530892988","crypto":"USDT","logo":"https://resource.cwallet.com/token/icon/usdt.png","name":"Tether USD","is_support_memo":false,
			 "network":"TRC20","chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","chain_logo":"","status":1,"precision":6,"network_coin_id":"217d4c3b","network_fee_crypto":"TRX"},
			{"token_id":"usdt-bsc","logo":"","name":"Tether USD","is_support_memo":false,"network":"BEP20","chain":"BSC","contract":"0x55d398326f99059ff775485246999027b3197955","status":2}]},
		{"coin_id":"xrp","symbol":"XRP","crypto":"XRP","name":"XRP","logo":"","min":"1","price":"0.5","precision":6,"status":3,"tokens":[
			{"token_id":"xrp","crypto":"XRP","logo":"x.png","name":"XRP","is_support_memo":true,"network":"XRP","chain":"XRP","contract":"","status":1}]}]}}`
)

// info is an answer of /bill/info about one order.
func info(reference, rest string) string {
	return `{"code":10000,"msg":"success","data":[{"order_detail":{"merchant_order_id":"` + reference + `",` + rest + `}}]}`
}

func TestDueIsWhatTheGatewayWantsForTheOrder(t *testing.T) {
	onTron := bill.Token{Crypto: "USDT", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"}
	const detail = `"order_amount":"0.500150045013504051","crypto":"USDT","chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"`
	fromInfo := gateway.Due{Amount: amount("0.500150045013504051"), Token: onTron}
	fromRate := fromInfo
	fromRate.Token.Network = "TRC20"
	fallback := []string{infoAsked, rateAsked, coinAsked}

	for name, tc := range map[string]struct {
		currency         string
		info, rate, coin string // empty: refused
		want             gateway.Due
		asked            []string // nil: as it likes
	}{
		"the order tells":           {"USD", info(documented.Reference, detail), "", "", fromInfo, []string{infoAsked}},
		"the order tells, in EUR":   {"EUR", info(documented.Reference, detail), "", "", fromInfo, []string{infoAsked}},
		"the order is refused":      {"USD", "", rateAnswer, coinAnswer, fromRate, fallback},
		"the order is not listed":   {"USD", `{"code":10000,"data":[]}`, rateAnswer, coinAnswer, fromRate, fallback},
		"another order is listed":   {"USD", info("another", detail), rateAnswer, coinAnswer, fromRate, fallback},
		"the order has no amount":   {"USD", info(documented.Reference, `"crypto":"USDT","chain":"TRX"`), rateAnswer, coinAnswer, fromRate, fallback},
		"the order has an empty":    {"USD", info(documented.Reference, `"order_amount":"","crypto":"USDT","chain":"TRX"`), rateAnswer, coinAnswer, fromRate, fallback},
		"the order's amount is 0":   {"USD", info(documented.Reference, `"order_amount":"0","crypto":"USDT","chain":"TRX"`), rateAnswer, coinAnswer, fromRate, fallback},
		"the order has no chain":    {"USD", info(documented.Reference, `"order_amount":"1","crypto":"USDT"`), rateAnswer, coinAnswer, fromRate, fallback},
		"nobody tells in EUR":       {"EUR", "", rateAnswer, coinAnswer, gateway.Due{}, []string{infoAsked}},
		"another order in EUR":      {"EUR", info("another", detail), rateAnswer, coinAnswer, gateway.Due{}, []string{infoAsked}},
		"the rate is refused":       {"USD", "", "", coinAnswer, gateway.Due{}, nil},
		"the rate is zero":          {"USD", "", `{"code":10000,"data":{"price":"1","value":"0"}}`, coinAnswer, gateway.Due{}, nil},
		"the rate is no amount":     {"USD", "", `{"code":10000,"data":{"price":"1","value":"5e-1"}}`, coinAnswer, gateway.Due{}, nil},
		"the list of coins refused": {"USD", "", rateAnswer, "", gateway.Due{}, fallback},
		"the coin is not listed":    {"USD", "", rateAnswer, `{"code":10000,"data":{"list":[]}}`, gateway.Due{}, fallback},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{}
			for path, answer := range map[string]string{"/bill/info": tc.info, "/token/rate": tc.rate, "/coin/all": tc.coin} {
				if answer != "" {
					answers[path] = answer
				}
			}
			g := start(t, byPath(answers))
			o := documented
			o.Currency = tc.currency
			got, err := g.client.Due(t.Context(), o)
			if !same(got, tc.want) {
				t.Errorf("got %+v, %v", got, err)
			}
			var e *gateway.Error
			if known := tc.want.Amount.IsPositive(); known != (err == nil) || !known && !errors.As(err, &e) {
				t.Errorf("error is %v", err)
			}
			if tc.asked != nil {
				g.expectRequests(tc.asked...)
			}
		})
	}
}

// TestDueNamesACoinThatPaymentsCanBeComparedWith: no payment could ever count towards
// a bill whose coin or chain is not known.
func TestDueNamesACoinThatPaymentsCanBeComparedWith(t *testing.T) {
	chainless := strings.Replace(coinAnswer, `"chain":"TRX"`, `"chain":""`, 1)
	for name, answers := range map[string]map[string]string{
		"the order names no coin":          {"/bill/info": info(documented.Reference, `"order_amount":"1","chain":"TRX"`)},
		"the list of coins names no chain": {"/token/rate": rateAnswer, "/coin/all": chainless},
	} {
		g := start(t, byPath(answers))
		if due, err := g.client.Due(t.Context(), documented); err == nil {
			t.Errorf("%s: got %+v", name, due)
		}
	}
}

func TestLookupReadsTheDocumentedAnswers(t *testing.T) {
	ftm := bill.Token{Crypto: "FTM", Chain: "FTM", Contract: "250"}
	usdt := bill.Token{Crypto: "USDT", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"}
	for name, want := range map[string]gateway.Info{
		"v1-bill-info-deposit-response.json": {
			Reference: "1684723374629",
			Due:       gateway.Due{Amount: amount("0.279173646007816863"), Token: ftm},
			Payments: []gateway.Seen{{
				Status: bill.Success, Amount: amount("0.279173646007816863"), Token: ftm,
				TxID:       "0x5caafde27a8040547a169168c55f35806eb0ca68344b2d53894097b0e9d5fa89",
				ServiceFee: "0.000083752093802346",
				PaidAt:     time.Date(2023, 5, 22, 3, 54, 37, 0, time.UTC),
			}},
		},
		"v1-bill-info-withdrawal-response.json": {
			Reference: "1698735528116569",
			Due:       gateway.Due{Amount: amount("1"), Token: usdt},
			Payments: []gateway.Seen{{
				Status: bill.Success, Amount: amount("1"), Token: usdt, ServiceFee: "0",
				PaidAt: time.Date(2023, 10, 31, 6, 58, 50, 0, time.UTC),
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, byPath(map[string]string{"/bill/info": string(testdata(t, name))}))
			got, err := g.client.Lookup(t.Context(), []string{want.Reference, "not known"})
			if err != nil || !same(got, map[string]gateway.Info{want.Reference: want}) {
				t.Errorf("got %+v, %v", got, err)
			}
			g.expectRequests(`/bill/info {"merchant_order_ids":["` + want.Reference + `","not known"]}`)
		})
	}
}

func TestLookupReadsWhatIsListedAndLeavesOutTheRest(t *testing.T) {
	usdt := bill.Token{Crypto: "USDT", Chain: "TRX"}
	trade := func(fields string) string {
		return `{"code":10000,"data":[{"order_detail":{"merchant_order_id":"o1"},"trade_list":[{"crypto":"USDT","chain":"TRX",` + fields + `}]}]}`
	}
	seen := func(status bill.PaymentStatus, sum string, at int64) []gateway.Seen {
		s := gateway.Seen{Status: status, Amount: amount(sum), Token: usdt}
		if at > 0 {
			s.PaidAt = time.Unix(at, 0).UTC()
		}
		return []gateway.Seen{s}
	}
	for name, tc := range map[string]struct {
		answer string
		want   []gateway.Seen
	}{
		"no payments":             {`{"code":10000,"data":[{"order_detail":{"merchant_order_id":"o1"}}]}`, nil},
		"payments null":           {`{"code":10000,"data":[{"order_detail":{"merchant_order_id":"o1"},"trade_list":null}]}`, nil},
		"no status":               {trade(`"amount":"1"`), seen(bill.Success, "1", 0)},
		"successful":              {trade(`"amount":"1","status":"Successful"`), seen(bill.Success, "1", 0)},
		"processing":              {trade(`"amount":"1","status":"Processing"`), seen(bill.Processing, "1", 0)},
		"failed":                  {trade(`"amount":"1","status":"Failed"`), seen(bill.Failed, "1", 0)},
		"pending":                 {trade(`"amount":"1","status":"Pending"`), seen(bill.Pending, "1", 0)},
		"a status not documented": {trade(`"amount":"1","status":"Frozen"`), seen(bill.Pending, "1", 0)},
		"amount as a number":      {trade(`"amount":0.279173646007816863`), seen(bill.Success, "0.279173646007816863", 0)},
		"time as a string":        {trade(`"amount":"1","pay_time":"1684727677"`), seen(bill.Success, "1", 1684727677)},
		"time null":               {trade(`"amount":"1","pay_time":null`), seen(bill.Success, "1", 0)},
		"time zero":               {trade(`"amount":"1","pay_time":0`), seen(bill.Success, "1", 0)},
		"time in milliseconds":    {trade(`"amount":"1","pay_time":1684727677000`), seen(bill.Success, "1", 0)},
		"time as a date":          {trade(`"amount":"1","pay_time":"2023-05-22"`), seen(bill.Success, "1", 0)},
		"amount that is none":     {trade(`"amount":"-1"`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, answering(tc.answer))
			got, err := g.client.Lookup(t.Context(), []string{"o1"})
			if err != nil || !same(got["o1"].Payments, tc.want) || got["o1"].Reference != "o1" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestLookupKnowsNoOrderThatWasNotAskedAboutOrIsNotListed(t *testing.T) {
	for name, answer := range map[string]string{
		"an empty list":      `{"code":10000,"data":[]}`,
		"null":               `{"code":10000,"data":null}`,
		"no data":            `{"code":10000}`,
		"another order":      info("o2", `"order_amount":"1"`),
		"an order of no one": info("", `"order_amount":"1"`),
	} {
		g := start(t, answering(answer))
		if got, err := g.client.Lookup(t.Context(), []string{"o1"}); err != nil || len(got) != 0 {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	g := start(t, byPath(nil))
	_, err := g.client.Lookup(t.Context(), []string{"o1"})
	failure(t, err, gateway.Refused, "/bill/info")
}

// TestAnOrderForWhichAllAreRefusedIsLeftOut: what the gateway does with one it does not
// know is not documented.
func TestAnOrderForWhichAllAreRefusedIsLeftOut(t *testing.T) {
	refuses := func(refused string) *fakeGateway {
		var g *fakeGateway
		g = start(t, func(w http.ResponseWriter, _ *http.Request) {
			g.mu.Lock()
			asked := g.requests[len(g.requests)-1]
			g.mu.Unlock()
			for _, reference := range []string{"o1", "o2"} {
				if asked.body == `{"merchant_order_ids":["`+reference+`"]}` {
					signed(w, []byte(info(reference, `"order_amount":"1","crypto":"USDT","chain":"TRX"`)))
					return
				}
			}
			fmt.Fprint(w, refused)
		})
		return g
	}
	g := refuses(`{"code":10001,"msg":"no such order"}`)
	got, err := g.client.Lookup(t.Context(), []string{"o1", "poison", "o2"})
	if err != nil || len(got) != 3 || got["o1"].Due.Amount.String() != "1" || got["o2"].Err != nil || got["poison"].Err == nil || errors.Is(got["poison"].Err, gateway.ErrUnlisted) {
		t.Errorf("got %+v, %v", got, err)
	}
	// Three in a row are no order's fault, whatever the code says, which is not documented.
	g = refuses(`{"code":224066,"msg":"Service error, please try again"}`)
	hundred := make([]string, 100)
	for i := range hundred {
		hundred[i] = fmt.Sprint("poison", i)
	}
	if got, err := g.client.Lookup(t.Context(), hundred); err == nil || len(got) != 3 || len(g.requests) != 4 {
		t.Errorf("got %+v, %v after %d requests", got, err, len(g.requests))
	}
	// An answer that cannot be read for one of them is one about that one.
	g = start(t, func(w http.ResponseWriter, _ *http.Request) {
		g.mu.Lock()
		asked := g.requests[len(g.requests)-1].body
		g.mu.Unlock()
		twice := ""
		if strings.Contains(asked, "poison") {
			twice = `"order_amount":"2",`
		}
		signed(w, []byte(info("o1", twice+`"order_amount":"1","crypto":"USDT","chain":"TRX"`)))
	})
	if got, err := g.client.Lookup(t.Context(), []string{"poison", "o1"}); err != nil || got["o1"].Due.Amount.String() != "1" || got["poison"].Err == nil {
		t.Errorf("got %+v, %v", got, err)
	}
	// What is about the account or the rate is no order's fault.
	for _, refused := range []string{`{"code":225213,"msg":"only call api of version 2"}`, `{"code":11004,"msg":"RateLimit"}`} {
		g := refuses(refused)
		if got, err := g.client.Lookup(t.Context(), []string{"o1", "o2"}); err == nil || len(got) != 0 || len(g.requests) != 1 {
			t.Errorf("%s: got %+v, %v after %d requests", refused, got, err, len(g.requests))
		}
	}
}

func TestTokensAreListedByTheIDThatOrdersUse(t *testing.T) {
	g := start(t, byPath(map[string]string{"/coin/all": coinAnswer}))
	got, err := g.client.Tokens(t.Context())
	want := map[string]gateway.Listed{
		"0912e09a-d8e2-41d7-a0bc-a25530892988": {
			Token:  bill.Token{Crypto: "USDT", Network: "TRC20", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"},
			Logo:   "https://resource.cwallet.com/token/icon/usdt.png",
			Usable: true,
		},
		"usdt-bsc": { // in maintenance, and named by its coin only
			Token: bill.Token{Crypto: "USDT", Network: "BEP20", Chain: "BSC", Contract: "0x55d398326f99059ff775485246999027b3197955"},
		},
		"xrp": { // its coin is to be delisted
			Token: bill.Token{Crypto: "XRP", Network: "XRP", Chain: "XRP"}, Logo: "x.png",
		},
	}
	if err != nil || !same(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	g.expectRequests(coinAsked)
}

func TestTheListOfCoinsMayBeLong(t *testing.T) {
	long := strings.Replace(coinAnswer, `"name":"Tether USD"`, `"name":"`+strings.Repeat("a", 2<<20)+`"`, 1)
	g := start(t, byPath(map[string]string{"/coin/all": long}))
	if got, err := g.client.Tokens(t.Context()); err != nil || len(got) != 3 {
		t.Errorf("%d tokens, %v", len(got), err)
	}
}
