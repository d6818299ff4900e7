package sandbox

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestActionRefusals(t *testing.T) {
	s, sh := newTestSandbox(t)
	create(t, s, "order")
	for _, tc := range []struct {
		action string
		form   url.Values
		want   int
	}{
		{"pay", url.Values{"amount": {"0"}}, 400},
		{"pay", url.Values{"amount": {"-1"}}, 400},
		{"pay", url.Values{"amount": {"1e9"}}, 400},
		{"pay", url.Values{"amount": {"1.0000001"}}, 400},
		{"pay", url.Values{"at": {"soon"}}, 400},
		{"pay", url.Values{"chain": {strings.Repeat("x", maxName+1)}}, 400},
		{"detect", url.Values{"status": {"success"}}, 400},
		{"confirm", nil, 409},
		{"resend", nil, 409},
	} {
		w := actRaw(s, "order", tc.action, tc.form)
		if w.Code != tc.want || !strings.Contains(w.Body.String(), `"error":`) {
			t.Errorf("%s %v: status %d, body %s", tc.action, tc.form, w.Code, w.Body)
		}
	}
	if n := len(sh.received()); n != 0 {
		t.Errorf("%d callbacks were sent", n)
	}
	if o := getOrder(t, s, "order"); len(o.Payments) != 0 {
		t.Errorf("got %+v", o.Payments)
	}
}

// TestPayLateRefused checks that a refusal does not end the order's validity.
func TestPayLateRefused(t *testing.T) {
	s, _ := newTestSandbox(t)
	create(t, s, "order")
	if w := actRaw(s, "order", "pay-late", url.Values{"amount": {"x"}}); w.Code != 400 {
		t.Errorf("status %d", w.Code)
	}
	if o := getOrder(t, s, "order"); o.State != "Awaiting payment" {
		t.Errorf("got %s", o.State)
	}
}

func TestCrossSite(t *testing.T) {
	s, sh := newTestSandbox(t)
	create(t, s, "order")
	for _, target := range []string{
		"/sandbox/orders/order/pay", "/sandbox/faults?endpoint=coin/all&fault=500", "/inbox/fail?status=503&times=1", "/pay?key=x",
	} {
		for name, header := range map[string]http.Header{
			"site":      {"Sec-Fetch-Site": {"cross-site"}},
			"same site": {"Sec-Fetch-Site": {"same-site"}},
			"origin":    {"Origin": {"http://evil.test"}},
			"null":      {"Origin": {"null"}},
		} {
			r := httptest.NewRequest(http.MethodPost, "http://gateway.test"+target, nil)
			r.Header = header
			if w := serve(s, r); w.Code != http.StatusForbidden {
				t.Errorf("%s, %s: status %d", target, name, w.Code)
			}
		}
	}
	if len(sh.received()) != 0 {
		t.Error("something was paid")
	}

	r := httptest.NewRequest(http.MethodPost, "http://gateway.test/sandbox/orders/order/pay", nil)
	r.Header = http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {"http://gateway.test"}}
	w := serve(s, r)
	id := getOrder(t, s, "order").OrderID
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/sandbox/#o"+id {
		t.Errorf("status %d, %s", w.Code, w.Header().Get("Location"))
	}
}

// TestGatewayID checks that both ids lead to an order, and fields may be in the query.
func TestGatewayID(t *testing.T) {
	s, _ := newTestSandbox(t)
	create(t, s, "order")
	id := getOrder(t, s, "order").OrderID
	if len(id) != 33 {
		t.Errorf("id %s", id)
	}
	r := httptest.NewRequest(http.MethodPost, "http://gateway.test/sandbox/orders/"+id+"/pay?amount=1.5", nil)
	r.Header.Set("Accept", "application/json")
	var a actionAnswer
	if err := json.Unmarshal(serve(s, r).Body.Bytes(), &a); err != nil || a.Order.PaidAmount != "1.5" {
		t.Errorf("got %+v, %v", a, err)
	}
}

