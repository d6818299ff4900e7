package ccpayment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// What only API v2 has.

func openShopV2(t *testing.T, bill, webhook, more string) *shop {
	t.Helper()
	return generations[1].openShop(t, bill, webhook, more)
}

func TestTheProbeIsAnsweredAndKeptFromEverybody(t *testing.T) {
	const probe = `{"type":"ActivateWebhookURL","msg":{}}`
	s := openShopV2(t, "", "upstream http://localhost:1/x", "")
	for range 2 {
		resp, body := s.callback(probe)
		if resp.StatusCode != 200 || body != `{"msg":"success"}` || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %d %q %q", resp.StatusCode, body, resp.Header.Get("Content-Type"))
		}
	}
	if resp, body := s.raw(probe, "1677152490", signV1("1677152490", probe)); resp.StatusCode != 401 || body != "" {
		t.Errorf("a probe with another signature got %d %q", resp.StatusCode, body)
	}
	if n := s.rows("SELECT (SELECT count(*) FROM callbacks) + (SELECT count(*) FROM events)"); n != 0 {
		t.Errorf("%d rows tell of a probe", n)
	}
	s = openShop(t, "", "", "")
	if resp, body := s.callback(probe); resp.StatusCode != 400 || body != "" {
		t.Errorf("an account of API v1 answered a probe with %d %q", resp.StatusCode, body)
	}
}

