package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// hmacSigner signs at one time, as API v2 does.
type hmacSigner struct{}

func (hmacSigner) Sign(body []byte) (string, string, string) {
	return appID, timestamp, signV2(timestamp, body)
}

func (hmacSigner) Verify(id, timestamp, signature string, body []byte) (time.Time, error) {
	if id != appID || signature != signV2(timestamp, body) {
		return time.Time{}, errors.New("signature does not match")
	}
	return time.Unix(1677152490, 0), nil
}

// gatewayV2 answers by endpoint and remembers what it was asked. An endpoint without an
// answer does not know anything.
type gatewayV2 struct {
	*testing.T
	client gateway.Client

	mu      sync.Mutex
	answers map[string]string
	asked   []string
}

const (
	coinList = `{"code":10000,"msg":"success","data":{"coins":[
		{"coinId":1280,"symbol":"USDT","coinFullName":"Tether USD","logoUrl":"https://gateway.example.com/usdt.png","status":"Normal","networks":{
			"TRX":{"chain":"TRX","chainFullName":"Tron","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","precision":6,"canDeposit":true,"isSupportMemo":false},
			"BSC":{"chain":"BSC","chainFullName":"Binance Smart Chain","precision":18,"canDeposit":false}}},
		{"coinId":1329,"symbol":"POL","status":"Maintain","networks":{"POLYGON":{"precision":18}}},
		{"symbol":"without a number"}]}}`
	fiatList   = `{"code":10000,"msg":"success","data":{"fiats":[{"fiatId":1033,"symbol":"USD","usdRate":"1"},{"fiatId":1022,"symbol":"DKK","usdRate":"6.825765"}]}}`
	duplicate  = `{"code":11011,"msg":"OrderDuplicate"}`
	tooMany    = `{"code":11004,"msg":"rate limit"}`
	createPath = "/createAppOrderDepositAddress"
	created    = `{"code":10000,"msg":"success","data":{"address":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt","amount":"50.015005","memo":"","confirmsNeeded":20}}`
)

func startV2(t *testing.T, answers map[string]string) *gatewayV2 {
	t.Helper()
	g := &gatewayV2{T: t, answers: map[string]string{"/getCoinList": coinList, "/getFiatList": fiatList}}
	maps.Copy(g.answers, answers)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Sign") != signV2(r.Header.Get("Timestamp"), body) {
			t.Errorf("the signature of %s does not fit its body", r.URL.Path)
		}
		path := strings.TrimPrefix(r.URL.Path, "/ccpayment/v2")
		answer, ok := g.ask(path, string(body))
		switch {
		case !ok:
			answer = `{"code":11003,"msg":"NotFound"}`
		case answer == "lost":
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, answer)
	}))
	transport := gateway.NewTransport()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	g.client = gateway.NewV2(gateway.Config{Signer: hmacSigner{}, AppID: appID, Endpoint: server.URL + "/ccpayment/v2", Timeout: 10 * time.Second, Transport: transport})
	return g
}

func (g *gatewayV2) ask(path, body string) (answer string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, path+" "+body)
	answer, ok = g.answers[path]
	return answer, ok
}

func (g *gatewayV2) answer(path, body string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers[path] = body
}