func TestPages(t *testing.T) {
	s, _ := newTestSandbox(t)
	body := strings.Replace(createBody("page"), `"product_price"`, `"remark":"<script>alert(1)</script>","product_price"`, 1)
	if e := call(t, s, "bill/create", body); e.Code != codeSuccess {
		t.Fatal(e)
	}
	act(t, s, "page", "detect", nil)
	act(t, s, "page", "bad-signature", nil)
	e := call(t, s, "concise/url/get",
		`{"merchant_order_id":"hosted","product_name":"Field guide","product_price":"25","return_url":"http://shop.test/thanks?a=1"}`)
	var data struct {
		PaymentURL string `json:"payment_url"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil || !strings.HasPrefix(data.PaymentURL, "http://gateway.test/pay?key=") {
		t.Fatal(data, err)
	}

	for _, target := range []string{"/", "/sandbox/?page=2", "/inbox", data.PaymentURL, "/pay?key=unknown", "/sandbox/orders?limit=x"} {
		if strings.HasPrefix(target, "/") {
			target = "http://gateway.test" + target
		}
		w := serve(s, httptest.NewRequest(http.MethodGet, target, nil))
		page := w.Body.String()
		if !strings.Contains(page, "This is a simulator. No money moves.") {
			t.Errorf("%s does not say what it is", target)
		}
		if strings.Contains(page, "<script") || strings.Contains(page, "style=") {
			t.Errorf("%s has scripts or styles in it", target)
		}
		if strings.Contains(page, testSecret) || strings.Contains(page, testInbox) {
			t.Errorf("%s tells a secret", target)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'self'") {
			t.Errorf("%s: policy %q", target, csp)
		}
		if !strings.HasSuffix(strings.TrimSpace(page), "</html>") {
			t.Errorf("%s is cut off", target)
		}
	}

	page := serve(s, httptest.NewRequest(http.MethodGet, "http://gateway.test/", nil)).Body.String()
	for _, want := range []string{
		"&lt;script&gt;", "Pay in full", "/confirm", "50.015005", "bad signature", "Field guide", "HTTP 200",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestHostedCheckout(t *testing.T) {
	s, sh := newTestSandbox(t)
	e := call(t, s, "concise/url/get",
		`{"merchant_order_id":"hosted","product_name":"Field guide","product_price":"25","return_url":"http://shop.test/thanks","custom_value":"c"}`)
	var data struct {
		PaymentURL string `json:"payment_url"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		t.Fatal(err)
	}
	get := func() string {
		return serve(s, httptest.NewRequest(http.MethodGet, data.PaymentURL, nil)).Body.String()
	}
	if page := get(); !strings.Contains(page, "Choose a coin") || !strings.Contains(page, "25.007503 USDT") {
		t.Errorf("got %s", page)
	}
	// Before a coin is chosen there is nothing to pay, but bill/info knows the order.
	if w := actRaw(s, "hosted", "pay", nil); w.Code != http.StatusConflict {
		t.Errorf("status %d", w.Code)
	}
	if e := call(t, s, "bill/info", `{"merchant_order_ids":["hosted"]}`); !strings.Contains(string(e.Data), `"order_amount":"","status":"Pending"`) {
		t.Errorf("got %s", e.Data)
	}

	key := getOrder(t, s, "hosted").PaymentURL
	key = key[strings.Index(key, "key=")+4:]
	choose := func(token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "http://gateway.test/pay",
			strings.NewReader(url.Values{"key": {key}, "token_id": {token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return serve(s, r)
	}
	if w := choose("unknown"); w.Code != http.StatusConflict {
		t.Errorf("status %d", w.Code)
	}
	if w := choose(usdtTRC20); w.Code != http.StatusSeeOther {
		t.Errorf("status %d", w.Code)
	}
	if w := choose(usdtTRC20); w.Code != http.StatusConflict {
		t.Errorf("choosing again: status %d", w.Code)
	}
	address := getOrder(t, s, "hosted").PayAddress
	if page := get(); !strings.Contains(page, address) || !strings.Contains(page, "25.007503") || !strings.Contains(page, "http://shop.test/thanks") {
		t.Errorf("got %s", page)
	}

	r := httptest.NewRequest(http.MethodPost, "http://gateway.test/sandbox/orders/hosted/pay?back=pay", nil)
	if w := serve(s, r); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/pay?key="+key {
		t.Errorf("status %d, %s", w.Code, w.Header().Get("Location"))
	}
	if b := sh.received()[0].parsed(t); b.Extend.CustomValue != "c" || b.PaidAmount != "25.007503" {
		t.Errorf("got %+v", b)
	}
	if page := get(); !strings.Contains(page, "The order is paid.") {
		t.Errorf("got %s", page)
	}
}

func TestOrdersList(t *testing.T) {
	s, _ := newTestSandbox(t)
	for _, id := range []string{"first", "second", "third"} {
		create(t, s, id)
	}
	var list []orderView
	w := serve(s, httptest.NewRequest(http.MethodGet, "http://gateway.test/sandbox/orders?limit=2", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].MerchantOrderID != "third" || list[1].MerchantOrderID != "second" {
		t.Errorf("got %+v", list)
	}
	if list[0].Payments == nil || list[0].Callbacks == nil {
		t.Error("empty lists are null")
	}
}
