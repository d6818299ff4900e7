package resolve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// A gatewayV2 knows orders and answers about them as API v2 does. It needs no network,
// so that time can be simulated around it.
type gatewayV2 struct {
	mu      sync.Mutex
	orders  map[string][]string // payments as its lists have them, by order
	records map[string]string   // of payments, by their ids
	coins   string              // the list of coins; empty for the usual one
	hosted  bool                // orders are invoices
	price   string              // of every invoice; empty for that of every bill
	fault   func(ctx context.Context) (answer string, err error)
	asked   int // questions about orders
}

func (g *gatewayV2) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	answer, err := g.answer(r.Context(), r.URL.Path, string(body))
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(answer)), Header: http.Header{}, Request: r}, nil
}

func (g *gatewayV2) answer(ctx context.Context, path, body string) (string, error) {
	const notFound = `{"code":11003,"msg":"NotFound"}`
	var in struct{ OrderID, RecordID string }
	_ = json.Unmarshal([]byte(body), &in)
	g.mu.Lock()
	fault := g.fault
	if path == "/getAppOrderInfo" {
		g.asked++
	}
	payments, known := g.orders[in.OrderID]
	list := strings.Join(payments, ",")
	hosted, coins, price := g.hosted, g.coins, cmp.Or(g.price, "50.00")
	record, recorded := g.records[in.RecordID]
	g.mu.Unlock()
	switch {
	case path == "/getCoinList" && coins != "":
		return fmt.Sprintf(`{"code":10000,"data":{"coins":[%s]}}`, coins), nil
	case path == "/getCoinList":
		return `{"code":10000,"data":{"coins":[{"coinId":1280,"symbol":"USDT","status":"Normal","networks":{"TRX":{"chain":"TRX","precision":6},"BSC":{"chain":"BSC","precision":18}}}]}}`, nil
	case fault != nil:
		return fault(ctx)
	case path == "/getAppOrderInfo" && known && !hosted:
		return fmt.Sprintf(`{"code":10000,"data":{"amountToPay":%q,"coinId":1280,"coinSymbol":"USDT","chain":"TRX","toAddress":"T","paidList":[%s]}}`, due, list), nil
	case path == "/getAppDepositRecord" && recorded:
		return fmt.Sprintf(`{"code":10000,"data":{"record":%s}}`, record), nil
	case path == "/getInvoiceOrderInfo" && known && hosted:
		return fmt.Sprintf(`{"code":10000,"data":{"price":%q,"priceSymbol":"USD","paidList":[%s]}}`, price, list), nil
	}
	return notFound, nil
}

// lists has the gateway list payments of an order from now on.
func (g *gatewayV2) lists(reference string, payments ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.orders[reference] = payments
}

// recorded has the gateway tell about a payment by itself from now on.
func (g *gatewayV2) recorded(id, record string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records[id] = record
}

func (g *gatewayV2) fails(fault func(context.Context) (string, error)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fault = fault
}

func (g *gatewayV2) questions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

func unreachable(context.Context) (string, error) { return "", errors.New("connection refused") }

func tooMany(context.Context) (string, error) { return `{"code":11004,"msg":"RateLimit"}`, nil }

// hanging answers nobody.
func hanging(ctx context.Context) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// noSigner signs nothing: the tests here are not about signatures.
type noSigner struct{}

func (noSigner) Sign([]byte) (string, string, string) { return "", "", "" }

func (noSigner) Verify(string, string, string, []byte) (time.Time, error) { return time.Time{}, nil }

// listedV2 is a payment as the gateway lists it.
func listedV2(record, amount, status string, risky bool) string {
	return fmt.Sprintf(`{"recordId":%q,"coinId":1280,"coinSymbol":"USDT","chain":"TRX","amount":%q,"paidAmount":%q,"rate":"0.9997","status":%q,"txid":"tx of %s","arrivedAt":%d,"isFlaggedAsRisky":%v}`,
		record, amount, amount, status, record, time.Now().Unix(), risky)
}

// cleared is the record of a payment to order abc that is not flagged.
const cleared = `{"recordId":"r1","orderId":"abc","isFlaggedAsRisky":false}`