// expect checks what was asked, lists of the gateway left out, and forgets it.
func (g *gatewayV2) expect(want ...string) {
	g.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	var got []string
	for _, a := range g.asked {
		if !strings.Contains(a, "List ") {
			got = append(got, a)
		}
	}
	g.asked = nil
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		g.Errorf("the gateway was asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// orderV2 is an order of API v2.
var orderV2 = gateway.Order{
	Reference: "testorderid1111", Price: amount("50"), Currency: "USD", TokenID: "1280 TRX",
	ValidFor: time.Hour, ExpiresAt: time.Unix(1710243931, 999), Title: "2 × Field guide", ReturnURL: "https://shop.example.com/thanks/", NotifyURL: "https://shop.example.com/hooks",
}

var trxV2 = bill.Token{CoinID: 1280, Crypto: "USDT", Network: "Tron", Chain: "TRX", Contract: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"}

const createRequest = `{"coinId":1280,"chain":"TRX","price":"50.00","fiatId":1033,"orderId":"testorderid1111","expiredAt":1710243931,"notifyUrl":"https://shop.example.com/hooks"}`

func TestAnOrderOfV2(t *testing.T) {
	g := startV2(t, map[string]string{createPath: created})
	for range 3 {
		got, err := g.client.Create(t.Context(), orderV2)
		want := gateway.Created{
			OrderID: "testorderid1111", Address: "TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt", Crypto: "USDT", Network: "Tron",
			Due: gateway.Due{Amount: amount("50.015005"), Token: trxV2},
		}
		if err != nil || !same(got, want) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	g.mu.Lock()
	if n := len(g.asked); n != 5 {
		t.Errorf("%d requests for three orders and two lists", n)
	}
	g.mu.Unlock()
	g.expect(createPath+" "+createRequest, createPath+" "+createRequest, createPath+" "+createRequest)

	// The documented answer is understood too.
	g.answer(createPath, string(testdata(t, "v2-create-app-order-deposit-address-response.json")))
	o := orderV2
	o.TokenID = "1329 POLYGON"
	got, err := g.client.Create(t.Context(), o)
	if err != nil || got.Due.Amount.String() != "0.008552856654122477" || got.Due.Token != (bill.Token{CoinID: 1329, Crypto: "POL", Network: "POLYGON", Chain: "POLYGON"}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAnOrderOfV2TakesOnlyAUsableAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"no address":     strings.Replace(created, `"address"`, `"addresses"`, 1),
		"no amount":      strings.Replace(created, `"amount":"50.015005",`, ``, 1),
		"amount of zero": strings.Replace(created, `50.015005`, `0`, 1),
		"amount of text": strings.Replace(created, `50.015005`, `fifty`, 1),
		"exponent":       strings.Replace(created, `"50.015005"`, `5e1`, 1),
		"data null":      `{"code":10000,"msg":"success","data":null}`,
		"HTML":           `<html>`,
		"lost":           `lost`,
	} {
		g := startV2(t, map[string]string{createPath: answer})
		got, err := g.client.Create(t.Context(), orderV2)
		var e *gateway.Error
		if !errors.As(err, &e) || e.Failure != gateway.Unreachable || e.Endpoint != createPath || !same(got, gateway.Created{}) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	g := startV2(t, map[string]string{createPath: strings.Replace(created, `"50.015005"`, `50.015005`, 1)})
	if got, err := g.client.Create(t.Context(), orderV2); err != nil || got.Due.Amount.String() != "50.015005" {
		t.Errorf("a number: %+v, %v", got, err)
	}
}

const orderInfo = `{"code":10000,"msg":"success","data":{"amountToPay":"50.015005","coinId":1280,"coinSymbol":"USDT","chain":"TRX","toAddress":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt","toMemo":"","fiatId":1033,"fiatSymbol":"USD","expiredAt":1710243931,"paidList":[%s]}}`

func TestALostAnswerIsFound(t *testing.T) {
	found := fmt.Sprintf(orderInfo, "")
	for _, test := range []struct {
		name, answer, info string
		code               int // of the refusal that stays; 0 if the order is found, -1 if the failure stays
	}{
		{"broken connection", "lost", found, 0},
		{"HTML", "<html>", found, 0},
		{"made before", duplicate, found, 0},
		{"not made", "lost", `{"code":11003,"msg":"NotFound"}`, -1},
		{"made by others", duplicate, strings.Replace(found, "1280", "1329", 1), 11011},
		{"on another chain", duplicate, strings.Replace(found, "TRX", "BSC", 1), 11011},
		{"of another sort", duplicate, `{"code":11003,"msg":"NotFound"}`, 11011},
		{"refused", `{"code":13001,"msg":"InvalidChain"}`, found, 13001},
	} {
		g := startV2(t, map[string]string{createPath: test.answer, "/getAppOrderInfo": test.info})
		got, err := g.client.Create(t.Context(), orderV2)
		var e *gateway.Error
		switch {
		case test.code == 0:
			if err != nil || got.Address == "" || got.Due.Amount.String() != "50.015005" {
				t.Errorf("%s: got %+v, %v", test.name, got, err)
			}
		case !errors.As(err, &e) || test.code > 0 && e.Code != test.code || test.code < 0 && e.Failure != gateway.Unreachable:
			t.Errorf("%s: got %v", test.name, err)
		case gateway.IsDuplicate(err) != (test.code == 11011):
			t.Errorf("%s: duplicate is %v", test.name, gateway.IsDuplicate(err))
		}
		n := 0
		for _, a := range g.asked {
			if strings.HasPrefix(a, createPath) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: %d orders were asked for", test.name, n)
		}
	}
}

func TestAnInvoiceOfV2(t *testing.T) {
	const path = "/createInvoiceUrl"
	g := startV2(t, map[string]string{path: string(testdata(t, "v2-create-invoice-url-response.json"))})
	o := orderV2
	o.Currency = "DKK"
	if url, err := g.client.CreateHosted(t.Context(), o); err != nil || url != "https://i.ccpayment.com/xxx" {
		t.Errorf("got %q, %v", url, err)
	}
	g.expect(path + ` {"orderId":"testorderid1111","price":"50.00","priceFiatId":"1022","product":"2 × Field guide","expiredAt":1710243931,"returnUrl":"https://shop.example.com/thanks/","notifyUrl":"https://shop.example.com/hooks"}`)

	o.Currency = "XXX"
	if _, err := g.client.CreateHosted(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no currency XXX; it has DKK, USD") {
		t.Errorf("got %v", err)
	}
	for _, answer := range []string{`{"code":10000,"data":{"invoiceUrl":"javascript:alert(1)"}}`, `{"code":10000,"data":{}}`} {
		g.answer(path, answer)
		if url, err := g.client.CreateHosted(t.Context(), orderV2); err == nil {
			t.Errorf("%s gave %q", answer, url)
		}
	}
	g.answer(path, "lost")
	g.answer("/getInvoiceOrderInfo", `{"code":10000,"data":{"price":"50","invoiceUrl":"https://i.ccpayment.com/found"}}`)
	if url, err := g.client.CreateHosted(t.Context(), orderV2); err != nil || url != "https://i.ccpayment.com/found" {
		t.Errorf("a lost answer: %q, %v", url, err)
	}
	g.answer("/getInvoiceOrderInfo", `{"code":10000,"data":{"price":"5","invoiceUrl":"https://i.ccpayment.com/other"}}`)
	if url, err := g.client.CreateHosted(t.Context(), orderV2); err == nil {
		t.Errorf("an invoice of another price: %q", url)
	}
}

func TestCoinsOfV2AreListedByNumberAndChain(t *testing.T) {
	g := startV2(t, nil)
	got, err := g.client.Tokens(t.Context())
	want := map[string]gateway.Listed{
		"1280 TRX":     {Token: trxV2, Logo: "https://gateway.example.com/usdt.png", Usable: true},
		"1280 BSC":     {Token: bill.Token{CoinID: 1280, Crypto: "USDT", Network: "Binance Smart Chain", Chain: "BSC"}, Logo: "https://gateway.example.com/usdt.png"},
		"1329 POLYGON": {Token: bill.Token{CoinID: 1329, Crypto: "POL", Network: "POLYGON", Chain: "POLYGON"}},
	}
	if err != nil || !same(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestResendOfV2(t *testing.T) {
	g := startV2(t, map[string]string{"/webhook/resend": string(testdata(t, "v2-webhook-resend-response.json"))})
	if err := g.client.Resend(t.Context(), time.Unix(1710145756, 5), time.Unix(1710149356, 0)); err != nil {
		t.Error(err)
	}
	g.expect(`/webhook/resend {"startTimestamp":1710145756,"endTimestamp":1710149356,"webhookResult":"Failed","transactionType":"AllType"}`)
}

func TestLookupOfV2ReadsTheDocumentedAnswers(t *testing.T) {
	g := startV2(t, map[string]string{
		"/getAppOrderInfo":     string(testdata(t, "v2-get-app-order-info-response.json")),
		"/getAppDepositRecord": `{"code":10000,"data":{"record":{"recordId":"20240312090316119190942031876096","orderId":"1709889675","isFlaggedAsRisky":false}}}`,
	})
	infos, err := g.client.Lookup(t.Context(), []string{"1709889675"})
	polygon := bill.Token{CoinID: 1329, Crypto: "POL", Network: "POLYGON", Chain: "POLYGON"} // MATIC, as it is called now
	want := map[string]gateway.Info{"1709889675": {
		Reference: "1709889675",
		OrderID:   "1709889675",
		Due:       gateway.Due{Amount: amount("0.008552856654122477"), Token: polygon},
		Payments: []gateway.Seen{{
			ID: "20240312090316119190942031876096", Status: bill.Success, Amount: amount("0.001"), Token: polygon, ServiceFee: "0.0000005",
			TxID: "0xef4abf7175cefbe2f06002a959892e4b407bef02175980eaa9bb1967fcba1b22", PaidAt: time.Unix(1710234197, 0).UTC(),
		}},
	}}
	if err != nil || !same(infos, want) {
		t.Errorf("got  %+v, %v\nwant %+v", infos, err, want)
	}

	g = startV2(t, map[string]string{"/getInvoiceOrderInfo": string(testdata(t, "v2-get-invoice-order-info-response.json"))})
	for range 2 {
		infos, err = g.client.Lookup(t.Context(), []string{"172707...."})
		if p := infos["172707...."].Payments; err != nil || len(p) != 2 || p[0].Amount.String() != "0.5" || p[0].Due.String() != "1" ||
			p[1].Token != (bill.Token{CoinID: 1340, Crypto: "CELO", Chain: "CELO"}) || p[1].Due.String() != "0.522400000000000008" {
			t.Errorf("got %+v, %v", infos, err)
		}
	}
	// What sort an order is of is asked once.
	g.expect(`/getAppOrderInfo {"orderId":"172707...."}`, `/getInvoiceOrderInfo {"orderId":"172707...."}`, `/getInvoiceOrderInfo {"orderId":"172707...."}`)
}

func TestLookupOfV2WithoutAWordAboutRisk(t *testing.T) {
	info := fmt.Sprintf(orderInfo, `{"recordId":"r1","amount":"50","status":"Success"},{"recordId":"r2","amount":"1","status":"Success","isFlaggedAsRisky":true},{"recordId":"r3","amount":"1","status":"Processing"}`)
	for name, test := range map[string]struct{ record, want string }{
		"the record clears it":     {`{"code":10000,"data":{"record":{"recordId":"r1","orderId":"abc","isFlaggedAsRisky":false}}}`, "success false, success true, processing false"},
		"the record flags it":      {`{"code":10000,"data":{"record":{"recordId":"r1","orderId":"abc","isFlaggedAsRisky":true}}}`, "success true, success true, processing false"},
		"the record says nothing":  {`{"code":10000,"data":{"record":{"recordId":"r1","orderId":"abc"}}}`, "pending false, success true, processing false"},
		"the record is of others":  {`{"code":10000,"data":{"record":{"recordId":"r1","orderId":"xyz","isFlaggedAsRisky":false}}}`, "pending false, success true, processing false"},
		"the record is of nobody":  {`{"code":10000,"data":{"record":{"recordId":"r1","isFlaggedAsRisky":false}}}`, "pending false, success true, processing false"},
		"the record is not there":  {`{"code":11003,"msg":"NotFound"}`, "pending false, success true, processing false"},
		"there is no record at it": {`{"code":10000,"data":{}}`, "pending false, success true, processing false"},
	} {
		g := startV2(t, map[string]string{"/getAppOrderInfo": info, "/getAppDepositRecord": test.record})
		infos, err := g.client.Lookup(t.Context(), []string{"abc"})
		var got []string
		for _, p := range infos["abc"].Payments {
			got = append(got, fmt.Sprint(p.Status, " ", p.Risky))
		}
		if err != nil || strings.Join(got, ", ") != test.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func callbackV2(t *testing.T, kind, status, more string) gateway.Callback {
	t.Helper()
	cb, err := parserV2.ParseCallback(fmt.Appendf(nil, `{"type":%q,"msg":{"recordId":"r1","orderId":"abc","coinId":1280,"coinSymbol":"USDT","status":%q%s}}`, kind, status, more))
	if err != nil {
		t.Fatal(err)
	}
	return cb
}

func TestACallbackOfV2IsCompleted(t *testing.T) {
	paid := func(more string) string {
		return fmt.Sprintf(orderInfo, `{"recordId":"r0","amount":"1","status":"Success"},{"recordId":"r1","amount":"50.015005","serviceFee":"0.01","txid":"tx1","arrivedAt":1710234197,"isFlaggedAsRisky":false,`+more+`}`)
	}
	record := func(more string) string {
		return `{"code":10000,"data":{"record":{"recordId":"r1","orderId":"abc","coinId":1280,"coinSymbol":"USDT","chain":"BSC","contract":"0x55d398326f99059fF775485246999027B3197955","amount":"7","serviceFee":"0","txId":"tx1","status":"Success","arrivedAt":1710234197,"isFlaggedAsRisky":false` + more + `}}}`
	}
	bsc := bill.Token{CoinID: 1280, Crypto: "USDT", Network: "Binance Smart Chain", Chain: "BSC", Contract: "0x55d398326f99059fF775485246999027B3197955"}
	for _, test := range []struct {
		name, kind, status, more string
		answers                  map[string]string
		amount                   string // "" if it stays incomplete
		token                    bill.Token
		risky                    bool
	}{
		{"listed", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": paid(`"status":"Success"`)}, "50.015005", trxV2, false},
		{"flagged by the callback", "ApiDeposit", "Success", `,"isFlaggedAsRisky":true`, map[string]string{"/getAppOrderInfo": paid(`"status":"Success"`)}, "50.015005", trxV2, true},
		{"flagged by the list", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": strings.Replace(paid(`"status":"Success"`), ":false", ":true", 1)}, "50.015005", trxV2, true},
		{"further on the list", "ApiDeposit", "Processing", "", map[string]string{"/getAppOrderInfo": paid(`"status":"Success"`)}, "50.015005", trxV2, false},
		{"not so far on the list", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": paid(`"status":"Processing"`)}, "", bill.Token{}, false},
		{"failed on the list", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": paid(`"status":"Failed"`)}, "", bill.Token{}, false},
		{"failed", "ApiDeposit", "Failed", "", map[string]string{"/getAppOrderInfo": paid(`"status":"Failed"`)}, "50.015005", trxV2, false},
		{"in another coin", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": fmt.Sprintf(orderInfo, ""), "/getAppDepositRecord": record("")}, "7", bsc, false},
		{"in another coin of the same name", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": fmt.Sprintf(orderInfo, ""), "/getAppDepositRecord": strings.NewReplacer("1280", "9999", `"BSC"`, `"TRX"`).Replace(record(""))}, "7", bill.Token{CoinID: bill.NoCoin, Crypto: "USDT", Chain: "TRX", Contract: "0x55d398326f99059fF775485246999027B3197955"}, false},
		{"of another order", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": fmt.Sprintf(orderInfo, ""), "/getAppDepositRecord": strings.Replace(record(""), `"abc"`, `"xyz"`, 1)}, "", bill.Token{}, false},
		{"nothing is known", "ApiDeposit", "Success", "", nil, "", bill.Token{}, false},
		{"the order only", "ApiDeposit", "Success", "", map[string]string{"/getAppOrderInfo": fmt.Sprintf(orderInfo, "")}, "", bill.Token{}, false},
		{"to a permanent address", "DirectDeposit", "Success", "", map[string]string{"/getAppDepositRecord": record("")}, "7", bsc, false},
		{"of a user", "UserDeposit", "Success", "", map[string]string{"/getUserDepositRecord": record("")}, "7", bsc, false},
		{"of a user, as another one", "UserDeposit", "Success", "", map[string]string{"/getAppDepositRecord": record("")}, "", bill.Token{}, false},
		{"a record without an amount", "DirectDeposit", "Success", "", map[string]string{"/getAppDepositRecord": strings.Replace(record(""), `"7"`, `""`, 1)}, "", bill.Token{}, false},
		{"a record of zero", "DirectDeposit", "Success", "", map[string]string{"/getAppDepositRecord": strings.Replace(record(""), `"7"`, `"0"`, 1)}, "", bill.Token{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := startV2(t, test.answers)
			got, err := g.client.Complete(t.Context(), callbackV2(t, test.kind, test.status, test.more))
			if test.amount == "" {
				if !errors.Is(err, gateway.ErrUnlisted) || !got.Incomplete {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err != nil || got.Incomplete || got.Amount.String() != test.amount || got.Token != test.token || got.Risky != test.risky ||
				got.TxID != "tx1" || got.ArrivedAt.Unix() != 1710234197 {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestAnInvoicesCallbackLearnsWhatIsDueInItsCoin(t *testing.T) {
	g := startV2(t, map[string]string{"/getInvoiceOrderInfo": `{"code":10000,"data":{"price":"50.00","priceFiatId":1033,"priceSymbol":"USD","paidList":[
		{"recordId":"r1","coinId":1280,"coinSymbol":"USDT","chain":"TRX","paidAmount":"50.015005","rate":"0.9997","status":"Success","isFlaggedAsRisky":false,"arrivedAt":"1710234197"}]}}`})
	got, err := g.client.Complete(t.Context(), callbackV2(t, "ApiDeposit", "Success", ""))
	if err != nil || got.Due.String() != "50.015005" || got.Price != "50.00" || got.Currency != "USD" || got.Amount.String() != "50.015005" || got.ArrivedAt.Unix() != 1710234197 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAGatewayThatCannotBeAskedDeniesNothing(t *testing.T) {
	for name, answer := range map[string]string{"broken": "lost", "HTML": "<html>", "too many": tooMany, "wrong generation": `{"code":11013,"msg":"NoSupportVersion"}`, "data of another form": `{"code":10000,"data":[]}`} {
		g := startV2(t, map[string]string{"/getAppOrderInfo": answer})
		if _, err := g.client.Complete(t.Context(), callbackV2(t, "ApiDeposit", "Success", "")); err == nil || errors.Is(err, gateway.ErrUnlisted) {
			t.Errorf("%s: %v", name, err)
		}
		if infos, err := g.client.Lookup(t.Context(), []string{"abc"}); errors.Join(err, infos["abc"].Err) == nil || errors.Is(infos["abc"].Err, gateway.ErrUnlisted) {
			t.Errorf("%s: %v, %v", name, infos, err)
		}
	}
}

func TestTooManyQuestionsGiveTheGatewayARest(t *testing.T) {
	g := startV2(t, map[string]string{"/getAppOrderInfo": tooMany})
	for range 3 {
		_, err := g.client.Lookup(t.Context(), []string{"abc"})
		var e *gateway.Error
		if !errors.As(err, &e) || !e.Retryable() || e.RetryAfter() <= 0 {
			t.Errorf("got %v", err)
		}
	}
	g.expect(`/getAppOrderInfo {"orderId":"abc"}`)
	// Buyers are not kept waiting for it.
	g.answer(createPath, created)
	if _, err := g.client.Create(t.Context(), orderV2); err != nil {
		t.Error(err)
	}
}

// roundTripper answers without a network, so that time can be simulated around it.
type roundTripper func(*http.Request) string

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(f(r))), Header: http.Header{}, Request: r}, nil
}

func TestQuestionsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, limit := 0, false
		client := gateway.NewV2(gateway.Config{Signer: hmacSigner{}, AppID: appID, Endpoint: "http://gateway.test", Transport: roundTripper(func(r *http.Request) string {
			switch r.URL.Path {
			case "/getCoinList":
				return coinList
			case "/getAppOrderInfo":
				if asked++; limit {
					return tooMany
				}
			}
			return fmt.Sprintf(orderInfo, "")
		})})
		var references []string
		for i := range 100 {
			references = append(references, fmt.Sprint("order-", i))
		}
		began := time.Now()
		infos, err := client.Lookup(t.Context(), references)
		if took := time.Since(began); err != nil || len(infos) != 100 || took < 15*time.Second || took > time.Minute {
			t.Errorf("%d orders in %s, %v", len(infos), took, err)
		}
		// The rest grows with each refusal after it, and ends.
		limit = true
		for _, rest := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
			asked = 0
			for range 3 {
				_, _ = client.Lookup(t.Context(), references)
			}
			time.Sleep(rest - time.Second)
			_, _ = client.Lookup(t.Context(), references)
			if asked != 1 {
				t.Errorf("%d questions in a rest of %s", asked, rest)
			}
			time.Sleep(time.Second)
		}
		limit = false
		if infos, err := client.Lookup(t.Context(), references[:1]); err != nil || len(infos) != 1 {
			t.Errorf("after the rest: %v, %v", infos, err)
		}
	})
}

func TestWhatWasAnsweredBeforeAFailureIsKept(t *testing.T) {
	g := startV2(t, map[string]string{"/getAppOrderInfo": fmt.Sprintf(orderInfo, "")})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	infos, err := g.client.Lookup(ctx, []string{"abc", "def"})
	if err != nil || len(infos) != 2 {
		t.Fatalf("got %v, %v", infos, err)
	}
	server := 0
	client := gateway.NewV2(gateway.Config{Signer: hmacSigner{}, AppID: appID, Endpoint: "http://gateway.test", Transport: roundTripper(func(r *http.Request) string {
		if r.URL.Path == "/getAppOrderInfo" {
			if server++; server == 2 {
				return tooMany
			}
		}
		if r.URL.Path == "/getCoinList" {
			return coinList
		}
		return fmt.Sprintf(orderInfo, "")
	})})
	if infos, err := client.Lookup(t.Context(), []string{"abc", "def", "ghi"}); err == nil || len(infos) != 1 {
		t.Errorf("got %v, %v", infos, err)
	}
}

// Signing answers is not documented for API v2. One that is signed must be so rightly.
func TestAnswersOfV2MayBeUnsigned(t *testing.T) {
	for name, test := range map[string]struct {
		timestamp, sign []string
		good            bool
	}{
		"unsigned":              {nil, nil, true},
		"signed":                {[]string{timestamp}, []string{signV2(timestamp, []byte(created))}, true},
		"signed as v1":          {[]string{timestamp}, []string{sign(timestamp, []byte(created))}, false},
		"signed for others":     {[]string{timestamp}, []string{signV2(timestamp, []byte("{}"))}, false},
		"without its time":      {nil, []string{signV2(timestamp, []byte(created))}, false},
		"without its signature": {[]string{timestamp}, nil, false},
		"empty":                 {[]string{""}, []string{""}, false},
		"signed twice":          {[]string{timestamp}, []string{signV2(timestamp, []byte(created)), signV2(timestamp, []byte(created))}, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/getCoinList":
				_, _ = io.WriteString(w, coinList)
				return
			case "/getFiatList":
				_, _ = io.WriteString(w, fiatList)
				return
			}
			w.Header()["Timestamp"], w.Header()["Sign"] = test.timestamp, test.sign
			_, _ = io.WriteString(w, created)
		}))
		client := gateway.NewV2(gateway.Config{Signer: hmacSigner{}, AppID: appID, Endpoint: server.URL, Timeout: 10 * time.Second, Transport: gateway.NewTransport()})
		_, err := client.Create(t.Context(), orderV2)
		server.Close()
		var e *gateway.Error
		if test.good != (err == nil) || err != nil && (!errors.As(err, &e) || e.Failure != gateway.BadSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusalsSayWhatToChange(t *testing.T) {
	for code, want := range map[int]string{
		11013:  "set 'api v1'",
		225213: "set 'api v2'",
		11005:  "app_secret",
		12002:  "allow-list",
		14013:  "more decimals than the coin has",
		13001:  "look at 'method'",
	} {
		g := startV2(t, map[string]string{createPath: fmt.Sprintf(`{"code":%d,"msg":"no"}`, code)})
		_, err := g.client.Create(t.Context(), orderV2)
		var e *gateway.Error
		if !errors.As(err, &e) || e.Failure != gateway.Refused || e.Code != code || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", code, err)
		}
		if coin := code == 14013 || code == 13001; e != nil && e.OtherMethod() != coin {
			t.Errorf("%d: another method is %v", code, e.OtherMethod())
		}
	}
}
