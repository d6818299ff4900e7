package sandbox

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

// at is the time of all published and derived signature vectors.
const at = 1677152490

func signed(timestamp, signature string) http.Header {
	return http.Header{"Appid": {testAppID}, "Timestamp": {timestamp}, "Sign": {signature}}
}

func TestSignatureVectors(t *testing.T) {
	var file struct {
		Appid, Secret, Timestamp string
		Vectors                  []struct {
			Name, Body string
			V1         string `json:"v1_sign_sha256"`
			V2         string `json:"v2_sign_hmac_sha256"`
		}
	}
	readTestdata(t, "signature-derived-vectors.json", &file)
	if len(file.Vectors) == 0 || file.Appid != testAppID || file.Secret != testSecret {
		t.Fatal("unexpected vectors")
	}
	s, _ := newTestSandbox(t)
	s.state.now = func() time.Time { return time.Unix(at, 0) }
	for _, v := range file.Vectors {
		if got := sign(file.Appid, file.Secret, file.Timestamp, []byte(v.Body)); got != v.V1 {
			t.Errorf("%s: got %s, want %s", v.Name, got, v.V1)
		}
		if e := s.verify(apiV1, signed(file.Timestamp, v.V1), []byte(v.Body)); e != nil {
			t.Errorf("%s: refused: %v", v.Name, e)
		}
		if e := s.verify(apiV1, signed(file.Timestamp, v.V2), []byte(v.Body)); e == nil {
			t.Errorf("%s: accepted with the signature of the other API generation", v.Name)
		}
		if e := s.verify(apiV1, signed(file.Timestamp, v.V1), []byte(v.Body+" ")); e == nil {
			t.Errorf("%s: accepted with a byte more", v.Name)
		}
	}
}