// depositV2 is a callback about a payment towards a bill.
func depositV2(reference, record, status string, risky bool) []byte {
	return fmt.Appendf(nil, `{"type":"ApiDeposit","msg":{"recordId":%q,"orderId":%q,"coinId":1280,"coinSymbol":"USDT","status":%q,"isFlaggedAsRisky":%v}}`, record, reference, status, risky)
}

func newShopV2(t *testing.T) (*shop, *gatewayV2) {
	t.Helper()
	g := &gatewayV2{orders: make(map[string][]string), records: make(map[string]string)}
	shop := newShop(t)
	shop.gateway.Client = clientOf(g)
	shop.account.API, shop.account.Client = "v2", shop.gateway.Client
	return shop, g
}

// inBubbleV2 is inBubble for an account of API v2 with one bill that is valid for days.
func inBubbleV2(t *testing.T, test func(t *testing.T, shop *shop, g *gatewayV2)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		shop.start()
		g.lists("abc")
		shop.open("abc", func(b *bill.Bill) { b.ExpiresAt = b.ExpiresAt.Add(10 * 24 * time.Hour) })
		test(t, shop, g)
	})
}

func TestACallbackWithoutAnAmountCountsWhatTheGatewayLists(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", "20", "Success", false), listedV2("r2", "30.0137", "Processing", false))
		shop.resolve(depositV2("abc", "r1", "Success", false))
		shop.resolve(depositV2("abc", "r2", "Processing", false))
		shop.expect("abc", "bill.underpaid (underpaid)", "bill.confirming (underpaid)")
		g.lists("abc", listedV2("r1", "20", "Success", false), listedV2("r2", "30.0137", "Success", false))
		shop.resolve(depositV2("abc", "r2", "Success", false))
		shop.resolve(depositV2("abc", "r2", "Success", false), depositV2("abc", "r1", "Processing", false))
		shop.expect("abc", "bill.underpaid (underpaid)", "bill.confirming (underpaid)", "bill.paid (paid)", "bill.confirming (paid) late")
		e := shop.told("abc")[2]
		p := e.Data.Payment
		if e.Data.API != "v2" || p.ID != "r2" || p.Amount != "30.0137" || p.Crypto != "USDT" || p.Network != "TRC20" || p.Chain != "TRX" || p.TxID != "tx of r2" ||
			!strings.Contains(string(e.Data.Raw), `"recordId":"r2"`) || e.ID != event.ID("default", "order", "r2", "success") {
			t.Errorf("told %+v with %+v", e, p)
		}
	})
}

// TestAPaymentThatIsNotListedYetIsAskedAboutUntilItIs: also over restarts.
func TestAPaymentThatIsNotListedYetIsAskedAboutUntilItIs(t *testing.T) {
	for _, after := range []time.Duration{4 * time.Second, time.Minute, 20 * time.Minute, 20 * time.Hour} {
		t.Run(after.String(), func(t *testing.T) {
			inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
				shop.resolve(depositV2("abc", "r1", "Success", false))
				until(after / 2)
				shop.stop()
				shop.start()
				until(after / 2)
				if _, state := shop.bill("abc"); state.Status != bill.Awaiting || !state.Confirming || state.Payable {
					t.Errorf("before the gateway has listed the payment the bill is %+v", state)
				}
				shop.expect("abc")
				if got := shop.inbox(); !slices.Equal(got, []string{"r1 asking"}) {
					t.Errorf("inbox is %q", got)
				}
				g.lists("abc", listedV2("r1", due, "Success", false))
				until(max(5*time.Second, 2*after))
				shop.expect("abc", "bill.paid (paid)")
			})
		})
	}
}

func TestAnOutageOfTheGatewayLosesNoCallback(t *testing.T) {
	for name, fault := range map[string]func(context.Context) (string, error){"unreachable": unreachable, "hanging": hanging, "too many questions": tooMany} {
		for _, outage := range []time.Duration{time.Minute, 36 * time.Hour} {
			t.Run(fmt.Sprint(name, " for ", outage), func(t *testing.T) {
				inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
					g.fails(fault)
					shop.resolve(depositV2("abc", "r1", "Success", false))
					until(outage)
					shop.expect("abc")
					asked := g.questions()
					if most := 5 + int(outage/(5*time.Minute)); asked > most {
						t.Errorf("asked %d times in %s", asked, outage)
					}
					g.fails(nil)
					g.lists("abc", listedV2("r1", due, "Success", false))
					until(24 * time.Hour)
					shop.expect("abc", "bill.paid (paid)")
				})
			})
		}
	}
}

