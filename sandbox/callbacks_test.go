package sandbox

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func (r received) checkSignature(t *testing.T, good bool) {
	t.Helper()
	timestamp := r.header.Get("Timestamp")
	if ok := r.header.Get("Sign") == signature(timestamp, []byte(r.body)); ok != good {
		t.Errorf("signature is right: %v, want %v", ok, good)
	}
	if want := strconv.FormatInt(r.at.Unix(), 10); timestamp != want {
		t.Errorf("signed as of %s, sent at %s", timestamp, want)
	}
	if r.header.Get("Appid") != testAppID || r.header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("bad headers %v", r.header)
	}
}

func (r received) parsed(t *testing.T) callbackBody {
	t.Helper()
	var b callbackBody
	if err := json.Unmarshal([]byte(r.body), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// simulate runs f in simulated time. That begins in the year 2000, when seconds had
// nine digits, and is moved on to a time the gateway would accept.
func simulate(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Unix(at, 0)))
		f(t)
	})
}

// TestPayment goes the whole way: create, info, pay, callback, info.
func TestPayment(t *testing.T) {
	s, sh := newTestSandbox(t)
	body := strings.Replace(createBody("way"), `"product_price"`, `"custom_value":"a/b<&>é","product_price"`, 1)
	if e := call(t, s, "bill/create", body); e.Code != codeSuccess {
		t.Fatal(e)
	}
	info := func() (order billInfoOrder, trades []billInfoTrade) {
		e := call(t, s, "bill/info", `{"merchant_order_ids":["way"]}`)
		var list []billInfo
		if err := json.Unmarshal(e.Data, &list); err != nil || len(list) != 1 {
			t.Fatal(err, string(e.Data))
		}
		return list[0].OrderDetail, list[0].TradeList
	}
	order, trades := info()
	if order.OrderAmount != "50.015005" || order.Status != "Pending" || len(trades) != 0 {
		t.Fatalf("got %+v, %v", order, trades)
	}

	a := act(t, s, "way", "pay", nil)
	got := sh.received()
	if len(got) != 1 || len(a.Callbacks) != 1 {
		t.Fatalf("%d callbacks, told of %d", len(got), len(a.Callbacks))
	}
	if c := a.Callbacks[0]; !c.Tried || !c.Taken || c.Status != 200 || c.Answer != "success" || c.PayStatus != "success" || c.RecordID != a.Order.Payments[0].RecordID {
		t.Errorf("got %+v", c)
	}
	got[0].checkSignature(t, true)
	sameShape(t, "v1-webhook-api-deposit.json", []byte(got[0].body), "extend.custom_value")
	b := got[0].parsed(t)
	if b.PayStatus != "success" || b.OrderType != "API Deposit" || b.PaidAmount != order.OrderAmount ||
		b.OrderAmount != order.OrderAmount || b.Extend.MerchantOrderID != "way" || b.Extend.CustomValue != "a/b<&>é" ||
		b.OrderID != a.Order.OrderID || b.Crypto != "USDT" || b.Chain != "TRX" || b.FiatRate != "1" || b.TokenRate != "0.9997" {
		t.Errorf("got %+v", b)
	}
	if a.Order.State != "Paid" || a.Order.DueAmount != "0" {
		t.Errorf("got %s, due %s", a.Order.State, a.Order.DueAmount)
	}
	order, trades = info()
	if order.Status != "Successful" || len(trades) != 1 || trades[0].Amount != "50.015005" || trades[0].Txid != b.Txid || trades[0].PayTime == 0 {
		t.Errorf("got %+v, %+v", order, trades)
	}
	if w := actRaw(s, "way", "pay", nil); w.Code != http.StatusConflict {
		t.Errorf("paying twice: status %d", w.Code)
	}
}