// TestForgedRequests sends bodies whose signature is right, although nobody who knew
// the secret made them.
func TestForgedRequests(t *testing.T) {
	var file struct {
		Timestamp string
		Extension struct {
			Vectors []struct {
				Name string
				Hex  string `json:"extended_body_hex"`
				Sign string
			}
		} `json:"length_extension"`
		Ambiguity json.RawMessage
	}
	readTestdata(t, "v1-signature-length-extension.json", &file)
	if len(file.Extension.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	s, _ := newTestSandbox(t)
	s.state.now = func() time.Time { return time.Unix(at, 0) }
	for _, v := range file.Extension.Vectors {
		body, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if e := s.verify(apiV1, signed(file.Timestamp, v.Sign), body); e != nil {
			t.Fatalf("%s: the vector's signature is not right", v.Name)
		}
		for name := range endpoints {
			r := apiRequest(s, name, string(body))
			r.Header.Set("Sign", v.Sign)
			if w := serve(s, r); strings.Contains(w.Body.String(), `"code":10000`) {
				t.Errorf("%s: accepted by %s", v.Name, name)
			}
		}
	}

	var ambiguity struct {
		Vectors []struct {
			Sign   string `json:"v1_sign_sha256"`
			Splits []struct {
				Timestamp, Body, Expect string
			}
		}
	}
	if err := json.Unmarshal(file.Ambiguity, &ambiguity); err != nil || len(ambiguity.Vectors) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, v := range ambiguity.Vectors {
		for _, split := range v.Splits {
			e := s.verify(apiV1, signed(split.Timestamp, v.Sign), []byte(split.Body))
			if accepted := e == nil; accepted != (len(split.Timestamp) == 10) {
				t.Errorf("timestamp %q: accepted %v", split.Timestamp, accepted)
			}
		}
	}
}

func TestSignatureRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(s *Sandbox, r *http.Request)
		want   int
	}{
		"right":              {func(*Sandbox, *http.Request) {}, codeSuccess},
		"no app id":          {func(_ *Sandbox, r *http.Request) { r.Header.Del("Appid") }, codeHeader},
		"other app id":       {func(_ *Sandbox, r *http.Request) { r.Header.Set("Appid", "1") }, codeMerchant},
		"no timestamp":       {func(_ *Sandbox, r *http.Request) { r.Header.Del("Timestamp") }, codeHeader},
		"milliseconds":       {func(_ *Sandbox, r *http.Request) { resign(r, strconv.Itoa(at*1000)) }, codeHeader},
		"nine digits":        {func(_ *Sandbox, r *http.Request) { resign(r, "167715249") }, codeHeader},
		"letters":            {func(_ *Sandbox, r *http.Request) { resign(r, "16771524x0") }, codeHeader},
		"sign before digits": {func(_ *Sandbox, r *http.Request) { resign(r, "+167715249") }, codeHeader},
		"two minutes old":    {func(_ *Sandbox, r *http.Request) { resign(r, strconv.Itoa(at-120)) }, codeSuccess},
		"older":              {func(_ *Sandbox, r *http.Request) { resign(r, strconv.Itoa(at-121)) }, codeExpired},
		"two minutes early":  {func(_ *Sandbox, r *http.Request) { resign(r, strconv.Itoa(at+120)) }, codeSuccess},
		"earlier":            {func(_ *Sandbox, r *http.Request) { resign(r, strconv.Itoa(at+121)) }, codeExpired},
		"no sign":            {func(_ *Sandbox, r *http.Request) { r.Header.Del("Sign") }, codeHeader},
		"two signs":          {func(_ *Sandbox, r *http.Request) { r.Header.Add("Sign", r.Header.Get("Sign")) }, codeHeader},
		"upper case":         {func(_ *Sandbox, r *http.Request) { r.Header.Set("Sign", strings.ToUpper(r.Header.Get("Sign"))) }, codeSignature},
		"short sign":         {func(_ *Sandbox, r *http.Request) { r.Header.Set("Sign", r.Header.Get("Sign")[:63]) }, codeSignature},
		"placeholder":        {func(_ *Sandbox, r *http.Request) { r.Header.Set("Sign", strings.Repeat("0", 64)) }, codeSignature},
		"other secret":       {func(s *Sandbox, _ *http.Request) { s.secret = "x" + s.secret }, codeSignature},
		"no type":            {func(_ *Sandbox, r *http.Request) { r.Header.Del("Content-Type") }, codeHeader},
		"form":               {func(_ *Sandbox, r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, codeHeader},
		"no charset":         {func(_ *Sandbox, r *http.Request) { r.Header.Set("Content-Type", "application/json") }, codeSuccess},
		"other charset":      {func(_ *Sandbox, r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=latin1") }, codeHeader},
		"compressed":         {func(_ *Sandbox, r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, codeHeader},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestSandbox(t)
			s.state.now = func() time.Time { return time.Unix(at, 0) }
			r := apiRequest(s, "coin/all", "{}")
			tc.change(s, r)
			w := serve(s, r)
			var e envelope
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != http.StatusOK {
				t.Fatalf("status %d, body %q", w.Code, w.Body)
			}
			if e.Code != tc.want {
				t.Errorf("got code %d (%s), want %d", e.Code, e.Msg, tc.want)
			}
			if tc.want != codeSuccess && w.Header().Get("Sign") != "" {
				t.Error("the refusal is signed")
			}
		})
	}
}

// resign makes the signature right for another timestamp.
func resign(r *http.Request, timestamp string) {
	r.Header.Set("Timestamp", timestamp)
	r.Header.Set("Sign", signature(timestamp, []byte("{}")))
}

func TestBodyTooLarge(t *testing.T) {
	s, _ := newTestSandbox(t)
	if w := serve(s, apiRequest(s, "coin/all", strings.Repeat(" ", maxAPIBody)+"{}")); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got status %d", w.Code)
	}
}

