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
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "max_body 4KiB", "")
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		good := s.deposit("r", "1", "success", "1")
		with := func(field string) string { return "{" + field + "," + good[1:] }
		long := with(`"more":"` + strings.Repeat("1", 5000) + `"`)
		headers := func(body string, change ...string) []string {
			h := map[string]string{"Content-Type": "application/json", "Appid": testAppID, "Timestamp": stamp, "Sign": gen.signature(stamp, body)}
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
			{"signature cut short", "POST", good, headers(good, "Sign", gen.signature(stamp, good)[:63]), 401},
			{"signature of the other generation", "POST", good, headers(good, "Sign", gen.other().signature(stamp, good)), 401},
			{"callback of the other generation", "POST", gen.other().deposit("r", "1", "success", "1"), headers(gen.other().deposit("r", "1", "success", "1")), 400},
			{
				"all of the other generation", "POST", gen.other().deposit("r", "1", "success", "1"),
				headers(gen.other().deposit("r", "1", "success", "1"), "Sign", gen.other().signature(stamp, gen.other().deposit("r", "1", "success", "1"))), 401,
			},
			{"signature in two headers", "POST", good, append(headers(good), "Sign", gen.signature(stamp, good)), 401},
			{"timestamp of 13 digits", "POST", good, headers(good, "Timestamp", stamp+"000", "Sign", gen.signature(stamp+"000", good)), 401},
			{"empty body", "POST", "", headers(""), 400},
			{"empty object", "POST", "{}", headers("{}"), 400},
			{"array", "POST", "[" + good + "]", headers("[" + good + "]"), 400},
			{"two objects", "POST", good + good, headers(good + good), 400},
			{"field twice", "POST", with(gen.twice[0]), headers(with(gen.twice[0])), 400},
			{"field twice in other letters", "POST", with(gen.twice[1]), headers(with(gen.twice[1])), 400},
			{"field twice with a long s", "POST", with(gen.twice[2]), headers(with(gen.twice[2])), 400},
			{"an answer of the API", "POST", with(`"code":10000`), headers(with(`"code":10000`)), 400},
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
	})
}

func TestVectors(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		var positive struct {
			Timestamp string
			Vectors   []map[string]string
		}
		readVectors(t, "signature-derived-vectors.json", &positive)
		for _, v := range positive.Vectors {
			want := http.StatusBadRequest // rightly signed, but no callback
			if strings.Contains(v["name"], "webhook") && gen.api == "v1" {
				want = http.StatusOK
			}
			if resp, body := s.raw(v["body"], positive.Timestamp, v[gen.vector]); resp.StatusCode != want {
				t.Errorf("%s: %d %q, want %d", v["name"], resp.StatusCode, body, want)
			}
		}
	})
}

// TestAMovedBoundaryIsSeen: nothing separates the timestamp from the body, so the same
// bytes have the same signature wherever the one ends and the other begins.
func TestAMovedBoundaryIsSeen(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		for unit, digits := range map[string]int{"s": 10, "ms": 13} {
			if unit == "ms" && gen.api == "v1" {
				continue // v1 has seconds only
			}
			s := gen.openShop(t, "", "", "")
			if unit == "ms" {
				s.tester.InitServer(strings.Replace(s.config("", "", ""), "api v2", "api v2\n\t\ttimestamp_unit ms", 1), "caddyfile")
			}
			stamp := strconv.FormatInt(time.Now().UnixMilli(), 10)[:digits]
			body := s.deposit("abc", "r1", "success", "1")
			whole := stamp + body
			for split := range len(stamp) + 5 {
				resp, _ := s.raw(whole[split:], whole[:split], gen.signature(stamp, body))
				if accepted := resp.StatusCode == 200; accepted != (split == digits) {
					t.Errorf("unit %s, %d digits: status %d", unit, split, resp.StatusCode)
				}
			}
			// The digits of the other unit are refused, however they are signed.
			other := strconv.FormatInt(time.Now().UnixMilli(), 10)[:23-digits]
			if resp, _ := s.raw(body, other, gen.signature(other, body)); resp.StatusCode != 401 {
				t.Errorf("unit %s: %d digits got %d", unit, len(other), resp.StatusCode)
			}
			s.eventually("believed, since it is fresh", func() bool {
				return s.rows("SELECT count(*) FROM callbacks WHERE state = 'resolved'") == 1
			})
		}
	})
}

func TestForgedExtensionsAreRefused(t *testing.T) {
	s := openShop(t, "", "", "")
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
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
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
			if strings.HasPrefix(name, gen.api+"-webhook-") && !strings.Contains(name, "-answer-") && !strings.Contains(name, "-response") {
				want = http.StatusOK
				if !strings.Contains(name, "-activate-") {
					callbacks++
				}
			}
			// The gateway of API v2 knows the payments of its examples.
			var in struct {
				Msg struct {
					RecordID, OrderID, CoinSymbol string
					CoinID                        int
				}
			}
			_ = json.Unmarshal(body, &in)
			s.gateway.list(in.Msg.OrderID, pay{
				record: in.Msg.RecordID, status: "success", amount: "1",
				coin: fmt.Sprintf(`"coinId":%d,"coinSymbol":%q,"chain":"POLYGON"`, in.Msg.CoinID, in.Msg.CoinSymbol),
			})
			if resp, _ := s.callback(strings.TrimSpace(string(body))); resp.StatusCode != want {
				t.Errorf("%s: status %d, want %d", name, resp.StatusCode, want)
			}
		}
		s.eventually("all resolved", func() bool {
			return s.rows("SELECT count(*) FROM callbacks WHERE state = 'resolved'") == callbacks
		})
		for eventType, want := range map[string]map[string]int{
			"v1": {"bill.underpaid": 1, "deposit.success": 1, "invoice.success": 1, "withdrawal.success": 1, "refund.success": 1},
			"v2": {"bill.underpaid": 2, "deposit.success": 2, "withdrawal.success": 2},
		}[gen.api] {
			if n := s.rows("SELECT count(*) FROM events WHERE type = ?", eventType); n != want {
				t.Errorf("%d events %s, want %d", n, eventType, want)
			}
		}
	})
}

