package ccpayment

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A generation is what tests have to know of one of the gateway's APIs. Everything else
// about a shop is the same in both, and the tests say so by running on both.
type generation struct {
	api string
	// coin is how a method names its coin.
	coin string
	// Endpoints: an order, what is known of it, the gateway's page, the list of coins.
	create, info, hosted, coins string
	// unfinished are the endpoints without which a bill cannot be made, when each try
	// asks the first of them.
	unfinished []string
	// signature is the documented formula, written once more so that the plugin's own
	// signer is not the judge of itself.
	signature func(timestamp, body string) string
	vector    string // the name of its signatures in the vectors
	// deposit is the body of a callback about a payment to an order, unknown that of one
	// of a type that is not known, withdrawal that of one that is about no payment.
	deposit    func(reference, record, status, amount string) string
	unknown    string
	withdrawal func(reference string) string
	// twice are fields that a callback has already.
	twice [3]string
	// changes are the states of a bill, and whether it is confirming, while a payment is
	// seen and then confirmed.
	changes string
	// stale is the state of a callback with an old signature that is not confirmed.
	stale string
}

var generations = []*generation{
	{
		api: "v1", coin: testToken,
		create: "/bill/create", info: "/bill/info", hosted: "/concise/url/get", coins: "/coin/all",
		unfinished: []string{"/bill/info", "/token/rate"},
		signature:  signV1, vector: "v1_sign_sha256",
		deposit: deposit,
		unknown: `{"pay_status":"success","order_type":"Staking","record_id":"9","extend":"?"}`,
		withdrawal: func(reference string) string {
			return `{"pay_status":"success","order_type":"API Withdrawal","record_id":"f1","withdraw_amount":"1","crypto":"USDT","chain":"TRX","merchant_order_id":"` + reference + `"}`
		},
		twice:   [3]string{`"pay_status":"failed"`, `"PAY_STATUS":"failed"`, `"pay_ſtatus":"failed"`},
		changes: "awaiting_payment false, awaiting_payment true, paid false",
		stale:   "quarantined",
	},
	{
		api: "v2", coin: "1280 TRX",
		create: "/createAppOrderDepositAddress", info: "/getAppOrderInfo", hosted: "/createInvoiceUrl", coins: "/getCoinList",
		unfinished: []string{"/createAppOrderDepositAddress"},
		signature:  signV2, vector: "v2_sign_hmac_sha256",
		deposit: depositV2,
		unknown: `{"type":"RiskyAddress","msg":{"chainId":"1","address":"0x1","riskAt":1710234197}}`,
		withdrawal: func(reference string) string {
			return `{"type":"ApiWithdrawal","msg":{"recordId":"f1","orderId":"` + reference + `","coinId":1280,"coinSymbol":"USDT","status":"Success"}}`
		},
		twice: [3]string{`"type":"ApiDeposit"`, `"TYPE":"ApiDeposit"`, `"mſg":{}`},
		// Once when the callback comes, and once when the gateway has said what was paid.
		changes: "awaiting_payment false, awaiting_payment true, awaiting_payment true, paid false",
		stale:   "asking",
	},
}

// onBoth runs a test on both generations.
func onBoth(t *testing.T, test func(t *testing.T, gen *generation)) {
	t.Helper()
	for _, gen := range generations {
		t.Run(gen.api, func(t *testing.T) { test(t, gen) })
	}
}

// other is the generation that gen is not.
func (gen *generation) other() *generation {
	if gen == generations[0] {
		return generations[1]
	}
	return generations[0]
}

// depositV2 is the body of a callback of API v2 about a payment: it has no amount.
func depositV2(reference, record, status, _ string) string {
	return fmt.Sprintf(`{"type":"ApiDeposit","msg":{"recordId":%q,"orderId":%q,"coinId":1280,"coinSymbol":"USDT","status":%q,"isFlaggedAsRisky":false}}`,
		record, reference, strings.ToUpper(status[:1])+status[1:])
}

// signV1 is lowercase hex of SHA-256 over app id, secret, timestamp and body.
func signV1(timestamp, body string) string {
	sum := sha256.Sum256([]byte(testAppID + testSecret + timestamp + body))
	return hex.EncodeToString(sum[:])
}

// signV2 is lowercase hex of HMAC-SHA256 over app id, timestamp and body.
func signV2(timestamp, body string) string {
	h := hmac.New(sha256.New, []byte(testSecret))
	h.Write([]byte(testAppID + timestamp + body))
	return hex.EncodeToString(h.Sum(nil))
}