func TestValidation(t *testing.T) {
	s, _ := newTestSandbox(t)
	create(t, s, "taken")
	ids := `"x"` + strings.Repeat(`,"x"`, 99)

	bill := func(change string) string {
		fields := map[string]any{}
		for _, part := range []string{
			`{"merchant_order_id":"m","product_price":"5","token_id":"` + usdtTRC20 + `","denominated_currency":"USD"}`, change,
		} {
			if err := json.Unmarshal([]byte(part), &fields); err != nil {
				t.Fatal(err)
			}
		}
		for k, v := range fields {
			if v == "gone" {
				delete(fields, k)
			}
		}
		b, _ := json.Marshal(fields)
		return string(b)
	}
	for _, tc := range []struct {
		endpoint, body string
		want           int
	}{
		{"bill/create", "", codeArgument},
		{"bill/create", "[]", codeArgument},
		{"bill/create", "{", codeArgument},
		{"bill/create", bill(`{}`) + "{}", codeArgument},
		{"bill/create", strings.Replace(bill(`{}`), "{", `{"product_price":"1",`, 1), codeArgument},
		{"bill/create", strings.Replace(bill(`{}`), "product_price", "Product_Price", 1), codeArgument},
		{"bill/create", bill(`{"remark":"` + "x" + `"}`)[:10] + "\xff", codeArgument},
		{"bill/create", bill(`{"merchant_order_id":"gone"}`), codeArgument},
		{"bill/create", bill(`{"merchant_order_id":""}`), codeArgument},
		{"bill/create", bill(`{"merchant_order_id":7}`), codeArgument},
		{"bill/create", bill(`{"merchant_order_id":"` + strings.Repeat("x", maxName+1) + `"}`), codeArgument},
		{"bill/create", bill(`{"merchant_order_id":"taken"}`), codeDuplicate},
		{"bill/create", bill(`{"product_price":"gone"}`), codeArgument},
		{"bill/create", bill(`{"product_price":5}`), codeArgument},
		{"bill/create", bill(`{"product_price":"0"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"0.00"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"-1"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"+1"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"1.001"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"1e2"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"1,00"}`), codeArgument},
		{"bill/create", bill(`{"product_price":" 1"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"01"}`), codeArgument},
		{"bill/create", bill(`{"product_price":"1."}`), codeArgument},
		{"bill/create", bill(`{"token_id":"gone"}`), codeToken},
		{"bill/create", bill(`{"token_id":"00000000-0000-0000-0000-000000000000"}`), codeToken},
		{"bill/create", bill(`{"denominated_currency":"gone"}`), codeArgument},
		{"bill/create", bill(`{"denominated_currency":"XXX"}`), codeArgument},
		{"bill/create", bill(`{"denominated_currency":"usd"}`), codeArgument},
		{"bill/create", bill(`{"denominated_currency":"Token","product_price":"1.0000001"}`), codeArgument},
		{"bill/create", bill(`{"order_valid_period":-1}`), codeArgument},
		{"bill/create", bill(`{"order_valid_period":"3600"}`), codeArgument},
		{"bill/create", bill(`{"order_valid_period":3600.5}`), codeArgument},
		{"bill/create", bill(`{"order_valid_period":864001}`), codeValidTooLong},
		{"bill/create", bill(`{"notify_url":"javascript:x"}`), codeArgument},
		{"bill/create", bill(`{"custom_value":"` + strings.Repeat("x", maxText+1) + `"}`), codeArgument},
		{"bill/create", bill(`{"merchant_order_id":"ok-1","order_valid_period":864000}`), codeSuccess},
		{"bill/create", bill(`{"merchant_order_id":"ok-2","remark":"","order_valid_period":0,"notify_url":"","custom_value":""}`), codeSuccess},
		{"bill/create", bill(`{"merchant_order_id":"ok-3","remark":null,"amount":"5"}`), codeSuccess},
		{"bill/create", bill(`{"merchant_order_id":"ok-4","denominated_currency":"EUR"}`), codeSuccess},
		{"bill/create", bill(`{"merchant_order_id":"ok-5","denominated_currency":"token","product_price":"1.000001"}`), codeSuccess},

		{"concise/url/get", `{"merchant_order_id":"h","product_price":"5"}`, codeArgument},
		{"concise/url/get", `{"product_name":"x","product_price":"5"}`, codeArgument},
		{"concise/url/get", `{"merchant_order_id":"h","product_name":"x","product_price":"5.001"}`, codeArgument},
		{"concise/url/get", `{"merchant_order_id":"taken","product_name":"x","product_price":"5"}`, codeDuplicate},
		{"concise/url/get", `{"merchant_order_id":"h","product_name":"x","product_price":"5","return_url":"javascript:x"}`, codeArgument},
		{"concise/url/get", `{"merchant_order_id":"h","product_name":"x","product_price":"5","order_valid_period":864001}`, codeValidTooLong},
		{"concise/url/get", `{"merchant_order_id":"h","product_name":"x","product_price":"5"}`, codeSuccess},

		{"bill/info", `{}`, codeArgument},
		{"bill/info", `{"merchant_order_ids":[]}`, codeArgument},
		{"bill/info", `{"merchant_order_ids":"taken"}`, codeArgument},
		{"bill/info", `{"merchant_order_ids":[1]}`, codeArgument},
		{"bill/info", `{"merchant_order_ids":[` + ids + `]}`, codeSuccess},
		{"bill/info", `{"merchant_order_ids":[` + ids + `,"x"]}`, codeQueryTooMany},

		{"token/rate", `{"amount":"1000"}`, codeToken},
		{"token/rate", `{"amount":1000,"token_id":"` + usdtTRC20 + `"}`, codeArgument},
		{"token/rate", `{"amount":"0","token_id":"` + usdtTRC20 + `"}`, codeArgument},
		{"token/rate", `{"amount":"1000","token_id":"` + usdtTRC20 + `"}`, codeSuccess},

		{"coin/all", ``, codeSuccess},
		{"coin/all", `{}`, codeSuccess},
		{"coin/all", `[]`, codeArgument},

		{"webhook/resend", `{}`, codeArgument},
		{"webhook/resend", `{"start_timestamp":"1"}`, codeArgument},
		{"webhook/resend", `{"start_timestamp":1700000000,"end_timestamp":1700003601}`, codeQueryTooLong},
		{"webhook/resend", `{"start_timestamp":1700000000,"end_timestamp":1699999999}`, codeArgument},
		{"webhook/resend", `{"start_timestamp":1700000000,"webhook_result":"All"}`, codeArgument},
		{"webhook/resend", `{"start_timestamp":1700000000,"transaction_type":"Deposit"}`, codeArgument},
		{"webhook/resend", `{"start_timestamp":1700000000,"end_timestamp":1700003600}`, codeSuccess},
		{"webhook/resend", `{"start_timestamp":1700000000,"end_timestamp":1700003600}`, codeRateLimit},
	} {
		if e := call(t, s, tc.endpoint, tc.body); e.Code != tc.want {
			t.Errorf("%s %.100s: got code %d (%s), want %d", tc.endpoint, tc.body, e.Code, e.Msg, tc.want)
		}
	}
}

