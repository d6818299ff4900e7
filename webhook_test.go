package ccpayment

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// raw posts a callback with exactly these headers.
func (s *shop) raw(body, timestamp, sign string, more ...string) (*http.Response, string) {
	s.t.Helper()
	return s.do(http.MethodPost, "/hooks/ccpayment", body, append([]string{
		"Content-Type", "application/json", "Appid", testAppID, "Timestamp", timestamp, "Sign", sign,
	}, more...)...)
}

func TestRefusedCallbacks(t *testing.T) {
	s := openShop(t, "", "max_body 4KiB", "")
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	good := deposit("r", "1", "success", "1")
	long := strings.Replace(good, `"fiat_rate":"1"`, `"fiat_rate":"`+strings.Repeat("1", 5000)+`"`, 1)
	headers := func(body string, change ...string) []string {
		h := map[string]string{"Content-Type": "application/json", "Appid": testAppID, "Timestamp": stamp, "Sign": signV1(stamp, body)}
		for i := 0; i < len(change); i += 2 {
			h[change[i]] = change[i+1]
		}
		var list []string
		for name, value := range h {
			if value != "" {
				list = append(list, name, value)
			}
		}
		return list
	}
	for _, test := range []struct {
		name, method, body string
		headers            []string
		status             int
	}{
		{"GET", "GET", "", nil, 405},
		{"PUT", "PUT", good, headers(good), 405},
		{"form", "POST", good, headers(good, "Content-Type", "application/x-www-form-urlencoded"), 415},
		{"no type", "POST", good, headers(good, "Content-Type", ""), 415},
		{"other charset", "POST", good, headers(good, "Content-Type", "application/json; charset=utf-16"), 415},
		{"encoded", "POST", good, headers(good, "Content-Encoding", "gzip"), 415},
		{"encoded as nothing", "POST", good, headers(good, "Content-Encoding", "identity"), 415},
		{"too large", "POST", long, headers(long), 413},
		{"no signature", "POST", good, headers(good, "Sign", ""), 401},
		{"no timestamp", "POST", good, headers(good, "Timestamp", ""), 401},
		{"no app id", "POST", good, headers(good, "Appid", ""), 401},
		{"other app id", "POST", good, headers(good, "Appid", "202302010636261620672405236006913"), 401},
		{"signature of another body", "POST", good, headers(good + " "), 401},
		{"signature cut short", "POST", good, headers(good, "Sign", signV1(stamp, good)[:63]), 401},
		{"signature of API v2", "POST", good, headers(good, "Sign", "cd908e4ca0add82863e8b479f7c391df9bf78502d6b2a22d723a6ca8013072f4"), 401},
		{"signature in two headers", "POST", good, append(headers(good), "Sign", signV1(stamp, good)), 401},
		{"timestamp of 13 digits", "POST", good, headers(good, "Timestamp", stamp+"000", "Sign", signV1(stamp+"000", good)), 401},
		{"empty body", "POST", "", headers(""), 400},
		{"empty object", "POST", "{}", headers("{}"), 400},
		{"array", "POST", "[" + good + "]", headers("[" + good + "]"), 400},
		{"two objects", "POST", good + good, headers(good + good), 400},
		{"field twice", "POST", strings.Replace(good, `{`, `{"pay_status":"failed",`, 1), headers(strings.Replace(good, `{`, `{"pay_status":"failed",`, 1)), 400},
		{"field twice in other letters", "POST", strings.Replace(good, `{`, `{"PAY_STATUS":"failed",`, 1), headers(strings.Replace(good, `{`, `{"PAY_STATUS":"failed",`, 1)), 400},
		{"field twice with a long s", "POST", strings.Replace(good, `{`, `{"pay_ſtatus":"failed",`, 1), headers(strings.Replace(good, `{`, `{"pay_ſtatus":"failed",`, 1)), 400},
		{"an answer of the API", "POST", strings.Replace(good, `{`, `{"code":10000,`, 1), headers(strings.Replace(good, `{`, `{"code":10000,`, 1)), 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := s.do(test.method, "/hooks/ccpayment", test.body, test.headers...)
			if resp.StatusCode != test.status || body != "" {
				t.Errorf("got %d %q, want %d and nothing", resp.StatusCode, body, test.status)
			}
		})
	}
	if n := s.rows("SELECT count(*) FROM callbacks"); n != 0 {
		t.Errorf("%d refused callbacks are in the store", n)
	}
}