func TestUnknownTypesAreKeptAndTold(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		body := gen.unknown
		for range 2 {
			if resp, answer := s.callback(body); resp.StatusCode != 200 || answer != "success" {
				t.Fatalf("got %d %q", resp.StatusCode, answer)
			}
		}
		s.eventually("told", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = 'unknown.received'") == 1 })
	})
}

func TestTheSameCallbackAHundredTimesIsOneEvent(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		_, bill := s.buy(cart)
		body := s.deposit(bill["reference"].(string), "r1", "success", "50.0137")
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
	})
}

func TestWithoutAStoreNothingIsAnsweredWithSuccess(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		path := filepath.Join(t.TempDir(), "ccpayment.db")
		other, err := store.OpenSQLite(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		s := gen.openShop(t, "", "", "")
		s.path = path
		s.reload("", "", "") // now the store is another's
		if resp, body := s.callback(s.deposit("r", "1", "success", "1")); resp.StatusCode != http.StatusServiceUnavailable || body != "" {
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
			resp, body := s.callback(s.deposit("r", "1", "success", "1"))
			return resp.StatusCode == 200 && body == "success"
		})
	})
}

func TestStaleCallbackCountsOnceTheGatewayConfirmsIt(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		_, bill := s.buy(cart)
		reference, self := bill["reference"].(string), bill["self"].(string)
		stale := strconv.FormatInt(time.Now().Add(-31*time.Minute).Unix(), 10)
		ahead := strconv.FormatInt(time.Now().Add(5*time.Minute).Unix(), 10)
		forged := gen.deposit(reference, "forged", "success", "49")
		if resp, _ := s.raw(forged, ahead, gen.signature(ahead, forged)); resp.StatusCode != 200 {
			t.Errorf("got %d", resp.StatusCode)
		}
		listed := s.deposit(reference, "real", "success", "50.0137")
		if resp, body := s.raw(listed, stale, gen.signature(stale, listed)); resp.StatusCode != 200 || body != "success" {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
		s.eventually("confirmed", func() bool { return s.status(self) == "paid" })
		if n := s.rows("SELECT count(*) FROM payments"); n != 1 {
			t.Errorf("%d payments count, one of them is not the gateway's", n)
		}
		if n := s.rows("SELECT count(*) FROM callbacks WHERE state = ?", gen.stale); n != 1 {
			t.Errorf("%d callbacks wait to be confirmed", n)
		}
	})
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
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "allow_ip 192.0.2.0/24 2001:db8::1", "")
		if resp, body := s.callback(s.deposit("r", "1", "success", "1")); resp.StatusCode != 401 || body != "" {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
		s.reload("", "allow_ip 127.0.0.0/8 ::1", "")
		if resp, _ := s.callback(s.deposit("r", "1", "success", "1")); resp.StatusCode != 200 {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

func TestOlderSecretStillVerifies(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		config := strings.Replace(s.config("", "", ""), "app_secret "+testSecret, "app_secret ffeeddccbbaa99887766554433221100 "+testSecret, 1)
		s.tester.InitServer(config, "caddyfile")
		if resp, _ := s.callback(s.deposit("r", "1", "success", "1")); resp.StatusCode != 200 {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

func TestEventsReachTheUpstreamsThatWantThem(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
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
		s := gen.openShop(t, "", "upstream "+receiver.URL+"/all\nupstream "+receiver.URL+"/bills {\ntypes bill.*\n}", "")
		_, bill := s.buy(cart)
		reference := bill["reference"].(string)
		for _, status := range []string{"pending", "processing", "success"} {
			s.callback(s.deposit(reference, "r1", status, "50.0137"))
		}
		s.eventually("paid", func() bool { return s.status(bill["self"].(string)) == "paid" })
		s.callback(gen.withdrawal(reference))
		s.eventually("all delivered", func() bool { return s.rows("SELECT count(*) FROM deliveries WHERE state = 'delivered'") == 7 })
		mu.Lock()
		defer mu.Unlock()
		if want := "bill.confirming bill.confirming bill.paid withdrawal.success"; strings.Join(got["/all"], " ") != want {
			t.Errorf("all: %v", got["/all"])
		}
		if want := "bill.confirming bill.confirming bill.paid"; strings.Join(got["/bills"], " ") != want {
			t.Errorf("bills: %v", got["/bills"])
		}
	})
}

func TestACallbackThatBreaksOffIsNotStored(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		body := s.deposit("r", "1", "success", "1")
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		conn, err := net.Dial("tcp", "localhost:9080")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /hooks/ccpayment HTTP/1.1\r\nHost: localhost:9080\r\nContent-Type: application/json\r\nAppid: %s\r\nTimestamp: %s\r\nSign: %s\r\nContent-Length: %d\r\n\r\n%s",
			testAppID, stamp, gen.signature(stamp, body), len(body)+1, body)
		conn.Close()
		if resp, _ := s.callback(s.deposit("r", "2", "success", "1")); resp.StatusCode != 200 {
			t.Errorf("got %d", resp.StatusCode)
		}
		if n := s.rows("SELECT count(*) FROM callbacks WHERE record_id = '1'"); n != 0 {
			t.Error("half a callback was stored")
		}
	})
}