func TestActions(t *testing.T) {
	type step struct {
		action string
		form   url.Values
		status string // of each callback, separated by spaces
		state  string
		paid   string
	}
	for name, steps := range map[string][]step{
		"parts": {
			{"pay-part", nil, "success", "Underpayment", "25.007503"},
			{"pay-part", nil, "success", "Underpayment", "37.511254"},
			{"pay", nil, "success", "Paid", "50.015005"},
		},
		"over": {{"overpay", nil, "success", "Overpayment", "55.016506"}},
		"amount": {
			{"pay", url.Values{"amount": {"0.5"}}, "success", "Underpayment", "0.5"},
			{"pay-part", url.Values{"amount": {"100"}}, "success", "Overpayment", "100.5"},
		},
		"late": {{"pay-late", nil, "success", "Paid(Overdue)", "50.015005"}},
		"part late": {
			{"pay-part", nil, "success", "Underpayment", "25.007503"},
			{"pay-late", nil, "success", "Paid(Overdue)", "50.015005"},
		},
		"later than paid": {
			{"pay", nil, "success", "Paid", "50.015005"},
			{"pay-late", url.Values{"amount": {"1"}}, "success", "Overpayment", "51.015005"},
		},
		"detected": {
			{"detect", url.Values{"status": {"pending"}}, "pending", "Awaiting payment", "0"},
			{"confirm", nil, "success", "Paid", "50.015005"},
		},
		"detected and failed": {
			{"detect", nil, "processing", "Awaiting payment", "0"},
			{"fail", nil, "failed", "Awaiting payment", "0"},
		},
		"failed":      {{"fail", nil, "failed", "Awaiting payment", "0"}},
		"wrong token": {{"pay", url.Values{"wrong_token": {"1"}}, "success", "Awaiting payment", "0"}},
		"wrong chain": {{"pay", url.Values{"chain": {"ETH"}}, "success", "Awaiting payment", "0"}},
		"again": {
			{"pay", nil, "success", "Paid", "50.015005"},
			{"resend", nil, "success", "Paid", "50.015005"},
			{"send-twice", nil, "success success", "Paid", "50.015005"},
			{"out-of-order", nil, "success processing", "Paid", "50.015005"},
		},
		"twice":        {{"send-twice", nil, "success success", "Paid", "50.015005"}},
		"out of order": {{"out-of-order", nil, "success processing", "Paid", "50.015005"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, sh := newTestSandbox(t)
			create(t, s, "order")
			sent := 0
			for _, step := range steps {
				a := act(t, s, "order", step.action, step.form)
				got := sh.received()[sent:]
				sent += len(got)
				var statuses []string
				for i, r := range got {
					r.checkSignature(t, true)
					b := r.parsed(t)
					statuses = append(statuses, b.PayStatus)
					if !a.Callbacks[i].Taken || a.Callbacks[i].RecordID != b.RecordID {
						t.Errorf("%s: told %+v", step.action, a.Callbacks[i])
					}
					if b.PayStatus == "pending" && b.Txid != "" {
						t.Errorf("a pending payment has the transaction %s", b.Txid)
					}
					if i > 0 && b.RecordID != got[0].parsed(t).RecordID {
						t.Errorf("%s: two records", step.action)
					}
				}
				if got := strings.Join(statuses, " "); got != step.status {
					t.Errorf("%s: sent %q, want %q", step.action, got, step.status)
				}
				if a.Order.State != step.state || a.Order.PaidAmount != step.paid {
					t.Errorf("%s: %s, paid %s", step.action, a.Order.State, a.Order.PaidAmount)
				}
			}
		})
	}
}

func TestWrongToken(t *testing.T) {
	s, sh := newTestSandbox(t)
	create(t, s, "order")
	a := act(t, s, "order", "pay", url.Values{"wrong_token": {"1"}})
	if p := a.Order.Payments[0]; p.Counts || p.Chain != "BSC" || p.Crypto != "USDT" {
		t.Errorf("got %+v", p)
	}
	if b := sh.received()[0].parsed(t); b.Chain != "BSC" || b.Crypto != "USDT" {
		t.Errorf("got %+v", b)
	}
}