func TestVectors(t *testing.T) {
	s := openShop(t, "", "", "")
	var positive struct {
		Timestamp string
		Vectors   []struct {
			Name, Body string
			Sign       string `json:"v1_sign_sha256"`
		}
	}
	readVectors(t, "signature-derived-vectors.json", &positive)
	for _, v := range positive.Vectors {
		want := http.StatusBadRequest // rightly signed, but no callback
		if strings.Contains(v.Name, "webhook") {
			want = http.StatusOK
		}
		if resp, body := s.raw(v.Body, positive.Timestamp, v.Sign); resp.StatusCode != want {
			t.Errorf("%s: %d %q, want %d", v.Name, resp.StatusCode, body, want)
		}
	}

	var negative struct {
		Timestamp       string
		LengthExtension struct {
			Vectors []struct {
				Name, Sign string
				Body       string `json:"extended_body_hex"`
			}
		} `json:"length_extension"`
		Ambiguity struct {
			Vectors []struct {
				Name   string
				Sign   string `json:"v1_sign_sha256"`
				Splits []struct{ Timestamp, Body, Expect string }
			}
		}
	}
	readVectors(t, "v1-signature-length-extension.json", &negative)
	if len(negative.LengthExtension.Vectors) == 0 || len(negative.Ambiguity.Vectors) == 0 {
		t.Fatal("the vectors are missing")
	}
	for _, v := range negative.LengthExtension.Vectors {
		body, err := hex.DecodeString(v.Body)
		if err != nil {
			t.Fatal(err)
		}
		if signV1(negative.Timestamp, string(body)) != v.Sign {
			t.Errorf("%s: the vector is not what it says", v.Name)
		}
		if resp, answer := s.raw(string(body), negative.Timestamp, v.Sign); resp.StatusCode != http.StatusBadRequest || answer != "" {
			t.Errorf("%s: %d %q", v.Name, resp.StatusCode, answer)
		}
	}
	for _, v := range negative.Ambiguity.Vectors {
		for _, split := range v.Splits {
			resp, _ := s.raw(split.Body, split.Timestamp, v.Sign)
			if accepted := resp.StatusCode == 200; accepted != (split.Expect == "accept") {
				t.Errorf("%s, timestamp of %d digits: status %d, want %s", v.Name, len(split.Timestamp), resp.StatusCode, split.Expect)
			}
		}
	}
	if n := s.rows("SELECT count(*) FROM callbacks"); n != 1 {
		t.Errorf("%d callbacks are in the store, want the genuine one", n)
	}
	// Its signature is years old, so it waits for the gateway's confirmation.
	if n := s.rows("SELECT count(*) FROM callbacks WHERE state = 'received'"); n != 0 {
		t.Error("a stale callback was believed at once")
	}
}

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func TestEveryExampleIsTreatedAsWhatItIs(t *testing.T) {
	s := openShop(t, "", "", "")
	files, err := filepath.Glob("testdata/examples/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d examples (%v)", len(files), err)
	}
	callbacks := 0
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		want := http.StatusBadRequest
		if strings.HasPrefix(name, "v1-webhook-") {
			want, callbacks = http.StatusOK, callbacks+1
		}
		if resp, _ := s.callback(strings.TrimSpace(string(body))); resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, want)
		}
	}
	s.eventually("all resolved", func() bool {
		return s.rows("SELECT count(*) FROM callbacks WHERE state = 'resolved'") == callbacks
	})
	for _, want := range []string{"bill.underpaid", "deposit.success", "invoice.success", "withdrawal.success", "refund.success"} {
		if n := s.rows("SELECT count(*) FROM events WHERE type = ?", want); n != 1 {
			t.Errorf("%d events %s", n, want)
		}
	}
}