func TestARiskyPaymentIsHeldUntilItIsReleased(t *testing.T) {
	s := openShopV2(t, "", "", "")
	_, bill := s.buy(cart)
	reference, self := bill["reference"].(string), bill["self"].(string)
	released := depositV2(reference, "r1", "success", "")
	held := strings.Replace(released, `"isFlaggedAsRisky":false`, `"isFlaggedAsRisky":true`, 1)
	s.gateway.list(reference, pay{record: "r1", status: "success", amount: "50.0137", risky: true})
	for range 2 {
		s.callback(held)
	}
	s.eventually("held", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = 'bill.payment_held'") == 1 })
	if got := s.status(self); got != "awaiting_payment" {
		t.Errorf("the bill is %s", got)
	}
	s.gateway.list(reference, pay{record: "r1", status: "success", amount: "50.0137"})
	for range 2 {
		s.callback(released)
	}
	s.eventually("paid", func() bool { return s.status(self) == "paid" })
	s.eventually("told", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = 'bill.paid'") == 1 })
	if n := s.rows("SELECT count(*) FROM events"); n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestACallbackIsAnsweredBeforeTheGatewayIsAsked: a gateway that hangs holds up neither
// the answer nor other callbacks.
func TestACallbackIsAnsweredBeforeTheGatewayIsAsked(t *testing.T) {
	s := openShopV2(t, "", "", "")
	_, bill := s.buy(cart)
	reference, self := bill["reference"].(string), bill["self"].(string)
	release := make(chan struct{})
	s.gateway.setFault("/getAppOrderInfo", func(w http.ResponseWriter) {
		<-release
		panic(http.ErrAbortHandler)
	})
	began := time.Now()
	for i := range 10 {
		if resp, body := s.callback(s.deposit(reference, fmt.Sprint("r", i), "success", "5.00137")); resp.StatusCode != 200 || body != "success" {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
	if took := time.Since(began); took > 4*time.Second { // each question ends after half a second
		t.Errorf("ten callbacks were answered in %s", took)
	}
	s.callback(generations[1].withdrawal("w"))
	s.eventually("withdrawal told", func() bool { return s.rows("SELECT count(*) FROM events WHERE type = 'withdrawal.success'") == 1 })
	if got := s.status(self); got != "awaiting_payment" {
		t.Errorf("the bill is %s by the word of callbacks alone", got)
	}
	close(release)
	s.gateway.setFault("/getAppOrderInfo", nil)
	for deadline := time.Now().Add(30 * time.Second); s.status(self) != "paid" && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	if got := s.status(self); got != "paid" {
		t.Errorf("in the end the bill is %s", got)
	}
}

func TestADepositToAPermanentAddressIsToldWithItsAmount(t *testing.T) {
	s := openShopV2(t, "", "", "")
	s.gateway.list("", pay{record: "d1", status: "success", amount: "7.5"})
	s.callback(`{"type":"DirectDeposit","msg":{"recordId":"d1","referenceId":"user-1","coinId":1280,"coinSymbol":"USDT","status":"Success","isFlaggedAsRisky":false}}`)
	s.eventually("told", func() bool {
		return s.rows(`SELECT count(*) FROM events WHERE type = 'deposit.success' AND subject = 'user-1' AND json_extract(envelope, '$.data.payment.amount') = '7.5'`) == 1
	})
}

func TestAnOrderWhoseAnswerWasLostIsGoneOnWith(t *testing.T) {
	for _, how := range []string{"lost", "made before"} {
		s := openShopV2(t, "", "", "")
		s.gateway.setFault("/createAppOrderDepositAddress", func(w http.ResponseWriter) {
			s.gateway.mu.Lock()
			reference := s.gateway.orders[len(s.gateway.orders)-1]
			s.gateway.payments[reference] = make(map[string]pay) // so it is there
			s.gateway.mu.Unlock()
			if how == "lost" {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, `{"code":11011,"msg":"OrderDuplicate"}`)
		})
		resp, bill := s.buy(cart)
		if resp.StatusCode != 201 || bill["pay"].(map[string]any)["amount"] != "50.0137" || bill["reference"] != s.gateway.orders[0] || len(s.gateway.orders) != 1 {
			t.Errorf("%s: %d %v, orders %v", how, resp.StatusCode, bill, s.gateway.orders)
		}
	}
}

func TestAReferenceThatIsTakenIsReplaced(t *testing.T) {
	s := openShopV2(t, "max_open 1", "", "")
	times := 0
	s.gateway.setFault("/createAppOrderDepositAddress", func(w http.ResponseWriter) {
		if times++; times == 1 {
			_, _ = io.WriteString(w, `{"code":11011,"msg":"OrderDuplicate"}`)
			return
		}
		_, _ = io.WriteString(w, `{"code":10000,"data":{"address":"TYWnk1EGALQyYst2yFSd29QQQTEkuKMbyt","amount":"50.0137"}}`)
	})
	resp, bill := s.buy(cart, "Idempotency-Key", "one")
	if resp.StatusCode != 201 || len(s.gateway.orders) != 2 || s.gateway.orders[0] == s.gateway.orders[1] || bill["reference"] != s.gateway.orders[1] {
		t.Fatalf("got %d %v, orders %v", resp.StatusCode, bill, s.gateway.orders)
	}
	if n := s.rows("SELECT count(*) FROM bills WHERE stage = 'abandoned' AND problem <> ''"); n != 1 {
		t.Errorf("%d reservations were given up", n)
	}
	if _, again := s.buy(cart, "Idempotency-Key", "one"); again["reference"] != bill["reference"] {
		t.Errorf("the key gives another bill: %v", again)
	}
}

func TestACoinThatTheGatewayDoesNotOfferIsFoundOnFirstUse(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		wrong := map[string]string{"v1": "00000000-0000-0000-0000-000000000000", "v2": "1280 BSC"}[gen.api]
		s.tester.InitServer(strings.Replace(s.config("", "", ""), "method usdt-trc20 "+gen.coin, "method usdt-trc20 "+wrong, 1), "caddyfile")
		resp, problem := s.buy(cart)
		if resp.StatusCode != 502 || problem["code"] != "gateway_refused" || problem["retryable"] != false ||
			fmt.Sprint(problem["gateway"]) != "map[code:13001 msg:UnsupportedChain]" {
			t.Errorf("got %d %v", resp.StatusCode, problem)
		}
		if resp, body := s.do(http.MethodGet, "/pay/methods", ""); resp.StatusCode != 200 || strings.TrimSpace(body) != "[]" {
			t.Errorf("methods: %d %s", resp.StatusCode, body)
		}
	})
}

// TestWhetherACoinIsOfferedIsForTheGatewayToSay: its list may be old, not be there, or
// be of other tokens than those of its orders.
func TestWhetherACoinIsOfferedIsForTheGatewayToSay(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		other := map[string]string{
			"v1": `{"code":10000,"msg":"success","data":{"list":[{"crypto":"BTC","status":1,"tokens":[{"token_id":"another","crypto":"BTC","network":"Bitcoin","chain":"BTC","status":1}]}]}}`,
			"v2": `{"code":10000,"msg":"success","data":{"coins":[{"coinId":1,"symbol":"BTC","status":"Normal","networks":{"BTC":{"chain":"BTC"}}}]}}`,
		}[gen.api]
		for name, list := range map[string]string{"without a list": "<html>", "with another one": other} {
			s := gen.openShop(t, "", "", "")
			s.gateway.setFault(gen.coins, func(w http.ResponseWriter) { gen.signed(w, list) })
			if resp, bill := s.buy(cart); resp.StatusCode != 201 || bill["pay"].(map[string]any)["amount"] != "50.0137" {
				t.Errorf("%s: %d %v", name, resp.StatusCode, bill)
			}
		}
	})
}

// TestMoneyInAnotherCoinPaysNoBillOnEitherGeneration, in whatever the coin differs. One
// generation tells the coin in its callback, the other when it is asked.
func TestMoneyInAnotherCoinPaysNoBillOnEitherGeneration(t *testing.T) {
	for name, other := range map[string]struct{ v1, v2 []string }{
		"name":     {[]string{`"crypto":"USDT"`, `"crypto":"SHIB"`}, []string{`"USDT"`, `"SHIB"`}},
		"number":   {nil, []string{`1280`, `9999`}},
		"chain":    {[]string{`"chain":"TRX"`, `"chain":"BSC"`}, []string{`"TRX"`, `"BSC"`}},
		"contract": {[]string{`TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t`, `TXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX`}, []string{`"chain"`, `"contract":"TXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX","chain"`}},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, gen *generation) {
				s := gen.openShop(t, "", "", "")
				_, bought := s.buy(cart)
				reference := bought["reference"].(string)
				body := gen.deposit(reference, "r1", "success", "50.0137")
				paid := pay{record: "r1", status: "success", amount: "50.0137"}
				change := other.v2
				if gen.api == "v1" {
					change = other.v1
					body = strings.NewReplacer(change...).Replace(body)
				} else {
					paid.coin = strings.NewReplacer(change...).Replace(paid.tells())
				}
				if change == nil {
					return // it has no such thing
				}
				s.gateway.list(reference, paid)
				s.callback(body)
				s.eventually("told", func() bool { return s.rows("SELECT count(*) FROM events") == 1 })
				if n := s.rows("SELECT count(*) FROM events WHERE type = 'deposit.success' AND subject = ?", reference); n != 1 {
					t.Error("it was told as something else than a deposit")
				}
				if n := s.rows("SELECT count(*) FROM bills WHERE status = 'awaiting_payment' AND paid = '0'"); n != 1 {
					t.Error("it was counted")
				}
			})
		})
	}
}

