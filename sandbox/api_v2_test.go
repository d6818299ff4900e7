package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// signatureV2 is written down a second time here, to check the one that is tested.
func signatureV2(timestamp string, body []byte) string {
	h := hmac.New(sha256.New, []byte(testSecret))
	h.Write([]byte(testAppID + timestamp + string(body)))
	return hex.EncodeToString(h.Sum(nil))
}

// postV2 makes a signed request and returns the whole answer, which is not signed.
func postV2(t *testing.T, s *Sandbox, endpoint, body string) []byte {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://gateway.test/ccpayment/v2/"+endpoint, strings.NewReader(body))
	timestamp := strconv.FormatInt(s.state.now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Appid", testAppID)
	r.Header.Set("Timestamp", timestamp)
	r.Header.Set("Sign", signatureV2(timestamp, []byte(body)))
	w := serve(s, r)
	if w.Code != http.StatusOK || w.Header().Get("Sign") != "" {
		t.Fatalf("%s: status %d, headers %v", endpoint, w.Code, w.Header())
	}
	answer, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// callV2 makes a signed request.
func callV2(t *testing.T, s *Sandbox, endpoint, body string) envelope {
	t.Helper()
	var e envelope
	answer := postV2(t, s, endpoint, body)
	if err := json.Unmarshal(answer, &e); err != nil {
		t.Fatalf("%s: %v in %q", endpoint, err, answer)
	}
	return e
}

func createV2(t *testing.T, s *Sandbox, orderID string) {
	t.Helper()
	if e := callV2(t, s, "createAppOrderDepositAddress", fmt.Sprintf(`{"coinId":1280,"chain":"TRX","fiatId":1033,"price":"50.00","orderId":%q}`, orderID)); e.Code != codeSuccess {
		t.Fatalf("got %+v", e)
	}
}

func TestV2LooksAsDocumented(t *testing.T) {
	s, sh := newTestSandbox(t)
	sameShape(t, "v2-create-app-order-deposit-address-response.json",
		postV2(t, s, "createAppOrderDepositAddress", `{"coinId":1280,"chain":"TRX","fiatId":1033,"price":"50.00","orderId":"abc"}`), "data.checkoutUrl")
	sameShape(t, "v2-create-invoice-url-response.json", postV2(t, s, "createInvoiceUrl", `{"orderId":"inv","price":"50","priceFiatId":"1033","product":"x"}`))
	act(t, s, "abc", "pay", nil)
	sameShape(t, "v2-get-app-order-info-response.json", postV2(t, s, "getAppOrderInfo", `{"orderId":"abc"}`), "data.checkoutUrl", "data.toMemo", "data.paidList.[].isFlaggedAsRisky")
	sameShape(t, "v2-webhook-api-deposit.json", []byte(sh.received()[0].body))
	key := getOrder(t, s, "inv").PaymentURL
	key = key[strings.Index(key, "key=")+4:]
	form := httptest.NewRequest(http.MethodPost, "http://gateway.test/pay", strings.NewReader(url.Values{"key": {key}, "token_id": {usdtTRC20}}.Encode()))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w := serve(s, form); w.Code != http.StatusSeeOther {
		t.Fatalf("choosing a coin: %d %s", w.Code, w.Body)
	}
	act(t, s, "inv", "pay", nil)
	sameShape(t, "v2-get-invoice-order-info-response.json", postV2(t, s, "getInvoiceOrderInfo", `{"orderId":"inv"}`),
		"data.buyerEmail", "data.priceCoinId", "data.priceFiatId", "data.paidList.[].fromAddress")
	sameShape(t, "v2-webhook-resend-response.json", postV2(t, s, "webhook/resend", `{"startTimestamp":1710145756}`))

	var amounts struct {
		Data struct{ AmountToPay, ToAddress string }
	}
	if err := json.Unmarshal(postV2(t, s, "getAppOrderInfo", `{"orderId":"abc"}`), &amounts); err != nil || amounts.Data.AmountToPay != "50.015005" {
		t.Errorf("got %+v, %v", amounts, err)
	}
	// The documented request is one in the coin itself.
	if e := callV2(t, s, "createAppOrderDepositAddress", `{"coinId":1280,"price":"1","orderId":"testorderid1111","chain":"BSC"}`); e.Code != codeSuccess || !strings.Contains(string(e.Data), `"amount":"1"`) {
		t.Errorf("got %+v", e)
	}
}

func TestV2Refuses(t *testing.T) {
	s, _ := newTestSandbox(t)
	createV2(t, s, "taken")
	create(t, s, "of-v1")
	now := s.state.now().Unix()
	const order = `{"coinId":1280,"chain":"TRX","fiatId":1033,"price":"50.00","orderId":"new"}`
	change := func(from, to string) string { return strings.Replace(order, from, to, 1) }
	for _, test := range []struct {
		endpoint, body string
		code           int
	}{
		{"createAppOrderDepositAddress", change(`"new"`, `"taken"`), codeDuplicate},
		{"createAppOrderDepositAddress", change(`"new"`, `"of-v1"`), codeDuplicate},
		{"createAppOrderDepositAddress", change(`"new"`, `"ab"`), codeArgument},
		{"createAppOrderDepositAddress", change(`"new"`, `"`+strings.Repeat("x", 65)+`"`), codeArgument},
		{"createAppOrderDepositAddress", change("1280", "1281"), codeToken},
		{"createAppOrderDepositAddress", change("TRX", "POLYGON"), codeChain},
		{"createAppOrderDepositAddress", change("1033", "1"), codeArgument},
		{"createAppOrderDepositAddress", change("50.00", "50.001"), codeArgument},
		{"createAppOrderDepositAddress", change(`"50.00"`, `50.00`), codeArgument},
		{"createAppOrderDepositAddress", change(`"fiatId":1033,"price":"50.00"`, `"price":"1.0000001"`), codePrecision},
		{"createAppOrderDepositAddress", change(`"orderId"`, `"expiredAt":3600,"orderId"`), codeArgument},
		{"createAppOrderDepositAddress", change(`"orderId"`, fmt.Sprintf(`"expiredAt":%d,"orderId"`, now-1)), codeArgument},
		{"createAppOrderDepositAddress", change(`"orderId"`, fmt.Sprintf(`"expiredAt":%d000,"orderId"`, now+60)), codeArgument},
		{"createAppOrderDepositAddress", change(`"orderId"`, fmt.Sprintf(`"expiredAt":%d,"orderId"`, now+maxValid+60)), codeValidTooLong},
		{"createInvoiceUrl", `{"orderId":"inv","price":"50"}`, codeArgument},
		{"createInvoiceUrl", `{"orderId":"inv","price":"50","priceFiatId":"1033","priceCoinId":"1280"}`, codeArgument},
		{"createInvoiceUrl", `{"orderId":"inv","price":"50","priceFiatId":1033,"returnUrl":"javascript:x"}`, codeArgument},
		{"createInvoiceUrl", `{"orderId":"taken","price":"50","priceFiatId":1033}`, codeDuplicate},
		{"getAppOrderInfo", `{"orderId":"unknown"}`, codeNotFound},
		{"getAppOrderInfo", `{"orderId":"of-v1"}`, codeNotFound},
		{"getInvoiceOrderInfo", `{"orderId":"taken"}`, codeNotFound},
		{"getAppDepositRecord", `{"recordId":"unknown"}`, codeNotFound},
		{"getCoinList", `[]`, codeArgument},
		{"webhook/resend", `{"startTimestamp":1}`, codeArgument},
		{"webhook/resend", `{"startTimestamp":1710145756,"endTimestamp":1710149357}`, codeQueryTooLong},
		{"webhook/resend", `{"startTimestamp":1710145756,"transactionType":"All Type"}`, codeArgument},
		{"webhook/resend", `{"startTimestamp":1710145756,"webhookResult":"All Result"}`, codeArgument},
	} {
		if e := callV2(t, s, test.endpoint, test.body); e.Code != test.code {
			t.Errorf("%s %s: got %+v, want %d", test.endpoint, test.body, e, test.code)
		}
	}
	if e := call(t, s, "bill/info", `{"merchant_order_ids":["taken"]}`); string(e.Data) != "[]" {
		t.Errorf("API v1 knows an order of API v2: %s", e.Data)
	}
	// An empty body is as good as an empty object.
	if e := callV2(t, s, "getCoinList", ""); e.Code != codeSuccess {
		t.Errorf("got %+v", e)
	}
}

func TestTheGenerationsTakeOnlyTheirOwnSignatures(t *testing.T) {
	s, _ := newTestSandbox(t)
	sends := func(path string, sign func(string, []byte) string) (code int) {
		r := httptest.NewRequest(http.MethodPost, "http://gateway.test/ccpayment/"+path, strings.NewReader("{}"))
		timestamp := strconv.FormatInt(time.Now().Unix(), 10)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Appid", testAppID)
		r.Header.Set("Timestamp", timestamp)
		r.Header.Set("Sign", sign(timestamp, []byte("{}")))
		var e envelope
		_ = json.Unmarshal(serve(s, r).Body.Bytes(), &e)
		return e.Code
	}
	for _, test := range []struct {
		api          string // of the account
		v1, v2       int
		v1as2, v2as1 int
	}{
		{"", codeSuccess, codeSuccess, codeSignature, codeSignature},
		{apiV1, codeSuccess, codeOnlyV1, codeSignature, codeSignature},
		{apiV2, codeOnlyV2, codeSuccess, codeSignature, codeSignature},
	} {
		s.API = test.api
		for _, got := range [][2]int{
			{sends("v1/coin/all", signature), test.v1},
			{sends("v2/getCoinList", signatureV2), test.v2},
			{sends("v2/getCoinList", signature), test.v1as2},
			{sends("v1/coin/all", signatureV2), test.v2as1},
		} {
			if got[0] != got[1] {
				t.Errorf("account of %q: got %d, want %d", test.api, got[0], got[1])
			}
		}
	}
}

func TestPaymentsOfV2AreFlaggedAndReleased(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, sh := newTestSandbox(t)
		createV2(t, s, "abc")
		create(t, s, "of-v1")
		if w := actRaw(s, "of-v1", "flag", nil); w.Code != http.StatusConflict {
			t.Errorf("a payment of API v1 was flagged: %d", w.Code)
		}
		if w := actRaw(s, "abc", "release", nil); w.Code != http.StatusConflict {
			t.Errorf("nothing was released: %d", w.Code)
		}
		state := func(action string) string {
			o := act(t, s, "abc", action, nil).Order
			return o.State + ", paid " + o.PaidAmount
		}
		if got := state("flag"); got != "Awaiting payment, paid 0" {
			t.Error(got)
		}
		if got := state("release"); got != "Paid, paid 50.015005" {
			t.Error(got)
		}
		var bodies []string
		for _, r := range sh.received() {
			if r.header.Get("Sign") != signatureV2(r.header.Get("Timestamp"), []byte(r.body)) {
				t.Error("a callback of API v2 is signed in another way")
			}
			var in callbackV2
			if err := json.Unmarshal([]byte(r.body), &in); err != nil || strings.Contains(r.body, "mount") {
				t.Errorf("callback %s", r.body)
			}
			bodies = append(bodies, fmt.Sprint(in.Type, " ", in.Msg.Status, " ", in.Msg.Risky))
		}
		if got := strings.Join(bodies, ", "); got != "ApiDeposit Success true, ApiDeposit Success false" {
			t.Errorf("told %s", got)
		}
		if e := callV2(t, s, "getAppOrderInfo", `{"orderId":"abc"}`); !strings.Contains(string(e.Data), `"isFlaggedAsRisky":false`) {
			t.Errorf("listed %s", e.Data)
		}
	})
}