func TestACallbackThatTheGatewayNeverBearsOutIsHandedOnUnbelieved(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		shop.resolve(depositV2("abc", "r1", "Success", false))
		until(20 * time.Hour)
		shop.expect("abc")
		until(20 * time.Hour)
		shop.expect("abc", "unknown.received")
		if got := shop.inbox(); !slices.Equal(got, []string{"r1 doubted"}) {
			t.Errorf("inbox is %q", got)
		}
		if _, state := shop.bill("abc"); state.Status != bill.Awaiting {
			t.Errorf("the bill is %s", state.Status)
		}
		// A copy that comes after it is asked about once more.
		g.lists("abc", listedV2("r1", due, "Success", false))
		shop.resolve(depositV2("abc", "r1", "Success", false))
		shop.expect("abc", "unknown.received", "bill.paid (paid)")
	})
}

func TestAPaymentThatIsFlaggedAsRiskyCountsOnceItIsReleased(t *testing.T) {
	held, released := depositV2("abc", "r1", "Success", true), depositV2("abc", "r1", "Success", false)
	for name, test := range map[string]struct {
		steps []func(shop *shop, g *gatewayV2)
		story []string
	}{
		"flagged and released": {
			[]func(*shop, *gatewayV2){
				func(s *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", true))
					s.resolve(held, held)
				},
				func(s *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", false))
					s.resolve(released, released, held)
				},
			},
			[]string{"bill.payment_held (awaiting_payment)", "bill.paid (paid)"},
		},
		"released before the first callback is read": {
			[]func(*shop, *gatewayV2){
				func(s *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", false))
					s.resolve(held)
				},
				func(s *shop, _ *gatewayV2) { s.resolve(released) },
			},
			[]string{"bill.payment_held (awaiting_payment)", "bill.paid (paid)"},
		},
		"overtaken by the release": {
			[]func(*shop, *gatewayV2){
				func(s *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", false))
					s.resolve(released, held)
				},
			},
			[]string{"bill.paid (paid)", "bill.payment_held (paid) late"},
		},
		"flagged by the list alone": {
			[]func(*shop, *gatewayV2){
				func(s *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", true))
					s.resolve(released)
				},
				// Its release may have the callback that came before, which is a repetition.
				func(s *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", false))
					s.resolve(released)
					until(every + time.Second)
				},
			},
			[]string{"bill.payment_held (awaiting_payment)", "bill.paid (paid)"},
		},
		"released without a callback": {
			[]func(*shop, *gatewayV2){
				func(s *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", true))
					s.resolve(held)
					until(3 * every)
				},
				func(s *shop, g *gatewayV2) {
					g.recorded("r1", cleared)
					g.lists("abc", listedV2("r1", due, "Success", false))
					until(every + time.Second)
				},
			},
			[]string{"bill.payment_held (awaiting_payment)", "bill.paid (paid)"},
		},
		"flagged, of which no callback came": {
			[]func(*shop, *gatewayV2){
				func(_ *shop, g *gatewayV2) {
					g.lists("abc", listedV2("r1", due, "Success", true))
					until(2*every + time.Second)
				},
				func(s *shop, g *gatewayV2) {
					s.resolve(held)
					g.recorded("r1", cleared)
					g.lists("abc", listedV2("r1", due, "Success", false))
					until(every + time.Second)
				},
			},
			[]string{"bill.payment_held (awaiting_payment)", "bill.paid (paid)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shop, g := newShopV2(t)
				shop.account.Reconcile = every
				shop.start()
				g.lists("abc")
				shop.openChecked("abc")
				for i, step := range test.steps {
					step(shop, g)
					synctest.Wait()
					if _, state := shop.bill("abc"); i < len(test.steps)-1 && (state.Status != bill.Awaiting || state.Payable) {
						t.Errorf("after step %d the bill is %+v", i, state)
					}
				}
				if _, state := shop.bill("abc"); state.Status != bill.Paid || state.Confirming {
					t.Errorf("in the end the bill is %+v", state)
				}
				shop.expect("abc", test.story...)
			})
		})
	}
}