// TestPayTime lets a test say when a payment arrived.
func TestPayTime(t *testing.T) {
	s, _ := newTestSandbox(t)
	create(t, s, "order")
	at := s.state.now().Add(48 * time.Hour).Unix()
	a := act(t, s, "order", "pay", url.Values{"at": {strconv.FormatInt(at, 10)}})
	if p := a.Order.Payments[0]; p.PayTime.Unix() != at || !p.Late {
		t.Errorf("got %+v", p)
	}
	if a.Order.State != "Paid(Overdue)" {
		t.Errorf("got %s", a.Order.State)
	}
}

func TestBadSignature(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, sh := newTestSandbox(t)
		sh.answer = func(int, *http.Request) (int, string, error) { return http.StatusUnauthorized, "", nil }
		create(t, s, "order")
		a := act(t, s, "order", "bad-signature", nil)
		time.Sleep(time.Hour)
		got := sh.received()
		if len(got) != 1 {
			t.Fatalf("sent %d times", len(got))
		}
		got[0].checkSignature(t, false)
		if a.Order.State != "Awaiting payment" || len(a.Order.Payments) != 0 {
			t.Errorf("a forged callback was taken for a payment: %+v", a.Order)
		}
		if c := a.Callbacks[0]; c.Taken || c.Status != http.StatusUnauthorized {
			t.Errorf("got %+v", c)
		}
		// It is not what is sent again.
		if w := actRaw(s, "order", "resend", nil); w.Code != http.StatusConflict {
			t.Errorf("status %d", w.Code)
		}
	})
}

func TestRetries(t *testing.T) {
	for name, tc := range map[string]struct {
		speed  float64
		answer func(n int, r *http.Request) (int, string, error)
		want   []time.Duration
		state  string
	}{
		"taken at once": {
			1, nil, []time.Duration{0}, stateDelivered,
		},
		"taken later": {
			1, func(n int, _ *http.Request) (int, string, error) {
				if n < 3 {
					return http.StatusServiceUnavailable, "success", nil
				}
				return http.StatusOK, `{"msg":"success"}`, nil
			},
			[]time.Duration{0, 30 * time.Second, 90 * time.Second},
			stateDelivered,
		},
		"never": {
			1, func(int, *http.Request) (int, string, error) { return http.StatusOK, "ok", nil },
			[]time.Duration{
				0, 30 * time.Second, 90 * time.Second, 210 * time.Second, 450 * time.Second,
				930 * time.Second, 1890 * time.Second,
			},
			stateGivenUp,
		},
		"faster": {
			60, func(int, *http.Request) (int, string, error) { return 0, "", errors.New("connection refused") },
			[]time.Duration{
				0, 500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond, 7500 * time.Millisecond,
				15500 * time.Millisecond, 31500 * time.Millisecond,
			},
			stateGivenUp,
		},
		"201": {
			1, func(n int, _ *http.Request) (int, string, error) {
				if n == 1 {
					return http.StatusCreated, "success", nil
				}
				return http.StatusOK, "success", nil
			},
			[]time.Duration{0, 30 * time.Second},
			stateDelivered,
		},
		"redirect": {
			1, func(n int, _ *http.Request) (int, string, error) {
				if n == 1 {
					return http.StatusFound, "success", nil
				}
				return http.StatusOK, "success", nil
			},
			[]time.Duration{0, 30 * time.Second},
			stateDelivered,
		},
		"no answer": {
			1, func(n int, r *http.Request) (int, string, error) {
				if n == 1 {
					<-r.Context().Done()
					return 0, "", r.Context().Err()
				}
				return http.StatusOK, "success", nil
			},
			[]time.Duration{0, 30 * time.Second},
			stateDelivered,
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T) {
				s, sh := newTestSandbox(t)
				s.speed = tc.speed
				sh.answer = tc.answer
				create(t, s, "order")
				begun := time.Now()
				a := act(t, s, "order", "pay", nil)
				if waited := time.Since(begun); waited > maxControlWait {
					t.Errorf("waited %v for the first try", waited)
				}
				if want := len(tc.want) == 1; a.Callbacks[0].Taken != want {
					t.Errorf("told %+v", a.Callbacks[0])
				}
				time.Sleep(2 * time.Hour)
				got := sh.received()
				if len(got) != len(tc.want) {
					t.Fatalf("sent %d times, want %d", len(got), len(tc.want))
				}
				for i, r := range got {
					if offset := r.at.Sub(begun); offset != tc.want[i] {
						t.Errorf("try %d at %v, want %v", i+1, offset, tc.want[i])
					}
					r.checkSignature(t, true)
					if r.body != got[0].body {
						t.Error("the body changed")
					}
				}
				order := getOrder(t, s, "order")
				if c := order.Callbacks[0]; c.State != tc.state || len(c.Tries) != len(tc.want) {
					t.Errorf("got %+v", c)
				}
			})
		})
	}
}