func TestAPaymentInAnotherCoinIsFoundByItsRecord(t *testing.T) {
	s, _ := newTestSandbox(t)
	createV2(t, s, "abc")
	a := act(t, s, "abc", "pay", url.Values{"wrong_token": {"1"}})
	if e := callV2(t, s, "getAppOrderInfo", `{"orderId":"abc"}`); !strings.Contains(string(e.Data), `"paidList":[]`) {
		t.Errorf("listed %s", e.Data)
	}
	e := callV2(t, s, "getAppDepositRecord", fmt.Sprintf(`{"recordId":%q}`, a.Callbacks[0].RecordID))
	if !strings.Contains(string(e.Data), `"orderId":"abc","coinId":1280,"coinSymbol":"USDT","chain":"BSC"`) {
		t.Errorf("got %+v", e)
	}
	// What is not on the blockchain yet is not listed either.
	a = act(t, s, "abc", "detect", url.Values{"status": {"pending"}})
	if e := callV2(t, s, "getAppDepositRecord", fmt.Sprintf(`{"recordId":%q}`, a.Callbacks[0].RecordID)); e.Code != codeNotFound {
		t.Errorf("got %+v", e)
	}
}

func TestResendOfV2SendsItsOwn(t *testing.T) {
	simulate(t, func(t *testing.T) {
		s, sh := newTestSandbox(t)
		createV2(t, s, "abc")
		create(t, s, "of-v1")
		act(t, s, "abc", "pay", nil)
		act(t, s, "of-v1", "pay", nil)
		before := len(sh.received())
		e := callV2(t, s, "webhook/resend", fmt.Sprintf(`{"startTimestamp":%d,"webhookResult":"AllResult","transactionType":"AllType"}`, time.Now().Add(-time.Minute).Unix()))
		synctest.Wait()
		if got := sh.received()[before:]; string(e.Data) != `{"resendCount":1}` || len(got) != 1 || !strings.Contains(got[0].body, "ApiDeposit") {
			t.Errorf("got %+v, sent %v", e, got)
		}
	})
}