// signed writes a signed answer. In v2 nobody has documented that answers are signed,
// but one that is signed is verified.
func (gen *generation) signed(w http.ResponseWriter, body string) {
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	w.Header().Set("Appid", testAppID)
	w.Header().Set("Timestamp", timestamp)
	w.Header().Set("Sign", gen.signature(timestamp, body))
	_, _ = io.WriteString(w, body)
}

// fakeGateway answers like one generation of the API, or worse.
type fakeGateway struct {
	*httptest.Server
	gen      *generation
	mu       sync.Mutex
	requests map[string]int
	fault    map[string]func(w http.ResponseWriter)
	delay    map[string]time.Duration
	orders   []string                  // references, in order of creation
	payments map[string]map[string]pay // by order and record
	invoices map[string]bool
}

// pay is a payment as the gateway knows it.
type pay struct {
	record, status, amount string
	risky                  bool
	coin                   string // as its lists tell it; empty for the one of every order
}

// tells is the coin of a payment in the fields of API v2.
func (p pay) tells() string { return cmp.Or(p.coin, `"coinId":1280,"coinSymbol":"USDT","chain":"TRX"`) }

func newFakeGateway(t *testing.T, gen *generation) *fakeGateway {
	g := &fakeGateway{
		gen:      gen,
		requests: make(map[string]int),
		fault:    make(map[string]func(http.ResponseWriter)),
		delay:    make(map[string]time.Duration),
		payments: make(map[string]map[string]pay),
		invoices: make(map[string]bool),
	}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

func (g *fakeGateway) count(path string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.requests[path]
}

func (g *fakeGateway) total() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.requests {
		n += c
	}
	return n
}

func (g *fakeGateway) setFault(path string, f func(http.ResponseWriter)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault[path] = f
}

func (g *fakeGateway) setDelay(path string, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay[path] = d
}

// list has the gateway list a payment of an order from now on. A confirmed payment
// stays confirmed.
func (g *fakeGateway) list(reference string, p pay) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.payments[reference] == nil {
		g.payments[reference] = make(map[string]pay)
	}
	if g.payments[reference][p.record].status == "success" {
		p.status = "success"
	}
	g.payments[reference][p.record] = p
}

// listed returns the payments of an order.
func (g *fakeGateway) listed(reference string) []pay {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.payments[reference]), func(p, q pay) int { return cmp.Compare(p.record, q.record) })
}