func getOrder(t *testing.T, s *Sandbox, id string) orderView {
	t.Helper()
	w := serve(s, httptest.NewRequest(http.MethodGet, "http://gateway.test/sandbox/orders/"+id, nil))
	var v orderView
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestFirstTriesAreInOrder checks that a callback waits for the one before it, but
// not for its retries.
func TestFirstTriesAreInOrder(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, sh := newTestSandbox(t)
		sh.answer = func(n int, _ *http.Request) (int, string, error) {
			if n == 1 {
				time.Sleep(5 * time.Second)
				return http.StatusInternalServerError, "", nil
			}
			return http.StatusOK, "success", nil
		}
		create(t, s, "order")
		go actRaw(s, "order", "detect", nil)
		time.Sleep(time.Second)
		begun := time.Now()
		act(t, s, "order", "confirm", nil)
		if waited := time.Since(begun); waited != 4*time.Second {
			t.Errorf("waited %v", waited)
		}
		time.Sleep(time.Minute)
		var got []string
		for _, r := range sh.received() {
			got = append(got, r.parsed(t).PayStatus)
		}
		if got := strings.Join(got, " "); got != "processing success processing" {
			t.Errorf("got %s", got)
		}
	})
}

func TestNotifyURL(t *testing.T) {
	s, sh := newTestSandbox(t)
	var hosts []string
	sh.answer = func(_ int, r *http.Request) (int, string, error) {
		hosts = append(hosts, r.URL.String())
		return http.StatusOK, "success", nil
	}
	create(t, s, "default")
	act(t, s, "default", "pay", nil)
	call(t, s, "bill/create", strings.Replace(createBody("own"), `"product_price"`, `"notify_url":"http://own.test/x","product_price"`, 1))
	act(t, s, "own", "pay", nil)
	s.notifyURL = ""
	a := act(t, s, "default", "resend", nil)
	if c := a.Callbacks[0]; c.Tried || c.Taken || c.Error == "" {
		t.Errorf("got %+v", c)
	}
	if got := strings.Join(hosts, " "); got != notifyURL+" http://own.test/x" {
		t.Errorf("got %s", got)
	}
}