// keys are the names in an object and in the objects below it.
func keys(path string, v any) []string {
	var names []string
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			names = append(names, path+name+" "+fmt.Sprintf("%T", value))
			names = append(names, keys(path+name+".", value)...)
		}
	case []any:
		for _, value := range v {
			names = append(names, keys(path+"[].", value)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// sameShape compares names and types with a documented example.
func sameShape(t *testing.T, example string, got []byte, without ...string) {
	t.Helper()
	var want, have any
	readTestdata(t, example, &want)
	if err := json.Unmarshal(got, &have); err != nil {
		t.Fatal(err)
	}
	filter := func(names []string) []string {
		return slices.DeleteFunc(names, func(name string) bool {
			return slices.ContainsFunc(without, func(p string) bool { return strings.HasPrefix(name, p) })
		})
	}
	if w, h := filter(keys("", want)), filter(keys("", have)); !slices.Equal(w, h) {
		t.Errorf("not as in %s:\nwant %q\n got %q", example, w, h)
	}
}

func TestAnswersLookAsDocumented(t *testing.T) {
	s, _ := newTestSandbox(t)
	post := func(endpoint, body string) []byte {
		return serve(s, apiRequest(s, endpoint, body)).Body.Bytes()
	}
	create := post("bill/create", createBody("shape"))
	sameShape(t, "v1-bill-create-response.json", create)
	var bill struct {
		Data struct{ Amount, Logo, Network, Crypto string }
	}
	if err := json.Unmarshal(create, &bill); err != nil {
		t.Fatal(err)
	}
	if d := bill.Data; d.Amount != "50.00" || d.Logo != "http://gateway.test/sandbox/logo/usdt.svg" || d.Network != "TRC20" || d.Crypto != "USDT" {
		t.Errorf("got %+v", d)
	}

	act(t, s, "shape", "pay", nil)
	sameShape(t, "v1-bill-info-deposit-response.json", post("bill/info", `{"merchant_order_ids":["unknown","shape","shape"]}`), "data.[].refund_list.")
	sameShape(t, "v1-token-rate-response.json", post("token/rate", `{"amount":"1000","token_id":"`+usdtTRC20+`"}`))
	sameShape(t, "v1-concise-url-get-response.json",
		post("concise/url/get", `{"merchant_order_id":"hosted","product_name":"x","product_price":"5"}`))
}

// TestDocumentedRequest sends the request of the gateway's documentation as it is.
func TestDocumentedRequest(t *testing.T) {
	s, _ := newTestSandbox(t)
	var req json.RawMessage
	readTestdata(t, "v1-bill-create-request.json", &req)
	e := call(t, s, "bill/create", string(req))
	var data struct {
		Amount string
		Valid  int64 `json:"order_valid_period"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil || data.Amount != "0.5" || data.Valid != 823456 {
		t.Errorf("got %+v", e)
	}
}

// TestDocumentedAmounts checks the rule for rounding against every amount of the
// documentation that satisfies its own formula.
func TestDocumentedAmounts(t *testing.T) {
	d := decimal.RequireFromString
	one := d("1")
	if got := amountDue(d("0.1"), one, d("0.3582"), 18).String(); got != "0.279173646007816863" {
		t.Errorf("bill/info: got %s", got)
	}
	if got := amountDue(d("18"), one, d("1867.69"), 18).String(); got != "0.009637573687282151" {
		t.Errorf("invoice: got %s", got)
	}
	if got := serviceFee(d("0.279173646007816863"), 18).String(); got != "0.000083752093802346" {
		t.Errorf("service fee: got %s", got)
	}
	if got := d("1000").DivRound(d("16944.3"), 16).String(); got != "0.0590168965374787" {
		t.Errorf("token/rate: got %s", got)
	}
	if got := amountDue(d("50"), one, d("0.5"), 6).String(); got != "100" {
		t.Errorf("exact: got %s", got)
	}
}

func TestCoinAll(t *testing.T) {
	s, _ := newTestSandbox(t)
	e := call(t, s, "coin/all", "")
	var data struct {
		List []struct {
			Symbol, Price, Logo string
			Tokens              []struct {
				TokenID   string `json:"token_id"`
				Memo      bool   `json:"is_support_memo"`
				Precision int
				ChainLogo string `json:"chain_logo"`
			}
		}
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, c := range data.List {
		for _, token := range c.Tokens {
			count++
			for _, address := range []string{c.Logo, token.ChainLogo} {
				if w := serve(s, httptest.NewRequest(http.MethodGet, address, nil)); w.Code != http.StatusOK {
					t.Errorf("%s: status %d", address, w.Code)
				}
			}
			body := strings.Replace(createBody("order-"+token.TokenID), usdtTRC20, token.TokenID, 1)
			e := call(t, s, "bill/create", body)
			var bill struct{ Memo string }
			if err := json.Unmarshal(e.Data, &bill); err != nil || e.Code != codeSuccess {
				t.Fatalf("%s: %+v", c.Symbol, e)
			}
			if (bill.Memo != "") != token.Memo {
				t.Errorf("%s: memo %q", c.Symbol, bill.Memo)
			}
		}
	}
	if count != 5 {
		t.Errorf("got %d tokens", count)
	}
}

func TestFaults(t *testing.T) {
	s, _ := newTestSandbox(t)
	set := func(form url.Values) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "http://gateway.test/sandbox/faults", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", "application/json")
		return serve(s, r)
	}
	for _, form := range []url.Values{
		{"endpoint": {"bill/delete"}, "fault": {faultError}},
		{"endpoint": {"coin/all"}, "fault": {"earthquake"}},
		{"endpoint": {"coin/all"}, "fault": {faultError}, "times": {"0"}},
	} {
		if w := set(form); w.Code != http.StatusBadRequest {
			t.Errorf("%v: status %d", form, w.Code)
		}
	}
	for name, check := range map[string]func(w *httptest.ResponseRecorder) bool{
		faultSignature: func(w *httptest.ResponseRecorder) bool {
			return w.Code == 200 && w.Header().Get("Sign") != "" &&
				w.Header().Get("Sign") != signature(w.Header().Get("Timestamp"), w.Body.Bytes())
		},
		faultError: func(w *httptest.ResponseRecorder) bool {
			return w.Code == 200 && w.Body.String() == `{"code":224066,"msg":"service err, please try again"}`+"\n" && w.Header().Get("Sign") == ""
		},
		fault500: func(w *httptest.ResponseRecorder) bool { return w.Code == 500 },
		faultHTML: func(w *httptest.ResponseRecorder) bool {
			return w.Code == 200 && strings.HasPrefix(w.Body.String(), "<!")
		},
		faultDrop: func(w *httptest.ResponseRecorder) bool { return w.Body.Len() == 0 },
		faultBig: func(w *httptest.ResponseRecorder) bool {
			return w.Body.Len() == bigAnswer && w.Header().Get("Sign") == signature(w.Header().Get("Timestamp"), w.Body.Bytes())
		},
	} {
		if w := set(url.Values{"endpoint": {"coin/all"}, "fault": {name}, "times": {"2"}}); w.Code != http.StatusOK {
			t.Fatalf("%s: status %d", name, w.Code)
		}
		// Neither another endpoint nor a request without signature uses it up.
		create(t, s, "fault-"+name)
		stray := apiRequest(s, "coin/all", "")
		stray.Header.Set("Sign", "x")
		serve(s, stray)
		for i := range 2 {
			if w := serve(s, apiRequest(s, "coin/all", "")); !check(w) {
				t.Errorf("%s %d: status %d, body %.80q", name, i, w.Code, w.Body)
			}
		}
		if e := call(t, s, "coin/all", ""); e.Code != codeSuccess {
			t.Errorf("%s: not over", name)
		}
	}

	// A request whose answer is lost has taken effect.
	set(url.Values{"endpoint": {"bill/create"}, "fault": {faultDrop}})
	serve(s, apiRequest(s, "bill/create", createBody("lost")))
	if e := call(t, s, "bill/create", createBody("lost")); e.Code != codeDuplicate {
		t.Errorf("got %+v", e)
	}

	// One whose answer never comes ends with the client's patience.
	set(url.Values{"endpoint": {"coin/all"}, "fault": {faultHang}})
	r := apiRequest(s, "coin/all", "")
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve(s, r.WithContext(ctx))
	}()
	cancel()
	<-done

	// And a fault can be switched off.
	set(url.Values{"endpoint": {"coin/all"}, "fault": {faultError}, "times": {"9"}})
	set(url.Values{"endpoint": {"coin/all"}, "fault": {faultNone}})
	if e := call(t, s, "coin/all", ""); e.Code != codeSuccess {
		t.Error("the fault is still on")
	}
}

func TestBoundedOrders(t *testing.T) {
	s, _ := newTestSandbox(t)
	st := s.state
	st.mu.Lock()
	for i := range maxOrders + 5 {
		o := &order{id: st.newID(), merchantID: strconv.Itoa(i), created: st.now(), expires: st.now()}
		if i%2 == 0 {
			o.key = newKey()
		}
		st.add(o)
	}
	orders, byID, byMerchant, byKey := len(st.orders), len(st.byID), len(st.byMerchant), len(st.byKey)
	st.mu.Unlock()
	if orders != maxOrders || byID != maxOrders || byMerchant != maxOrders || byKey > maxOrders/2+1 {
		t.Errorf("got %d, %d, %d, %d", orders, byID, byMerchant, byKey)
	}
}