func TestUnknownTypesAreKeptAndTold(t *testing.T) {
	s := openShop(t, "", "", "")
	body := `{"pay_status":"success","order_type":"Staking","record_id":"9","extend":"?"}`
	for range 2 {
		if resp, answer := s.callback(body); resp.StatusCode != 200 || answer != "success" {
			t.Fatalf("got %d %q", resp.StatusCode, answer)
		}
	}
	s.eventually("told", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = 'unknown.received'") == 1 })
}

func TestTheSameCallbackAHundredTimesIsOneEvent(t *testing.T) {
	s := openShop(t, "", "", "")
	_, bill := s.buy(cart)
	body := deposit(bill["reference"].(string), "r1", "success", "50.0137")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if resp, answer := s.callback(body); resp.StatusCode != 200 || answer != "success" {
				t.Errorf("got %d %q", resp.StatusCode, answer)
			}
		})
	}
	wg.Wait()
	s.eventually("paid", func() bool { return s.status(bill["self"].(string)) == "paid" })
	if callbacks, events := s.rows("SELECT count(*) FROM callbacks"), s.rows("SELECT count(*) FROM events"); callbacks != 1 || events != 1 {
		t.Errorf("%d callbacks, %d events", callbacks, events)
	}
}

func TestWithoutAStoreNothingIsAnsweredWithSuccess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccpayment.db")
	other, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s := openShop(t, "", "", "")
	s.path = path
	s.reload("", "", "") // now the store is another's
	if resp, body := s.callback(deposit("r", "1", "success", "1")); resp.StatusCode != http.StatusServiceUnavailable || body != "" {
		t.Errorf("callback: %d %q", resp.StatusCode, body)
	}
	if resp, problem := s.buy(cart); resp.StatusCode != http.StatusServiceUnavailable || problem["code"] != "store_unavailable" || problem["retryable"] != true {
		t.Errorf("order: %d %v", resp.StatusCode, problem)
	}
	if n := s.gateway.total(); n != 0 {
		t.Errorf("the gateway was asked %d times for a bill that cannot be stored", n)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	s.eventually("the store is taken over", func() bool {
		resp, body := s.callback(deposit("r", "1", "success", "1"))
		return resp.StatusCode == 200 && body == "success"
	})
}

func TestStaleCallbackCountsOnceTheGatewayConfirmsIt(t *testing.T) {
	s := openShop(t, "", "", "")
	_, bill := s.buy(cart)
	reference, self := bill["reference"].(string), bill["self"].(string)
	s.gateway.setFault("/bill/info", func(w http.ResponseWriter) {
		signed(w, fmt.Sprintf(`{"code":10000,"msg":"success","data":[{"order_detail":{"merchant_order_id":%q,"chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","order_amount":"50.0137"},
			"trade_list":[{"amount":"50.0137","chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","txid":"tx-real","pay_time":1684727677}]}]}`, reference))
	})
	stale := strconv.FormatInt(time.Now().Add(-31*time.Minute).Unix(), 10)
	ahead := strconv.FormatInt(time.Now().Add(5*time.Minute).Unix(), 10)
	forged := deposit(reference, "forged", "success", "49")
	if resp, _ := s.raw(forged, ahead, signV1(ahead, forged)); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
	listed := deposit(reference, "real", "success", "50.0137")
	if resp, body := s.raw(listed, stale, signV1(stale, listed)); resp.StatusCode != 200 || body != "success" {
		t.Fatalf("got %d %q", resp.StatusCode, body)
	}
	s.eventually("confirmed", func() bool { return s.status(self) == "paid" })
	if n := s.rows("SELECT count(*) FROM payments"); n != 1 {
		t.Errorf("%d payments count, one of them is not the gateway's", n)
	}
	if n := s.rows("SELECT count(*) FROM callbacks WHERE state = 'quarantined'"); n != 1 {
		t.Errorf("%d callbacks are in quarantine", n)
	}
}