func TestWebhookResend(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, sh := newTestSandbox(t)
		var down atomic.Bool
		down.Store(true)
		sh.answer = func(int, *http.Request) (int, string, error) {
			if down.Load() {
				return http.StatusBadGateway, "", nil
			}
			return http.StatusOK, "success", nil
		}
		resend := func(more string) (envelope, int) {
			e := call(t, s, "webhook/resend", `{"start_timestamp":`+strconv.FormatInt(time.Now().Add(-50*time.Minute).Unix(), 10)+more+`}`)
			synctest.Wait()
			var data struct {
				Count int `json:"resend_count"`
			}
			if e.Code == codeSuccess {
				if err := json.Unmarshal(e.Data, &data); err != nil {
					t.Fatal(err)
				}
			}
			return e, data.Count
		}

		create(t, s, "missed")
		act(t, s, "missed", "detect", nil)
		act(t, s, "missed", "confirm", nil)
		time.Sleep(40 * time.Minute)
		down.Store(false)
		create(t, s, "got")
		act(t, s, "got", "pay", nil)

		before := len(sh.received())
		if _, n := resend(""); n != 1 {
			t.Errorf("sent %d again", n)
		}
		got := sh.received()[before:]
		if len(got) != 1 || got[0].parsed(t).Extend.MerchantOrderID != "missed" || got[0].parsed(t).PayStatus != "success" {
			t.Errorf("got %+v", got)
		}

		if e, _ := resend(""); e.Code != codeRateLimit {
			t.Errorf("within a minute: %+v", e)
		}
		time.Sleep(time.Minute)
		if _, n := resend(""); n != 0 {
			t.Errorf("%d are still thought to have failed", n)
		}
		time.Sleep(time.Minute)
		if _, n := resend(`,"webhook_result":"All Result"`); n != 2 {
			t.Errorf("of all, %d were sent again", n)
		}
		time.Sleep(time.Minute)
		if _, n := resend(`,"webhook_result":"All Result","transaction_type":"Refund"`); n != 0 {
			t.Errorf("%d refunds", n)
		}
		for range maxResendsADay - 4 {
			time.Sleep(time.Minute)
			if e, _ := resend(""); e.Code != codeSuccess {
				t.Fatalf("got %+v", e)
			}
		}
		time.Sleep(time.Minute)
		if e, _ := resend(""); e.Code != codeDailyLimit {
			t.Errorf("26th call of a day: %+v", e)
		}
		time.Sleep(24 * time.Hour)
		if e, _ := resend(""); e.Code != codeSuccess {
			t.Errorf("a day later: %+v", e)
		}
	})
}

// TestDestruct checks that nothing outlives the state.
func TestDestruct(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, sh := newTestSandbox(t)
	sh.answer = func(n int, r *http.Request) (int, string, error) {
		if n == 1 {
			return http.StatusBadGateway, "", nil // waits for its next try
		}
		<-r.Context().Done() // is being sent
		return 0, "", r.Context().Err()
	}
	create(t, s, "order")
	act(t, s, "order", "pay-part", nil)
	s.state.mu.Lock()
	o := s.state.find("order")
	second, err := s.pay(o, nil, o.open(), statusSuccess)
	third, err2 := s.pay(o, url.Values{"amount": {"1"}}, o.open(), statusSuccess) // waits for the second
	s.state.mu.Unlock()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for len(sh.received()) < 2 {
		time.Sleep(time.Millisecond)
	}
	if err := s.state.Destruct(); err != nil {
		t.Fatal(err)
	}
	if second[0].state != stateGivenUp || third[0].state != stateGivenUp {
		t.Errorf("got %s and %s", second[0].state, third[0].state)
	}
	if a := act(t, s, "order", "resend", nil); a.Callbacks[0].Tried || a.Callbacks[0].Error == "" {
		t.Errorf("got %+v", a.Callbacks[0])
	}
}

func TestBoundedLog(t *testing.T) {
	s, sh := newTestSandbox(t)
	sh.answer = func(int, *http.Request) (int, string, error) {
		return http.StatusOK, "success " + strings.Repeat("é", 100), nil
	}
	create(t, s, "order")
	act(t, s, "order", "pay", nil)
	for range maxCallbacks / 2 {
		act(t, s, "order", "send-twice", nil)
	}
	o := getOrder(t, s, "order")
	if len(o.Callbacks) != maxCallbacks {
		t.Errorf("%d callbacks are kept", len(o.Callbacks))
	}
	if a := o.Callbacks[0].Tries[0].Answer; len(a) > keptAnswer+2 || !strings.HasPrefix(a, "success é") {
		t.Errorf("kept %q", a)
	}
	for range maxPayments - 1 {
		act(t, s, "order", "pay", url.Values{"amount": {"1"}})
	}
	if w := actRaw(s, "order", "pay", url.Values{"amount": {"1"}}); w.Code != http.StatusConflict {
		t.Errorf("one payment too many: status %d", w.Code)
	}
}