// listingClient lists coins and does nothing else.
type listingClient struct {
	gateway.Client
	list map[string]gateway.Listed
	err  error
}

func (c listingClient) Tokens(context.Context) (map[string]gateway.Listed, error) {
	return c.list, c.err
}

func TestTheErrorNamesTheLineAndWhatIsOffered(t *testing.T) {
	usdt := func(network string) gateway.Listed {
		l := gateway.Listed{Usable: true}
		l.Crypto, l.Network = "USDT", network
		return l
	}
	many := map[string]gateway.Listed{"1280 TRX": usdt("Tron")}
	for i := range 50 {
		many[fmt.Sprintf("2000 C%02d", i)] = gateway.Listed{}
	}
	for _, test := range []struct {
		method Method
		list   map[string]gateway.Listed
		err    error
		want   string
	}{
		{Method{Name: "usdt-trc20", CoinID: 1280, Chain: "TRX"}, many, nil, ""},
		{Method{Name: "usdt", CoinID: 1280, Chain: "BSC"}, many, nil, "it does not offer 'method usdt 1280 BSC'; it offers 1280 TRX (USDT on Tron)"},
		{Method{Name: "usdt", CoinID: 1281, Chain: "TRX"}, many, nil, "1280 TRX (USDT on Tron), 2000 C00 (), "},
		{Method{Name: "usdt", CoinID: 1281, Chain: "TRX"}, many, nil, ", and 31 more"},
		{Method{Name: "usdt", TokenID: "x"}, map[string]gateway.Listed{"y": usdt("TRC20")}, nil, "it does not offer 'method usdt x'; it offers y (USDT on TRC20)"},
		{Method{Name: "usdt", TokenID: "x"}, nil, errors.New("unreachable"), ""},
		{Method{Name: "usdt", TokenID: "x"}, map[string]gateway.Listed{}, nil, ""},
	} {
		a := &Account{client: listingClient{list: test.list, err: test.err}}
		refused := func() error { return &gateway.Error{Failure: gateway.Refused, Endpoint: "order", Code: 1, Msg: "no"} }
		err := a.explained(t.Context(), &test.method, refused())
		if test.want == "" && err.Error() != refused().Error() || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.method, err)
		}
	}
}

func TestBillsOfTheWrongGenerationAreRefusedWithTheGatewaysWords(t *testing.T) {
	onBoth(t, func(t *testing.T, gen *generation) {
		s := gen.openShop(t, "", "", "")
		code := map[string]int{"v1": 225213, "v2": 11013}[gen.api]
		s.gateway.setFault(gen.create, func(w http.ResponseWriter) { fmt.Fprintf(w, `{"code":%d,"msg":"other version"}`, code) })
		resp, problem := s.buy(cart)
		if resp.StatusCode != 502 || problem["code"] != "gateway_refused" || problem["retryable"] != false ||
			fmt.Sprint(problem["gateway"]) != fmt.Sprintf("map[code:%d msg:other version]", code) {
			t.Errorf("got %d %v", resp.StatusCode, problem)
		}
	})
}

func TestAHostedCheckoutOfV2TakesEveryCurrency(t *testing.T) {
	s := openShopV2(t, "checkout hosted", "", "")
	s.reload("checkout hosted\ncurrency DKK", "", "")
	resp, problem := s.buy(cart)
	if resp.StatusCode != 502 || problem["code"] != "gateway_refused" || problem["gateway"] != nil {
		t.Errorf("a currency the gateway does not know: %d %v", resp.StatusCode, problem)
	}
	s.reload("checkout hosted", "", "")
	if resp, bill := s.buy(cart); resp.StatusCode != 201 {
		t.Errorf("got %d %v", resp.StatusCode, bill)
	}
}