func TestWhatIsNotCountedNeedsNotBeListed(t *testing.T) {
	for status, want := range map[string]string{"Pending": "bill.confirming (awaiting_payment)", "Processing": "bill.confirming (awaiting_payment)", "Failed": "bill.payment_failed (awaiting_payment)"} {
		inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
			shop.resolve(depositV2("abc", "r1", status, false))
			shop.expect("abc")
			until(2 * time.Minute)
			shop.expect("abc", want)
			g.lists("abc", listedV2("r1", due, "Success", false))
			shop.resolve(depositV2("abc", "r1", "Success", false))
			shop.expect("abc", want, "bill.paid (paid)")
		})
	}
}

func TestAWithdrawalNeedsNoQuestion(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		for _, status := range []string{"WaitingApproval", "Pending", "Processing", "Success", "Rejected", "Failed"} {
			shop.resolve(fmt.Appendf(nil, `{"type":"ApiWithdrawal","msg":{"recordId":"w1","orderId":"w","coinId":1280,"coinSymbol":"USDT","status":%q}}`, status))
		}
		shop.expect("w", "withdrawal.pending", "withdrawal.pending", "withdrawal.processing", "withdrawal.success", "withdrawal.failed", "withdrawal.failed")
		if n := g.questions(); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestAStaleCallbackIsAskedAboutAsAFreshOne: neither is believed without an answer.
func TestAStaleCallbackIsAskedAboutAsAFreshOne(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", due, "Success", false))
		shop.receive(depositV2("abc", "r1", "Success", false), stale)
		shop.receive(depositV2("abc", "forged", "Success", false), stale)
		synctest.Wait()
		shop.expect("abc", "bill.paid (paid)")
		if got := shop.inbox(); !slices.Equal(got, []string{"r1 resolved", "forged asking"}) {
			t.Errorf("inbox is %q", got)
		}
	})
}

// TestASlowGatewayHoldsUpNobodyElse: each question takes as long as a request may, and
// there are many.
func TestASlowGatewayHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		other := shop.account
		healthy := &gatewayV2{orders: map[string][]string{"healthy": {listedV2("r1", due, "Success", false)}}}
		other.Name, other.Client = "healthy", clientOf(healthy)
		old := shop.account
		old.Name, old.API, old.Client = "v1", "v1", gateway.NewV1(gateway.Config{})
		shop.start()
		shop.configure(shop.account, other, old)
		g.fails(hanging)
		shop.open("expires", func(b *bill.Bill) { b.ExpiresAt = time.Now().Add(5 * time.Second) })
		for i := range 100 {
			shop.receive(depositV2(fmt.Sprint("order-", i), fmt.Sprint("r", i), "Success", false))
		}
		synctest.Wait()
		shop.receive(deposit("of-v1", "r1", "success", due), func(c *store.Callback) { c.Account = "v1" })
		until(6 * time.Second)
		shop.expect("expires", "bill.expired (expired)")
		shop.expect("of-v1", "bill.paid (paid)")
		shop.receive(depositV2("healthy", "r1", "Success", false), func(c *store.Callback) { c.Account = "healthy" })
		until(time.Minute)
		shop.expect("healthy", "bill.paid (paid)")
	})
}

func TestStoppingWhileACallbackIsAskedAboutDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		g.fails(hanging)
		shop.open("abc")
		shop.receive(depositV2("abc", "r1", "Success", false))
		for range 10 {
			shop.start()
			synctest.Wait()
			shop.stop()
		}
		if got, want := column(shop, "SELECT state || ' ' || asked FROM callbacks"), []string{store.Asking + " 0"}; !slices.Equal(got, want) {
			t.Errorf("the callback is %q", got)
		}
	})
}

// A panickyClient panics when it is asked.
type panickyClient struct{ gateway.Client }

func (panickyClient) Complete(context.Context, gateway.Callback) (gateway.Callback, error) {
	panic("completing")
}