func TestADoubtedDepositIsBelievedOnceItComesFresh(t *testing.T) {
	s := openShop(t, "", "", "")
	body := `{"pay_status":"success","order_type":"Direct Deposit","record_id":"d1","paid_amount":"5","crypto":"USDT","chain":"TRX","user_id":"u"}`
	stale := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	if resp, _ := s.raw(body, stale, signV1(stale, body)); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	s.eventually("told without being believed", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = 'unknown.received'") == 1 })
	s.callback(body)
	s.eventually("believed", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = 'deposit.success'") == 1 })
}

func TestAllowIP(t *testing.T) {
	s := openShop(t, "", "allow_ip 192.0.2.0/24 2001:db8::1", "")
	if resp, body := s.callback(deposit("r", "1", "success", "1")); resp.StatusCode != 401 || body != "" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	s.reload("", "allow_ip 127.0.0.0/8 ::1", "")
	if resp, _ := s.callback(deposit("r", "1", "success", "1")); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestOlderSecretStillVerifies(t *testing.T) {
	s := openShop(t, "", "", "")
	config := strings.Replace(s.config("", "", ""), "app_secret "+testSecret, "app_secret ffeeddccbbaa99887766554433221100 "+testSecret, 1)
	s.tester.InitServer(config, "caddyfile")
	if resp, _ := s.callback(deposit("r", "1", "success", "1")); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestEventsReachTheUpstreamsThatWantThem(t *testing.T) {
	var (
		mu  sync.Mutex
		got = make(map[string][]string)
	)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Type string }
		_ = json.NewDecoder(r.Body).Decode(&e)
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path] = append(got[r.URL.Path], e.Type)
	}))
	defer receiver.Close()
	s := openShop(t, "", "upstream "+receiver.URL+"/all\nupstream "+receiver.URL+"/bills {\ntypes bill.*\n}", "")
	_, bill := s.buy(cart)
	reference := bill["reference"].(string)
	for _, status := range []string{"pending", "processing", "success"} {
		s.callback(deposit(reference, "r1", status, "50.0137"))
	}
	s.callback(`{"pay_status":"success","order_type":"Refund","record_id":"f1","amount":"1","crypto":"USDT","chain":"TRX","merchant_order_id":"` + reference + `"}`)
	s.eventually("all delivered", func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE state = 'delivered'") == 7 })
	mu.Lock()
	defer mu.Unlock()
	if want := "bill.confirming bill.confirming bill.paid refund.success"; strings.Join(got["/all"], " ") != want {
		t.Errorf("all: %v", got["/all"])
	}
	if want := "bill.confirming bill.confirming bill.paid"; strings.Join(got["/bills"], " ") != want {
		t.Errorf("bills: %v", got["/bills"])
	}
}

func TestACallbackThatBreaksOffIsNotStored(t *testing.T) {
	s := openShop(t, "", "", "")
	body := deposit("r", "1", "success", "1")
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	conn, err := net.Dial("tcp", "localhost:9080")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /hooks/ccpayment HTTP/1.1\r\nHost: localhost:9080\r\nContent-Type: application/json\r\nAppid: %s\r\nTimestamp: %s\r\nSign: %s\r\nContent-Length: %d\r\n\r\n%s",
		testAppID, stamp, signV1(stamp, body), len(body)+1, body)
	conn.Close()
	if resp, _ := s.callback(deposit("r", "2", "success", "1")); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
	if n := s.rows("SELECT count(*) FROM callbacks WHERE record_id = '1'"); n != 0 {
		t.Error("half a callback was stored")
	}
}