func (g *fakeGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var in struct {
		MerchantOrderID  string   `json:"merchant_order_id"`
		MerchantOrderIDs []string `json:"merchant_order_ids"`
		ProductPrice     string   `json:"product_price"`
		TokenID          string   `json:"token_id"`
		CoinID           int64    `json:"coinId"`
		Chain            string   `json:"chain"`
		OrderID          string   `json:"orderId"`
		RecordID         string   `json:"recordId"`
	}
	_ = json.Unmarshal(body, &in)
	g.mu.Lock()
	g.requests[r.URL.Path]++
	fault, delay := g.fault[r.URL.Path], g.delay[r.URL.Path]
	switch r.URL.Path {
	case g.gen.create:
		g.orders = append(g.orders, in.MerchantOrderID+in.OrderID)
	case g.gen.hosted:
		g.invoices[in.OrderID] = true
	}
	g.mu.Unlock()
	time.Sleep(delay)
	if r.Header.Get("Sign") != g.gen.signature(r.Header.Get("Timestamp"), string(body)) {
		_, _ = io.WriteString(w, `{"code":11005,"msg":"bad signature"}`)
		return
	}
	if fault != nil {
		fault(w)
		return
	}
	var answer string
	switch r.URL.Path {
	case g.gen.create:
		if in.TokenID != g.gen.coin && fmt.Sprint(in.CoinID, " ", in.Chain) != g.gen.coin {
			_, _ = io.WriteString(w, `{"code":13001,"msg":"UnsupportedChain"}`)
			return
		}
	}
	switch r.URL.Path {
	case "/bill/create":
		answer = fmt.Sprintf(`{"amount":%q,"order_id":"order-of-%s","logo":"","network":"TRC20","pay_address":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt","memo":"","token_id":%q,"crypto":"USDT","order_valid_period":3600}`,
			in.ProductPrice, in.MerchantOrderID, in.TokenID)
	case "/bill/info":
		var trades []string
		for _, p := range g.listed(in.MerchantOrderIDs[0]) {
			if p.status == "success" {
				trades = append(trades, fmt.Sprintf(`{"amount":%q,"chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","txid":"tx-%s","pay_time":1684727677}`, p.amount, p.record))
			}
		}
		answer = fmt.Sprintf(`[{"order_detail":{"merchant_order_id":%q,"chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","crypto":"USDT","order_amount":"50.0137"},"trade_list":[%s],"refund_list":[]}]`,
			in.MerchantOrderIDs[0], strings.Join(trades, ","))
	case "/token/rate":
		answer = `{"price":"0.9997","value":"50.015005"}`
	case "/coin/all":
		answer = fmt.Sprintf(`{"list":[{"crypto":"USDT","status":1,"tokens":[{"token_id":%q,"crypto":"USDT","logo":"https://gateway.example.com/usdt.png","network":"TRC20","chain":"TRX","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","status":1}]}]}`, testToken)
	case "/concise/url/get":
		answer = `{"payment_url":"https://gateway.example.com/pay?key=1"}`

	case "/createAppOrderDepositAddress":
		g.mu.Lock()
		g.payments[in.OrderID] = make(map[string]pay)
		g.mu.Unlock()
		answer = `{"address":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt","amount":"50.0137","memo":"","confirmsNeeded":20}`
	case "/createInvoiceUrl":
		answer = `{"invoiceUrl":"https://gateway.example.com/pay?key=1"}`
	case "/getCoinList":
		answer = `{"coins":[{"coinId":1280,"symbol":"USDT","logoUrl":"https://gateway.example.com/usdt.png","status":"Normal","networks":{"TRX":{"chain":"TRX","chainFullName":"TRC20","contract":"TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t","precision":6,"canDeposit":true}}}]}`
	case "/getFiatList":
		answer = `{"fiats":[{"fiatId":1033,"symbol":"USD","usdRate":"1"}]}`
	case "/getAppOrderInfo", "/getInvoiceOrderInfo":
		answer = g.orderInfo(in.OrderID, r.URL.Path == "/getInvoiceOrderInfo")
	case "/getAppDepositRecord", "/getUserDepositRecord":
		answer = g.record(in.RecordID)
	default:
		http.NotFound(w, r)
		return
	}
	if answer == "" {
		_, _ = io.WriteString(w, `{"code":11003,"msg":"NotFound"}`)
		return
	}
	answer = `{"code":10000,"msg":"success","data":` + answer + `}`
	if g.gen.api == "v2" {
		_, _ = io.WriteString(w, answer)
		return
	}
	g.gen.signed(w, answer)
}

// orderInfo is what API v2 tells of an order that was made or has payments.
func (g *fakeGateway) orderInfo(reference string, invoice bool) string {
	payments := g.listed(reference)
	g.mu.Lock()
	known := g.invoices[reference] == invoice && (invoice || g.payments[reference] != nil)
	g.mu.Unlock()
	if !known {
		return ""
	}
	var list []string
	for _, p := range payments {
		list = append(list, fmt.Sprintf(`{"recordId":%q,%s,"amount":%q,"paidAmount":%q,"rate":"0.99972607506","status":%q,"txid":"tx-%s","arrivedAt":%d,"isFlaggedAsRisky":%v}`,
			p.record, p.tells(), p.amount, p.amount, strings.ToUpper(p.status[:1])+p.status[1:], p.record, time.Now().Unix(), p.risky))
	}
	if invoice {
		return fmt.Sprintf(`{"price":"50","priceFiatId":1033,"priceSymbol":"USD","invoiceUrl":"https://gateway.example.com/pay?key=1","paidList":[%s]}`, strings.Join(list, ","))
	}
	return fmt.Sprintf(`{"amountToPay":"50.0137","coinId":1280,"coinSymbol":"USDT","chain":"TRX","toAddress":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt","toMemo":"","paidList":[%s]}`, strings.Join(list, ","))
}

// record is what API v2 tells of one payment that belongs to no order.
func (g *fakeGateway) record(id string) string {
	for _, p := range g.listed("") {
		if p.record == id {
			return fmt.Sprintf(`{"record":{"recordId":%q,%s,"contract":"","amount":%q,"txId":"tx-%s","status":"Success","arrivedAt":%d,"isFlaggedAsRisky":%v}}`,
				p.record, p.tells(), p.amount, p.record, time.Now().Unix(), p.risky)
		}
	}
	return ""
}