func TestAPanicWhileAskingConcernsThatCallbackAlone(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		good := shop.account
		shop.account.Client = panickyClient{good.Client}
		shop.configure(shop.account)
		shop.resolve(depositV2("abc", "r1", "Success", false))
		if got := column(shop, "SELECT state || ' ' || substr(problem, 1, 17) FROM callbacks"); !slices.Equal(got, []string{"asking panic: completing"}) {
			t.Errorf("got %q", got)
		}
		g.lists("abc", listedV2("r1", due, "Success", false))
		shop.configure(good)
		until(missing + time.Second)
		shop.expect("abc", "bill.paid (paid)")
	})
}

func TestAnInvoiceIsBoundToTheCoinOfItsFirstPayment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		g.hosted = true
		shop.start()
		g.lists("abc")
		shop.open("abc", hosted)
		g.lists("abc", listedV2("r1", "20", "Success", false))
		shop.resolve(depositV2("abc", "r1", "Success", false))
		if b, state := shop.bill("abc"); state.Status != bill.Underpaid || b.Due.String() != "50.015005" || b.Pays.Crypto != "USDT" || b.Pays.Chain != "TRX" {
			t.Errorf("the bill is %s of %s %+v", state.Status, b.Due, b.Pays)
		}
		g.lists("abc", listedV2("r1", "20", "Success", false), listedV2("r2", "30.015005", "Success", false), strings.Replace(listedV2("r3", "9", "Success", false), "TRX", "BSC", 1))
		shop.resolve(depositV2("abc", "r3", "Success", false), depositV2("abc", "r2", "Success", false))
		shop.expect("abc", "bill.underpaid (underpaid)", "deposit.success (underpaid)", "bill.paid (paid)")
	})
}

// TestPaymentsAreFoundByTheirRecords: two that are equal in all else are two, and one
// whose callback comes later is the same.
func TestPaymentsAreFoundByTheirRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		shop.account.Reconcile = every
		shop.start()
		equal := func(record string) string {
			return strings.Replace(listedV2(record, "20", "Success", false), "tx of "+record, "internal transfer", 1)
		}
		g.lists("abc", equal("r1"))
		shop.openChecked("abc")
		until(every + time.Second)
		shop.expect("abc", "bill.underpaid (underpaid)")
		g.lists("abc", equal("r1"), equal("r2"))
		shop.resolve(depositV2("abc", "r1", "Success", false))
		shop.expect("abc", "bill.underpaid (underpaid)")
		until(every + time.Second)
		shop.resolve(depositV2("abc", "r2", "Success", false))
		until(2 * every)
		shop.expect("abc", "bill.underpaid (underpaid)", "bill.underpaid (underpaid)")
		b, _ := shop.bill("abc")
		if len(b.Payments) != 2 || b.Payments[0].ID != "r1" || b.Payments[1].ID != "r2" {
			t.Errorf("payments are %+v", b.Payments)
		}
		if e := shop.told("abc")[1]; e.Data.Origin != event.FromReconcile || e.ID != event.ID("default", "order", "r2", "success") {
			t.Errorf("told %+v", e)
		}
	})
}

// TestBillsBeyondTheGatewaysLimitAreAskedAboutNextTime: none of them waits forever.
func TestBillsBeyondTheGatewaysLimitAreAskedAboutNextTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		shop.account.Reconcile = every
		shop.start()
		for i := range 20 {
			reference := fmt.Sprintf("order-%02d", i)
			g.lists(reference, listedV2("r of "+reference, due, "Success", false))
			shop.openChecked(reference, func(b *bill.Bill) { b.ExpiresAt = b.ExpiresAt.Add(24 * time.Hour) })
		}
		// The gateway answers five questions and then asks for a rest.
		answered := 0
		g.fails(func(ctx context.Context) (string, error) {
			if answered++; answered%6 == 0 {
				return tooMany(ctx)
			}
			return fmt.Sprintf(`{"code":10000,"data":{"amountToPay":%q,"coinId":1280,"coinSymbol":"USDT","chain":"TRX","paidList":[%s]}}`, due, listedV2(fmt.Sprint("r", answered), due, "Success", false)), nil
		})
		until(time.Hour)
		if got := column(shop, "SELECT status || ' ' || count(*) FROM bills GROUP BY status"); !slices.Equal(got, []string{"paid 20"}) {
			t.Errorf("after an hour the bills are %q", got)
		}
	})
}