func TestTheProbe(t *testing.T) {
	s, sh := newTestSandbox(t)
	probe := func(form string) (try, int) {
		r := httptest.NewRequest(http.MethodPost, "http://gateway.test/sandbox/probe", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "application/json")
		w := serve(s, r)
		var got try
		_ = json.Unmarshal(w.Body.Bytes(), &got)
		return got, w.Code
	}
	sh.answer = func(n int, r *http.Request) (int, string, error) {
		if n > 1 {
			return http.StatusUnauthorized, "", nil
		}
		return http.StatusOK, `{"msg":"success"}`, nil
	}
	if got, code := probe(""); code != 200 || !got.Taken || got.Answer != `{"msg":"success"}` {
		t.Errorf("got %+v, %d", got, code)
	}
	if got, code := probe("forged=1"); code != 200 || got.Taken || got.Status != 401 {
		t.Errorf("got %+v, %d", got, code)
	}
	for i, r := range sh.received() {
		if right := r.header.Get("Sign") == signatureV2(r.header.Get("Timestamp"), []byte(probeBody)); r.body != probeBody || right != (i == 0) {
			t.Errorf("probe %d: %s, signed rightly: %v", i, r.body, right)
		}
	}
	if w := serve(s, httptest.NewRequest(http.MethodGet, "http://gateway.test/", nil)); !strings.Contains(w.Body.String(), "not accepted") {
		t.Error("the page does not tell how the probe went")
	}
	s.notifyURL = ""
	if _, code := probe(""); code != http.StatusConflict {
		t.Errorf("without a URL: %d", code)
	}
}

func TestFaultsOfV2HaveTheirOwnNames(t *testing.T) {
	s, _ := newTestSandbox(t)
	createV2(t, s, "abc")
	set := func(endpoint, fault string) int {
		r := httptest.NewRequest(http.MethodPost, "http://gateway.test/sandbox/faults", strings.NewReader(url.Values{"endpoint": {endpoint}, "fault": {fault}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "application/json")
		return serve(s, r).Code
	}
	for fault, want := range map[string]int{faultLimit: codeRateLimit, faultNotFound: codeNotFound, faultError: codeService} {
		if code := set("v2/getAppOrderInfo", fault); code != 200 {
			t.Fatalf("%s: status %d", fault, code)
		}
		for _, want := range []int{want, codeSuccess} {
			if e := callV2(t, s, "getAppOrderInfo", `{"orderId":"abc"}`); e.Code != want {
				t.Errorf("%s: got %+v, want %d", fault, e, want)
			}
		}
	}
	if code := set("getAppOrderInfo", fault500); code != http.StatusBadRequest {
		t.Errorf("without its generation: %d", code)
	}
}
