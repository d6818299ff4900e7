package resolve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// reconcilingV2 is reconciling for an account of API v2.
func reconcilingV2(t *testing.T, test func(t *testing.T, shop *shop, g *gatewayV2)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		shop.account.Reconcile = every
		shop.start()
		test(t, shop, g)
	})
}

// clientOf is a client of API v2 whose requests go to a gateway of the test.
func clientOf(g http.RoundTripper) gateway.Client {
	return gateway.NewV2(gateway.Config{Signer: noSigner{}, Endpoint: "http://gateway.test", Timeout: 10 * time.Second, Transport: g})
}

// talksTo has the shop ask another gateway from now on.
func (shop *shop) talksTo(g http.RoundTripper) {
	shop.account.Client = clientOf(g)
	shop.configure(shop.account)
}

// onBsc moves a listed payment to another coin than that of every bill.
func onBsc(listed string) string { return strings.Replace(listed, "TRX", "BSC", 1) }

func validForDays(b *bill.Bill) { b.ExpiresAt = b.ExpiresAt.Add(10 * 24 * time.Hour) }

// An oddGateway answers some questions as the test says.
type oddGateway struct {
	*gatewayV2
	about string // an order
	with  func(ctx context.Context) (string, error)
	fixed atomic.Bool // it answers about that order as about the others
}

func (g *oddGateway) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	if text, _ := io.ReadAll(body); g.fixed.Load() || !strings.Contains(string(text), `"`+g.about+`"`) {
		return g.gatewayV2.RoundTrip(r)
	}
	answer, err := g.with(r.Context())
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(answer)), Header: http.Header{}, Request: r}, nil
}

// TestAnOrderThatCannotBeAskedAboutHoldsUpNoOther, though it is the first in every turn.
func TestAnOrderThatCannotBeAskedAboutHoldsUpNoOther(t *testing.T) {
	for name, with := range map[string]func(context.Context) (string, error){
		"expired":       answering(`{"code":15002,"msg":"OrderExpired"}`),
		"not told":      answering(`{"code":10001,"msg":"Failed"}`),
		"internal":      answering(`{"code":11002,"msg":"InternalServerError"}`),
		"HTML":          answering(`<html>`),
		"amounts twice": answering(`{"code":10000,"data":{"amountToPay":"1","amountToPay":"2"}}`),
		"hanging":       hanging,
	} {
		t.Run(name, func(t *testing.T) {
			reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
				odd := &oddGateway{gatewayV2: g, about: "a-poison", with: with}
				shop.talksTo(odd)
				for i, reference := range []string{"a-poison", "b", "c"} {
					g.lists(reference, listedV2(fmt.Sprint("r", i), due, "Success", false))
					shop.openChecked(reference, validForDays)
				}
				until(every + time.Minute)
				shop.expect("b", "bill.paid (paid)")
				shop.expect("c", "bill.paid (paid)")
				done, err := shop.r.Reconcile(t.Context())
				if done.Bills != 0 || err == nil || !strings.Contains(err.Error(), "bill a-poison") {
					t.Errorf("by hand: %+v, %v", done, err)
				}
				odd.fixed.Store(true)
				until(2 * every)
				shop.expect("a-poison", "bill.paid (paid)")
			})
		})
	}
}

// TestAGatewayThatIsSilentIsNotAskedAboutEveryBill: three are enough to see it.
func TestAGatewayThatIsSilentIsNotAskedAboutEveryBill(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		for i := range 50 {
			shop.openChecked(fmt.Sprint("bill-", i), validForDays)
		}
		g.fails(unreachable)
		before := g.questions()
		until(every + time.Second)
		if n := g.questions() - before; n != 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

func answering(answer string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return answer, nil }
}

// TestAHostedBillIsBoundByWhatIsConfirmed: a payment that is on its way and then fails
// leaves no bill unpaid that was paid in another coin meanwhile.
func TestAHostedBillIsBoundByWhatIsConfirmed(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.hosted = true
		first, second := listedV2("r1", "50.015005", "Processing", false), onBsc(listedV2("r2", "50.015004501350405122", "Success", false))
		g.lists("abc", first)
		shop.openChecked("abc", hosted)
		shop.resolve(depositV2("abc", "r1", "Processing", false))
		if b, state := shop.bill("abc"); !state.Confirming || b.Pays.Chain != "TRX" {
			t.Errorf("the bill is %+v of %+v", state, b.Pays)
		}
		g.lists("abc", first, second)
		shop.resolve(depositV2("abc", "r2", "Success", false))
		g.lists("abc", listedV2("r1", "50.015005", "Failed", false), second)
		shop.resolve(depositV2("abc", "r1", "Failed", false))
		shop.expect("abc", "bill.confirming (awaiting_payment)", "bill.paid (paid)", "deposit.failed (paid)")
		// And one that is confirmed in yet another coin does not take it over.
		g.lists("abc", second, listedV2("r3", "50.015005", "Success", false))
		shop.resolve(depositV2("abc", "r3", "Success", false))
		if b, state := shop.bill("abc"); state.Status != bill.Paid || b.Pays.Chain != "BSC" {
			t.Errorf("the bill is %+v of %+v", state, b.Pays)
		}
	})
}

// TestAHostedBillCountsAPaymentThatItsRecordTellsOfFirst: what it costs in the coin is
// known with the invoice's list alone.
func TestAHostedBillCountsAPaymentThatItsRecordTellsOfFirst(t *testing.T) {
	const record = `{"recordId":"r1","orderId":"abc","coinId":1280,"coinSymbol":"USDT","chain":"TRX","amount":"50.015005","status":"Success","isFlaggedAsRisky":false}`
	rateless := strings.Replace(listedV2("r1", "50.015005", "Success", false), `"rate":"0.9997",`, "", 1)
	for name, early := range map[string][]string{"not listed": nil, "listed without a rate": {rateless}} {
		t.Run(name, func(t *testing.T) {
			reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
				g.hosted = true
				g.recorded("r1", record)
				g.lists("abc", early...)
				shop.openChecked("abc", hosted)
				shop.resolve(depositV2("abc", "r1", "Success", false))
				until(every + time.Second)
				shop.expect("abc")
				g.lists("abc", listedV2("r1", "50.015005", "Success", false))
				until(every)
				shop.expect("abc", "bill.paid (paid)")
			})
		})
	}
	t.Run("while its order cannot be asked about", func(t *testing.T) {
		reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
			g.hosted = true
			g.recorded("r1", record)
			odd := &oddGateway{gatewayV2: g, about: "abc", with: answering(`{"code":15002,"msg":"OrderExpired"}`)}
			shop.talksTo(odd)
			shop.openChecked("abc", hosted)
			shop.resolve(depositV2("abc", "r1", "Success", false))
			shop.expect("abc")
			odd.fixed.Store(true)
			g.lists("abc", listedV2("r1", "50.015005", "Success", false))
			until(2 * every)
			shop.expect("abc", "bill.paid (paid)")
		})
	})
}

// TestAHostedBillIsBoundByReconciliationAsByACallback: the price must be the bill's, and
// the order's id is told in either case.
func TestAHostedBillIsBoundByReconciliationAsByACallback(t *testing.T) {
	for price, want := range map[string]string{"50.00": "bill.paid (paid)", "5.00": "deposit.success (awaiting_payment)"} {
		reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
			g.hosted, g.price = true, price
			g.lists("abc", listedV2("r1", "50.015005", "Success", false))
			shop.openChecked("abc", hosted, func(b *bill.Bill) { b.OrderID = "" })
			until(every + time.Second)
			shop.expect("abc", want)
			if e := shop.told("abc"); len(e) != 1 || e[0].Data.Bill.OrderID != "abc" {
				t.Errorf("told %+v", e)
			}
		})
	}
}

// TestAReleaseIsHeardThoughItsCallbackLooksLikeTheOneBefore: the callback did not flag
// the payment, and the gateway did when it was asked.
func TestAReleaseIsHeardThoughItsCallbackLooksLikeTheOneBefore(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", due, "Success", true))
		for range 3 { // the gateway may also send it again while it is held
			shop.resolve(depositV2("abc", "r1", "Success", false))
			until(48 * time.Hour)
		}
		shop.resolve(depositV2("abc", "r1", "Success", true))
		shop.expect("abc", "bill.payment_held (awaiting_payment)")
		g.lists("abc", listedV2("r1", due, "Success", false))
		shop.resolve(depositV2("abc", "r1", "Success", false))
		shop.resolve(depositV2("abc", "r1", "Success", false))
		shop.expect("abc", "bill.payment_held (awaiting_payment)", "bill.paid (paid)")
	})
}

// TestAReleaseIsFoundWeeksLater, if no callback tells of it.
func TestAReleaseIsFoundWeeksLater(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", due, "Success", true))
		shop.openChecked("abc")
		shop.resolve(depositV2("abc", "r1", "Success", true))
		until(20 * 24 * time.Hour)
		g.lists("abc", listedV2("r1", due, "Success", false))
		g.recorded("r1", cleared)
		until(7 * time.Hour)
		if got := shop.story("abc"); !strings.HasSuffix(got, "bill.paid (paid)") {
			t.Errorf("told %s", got)
		}
		g.lists("abc", listedV2("r1", due, "Success", false))
		asked := g.questions()
		until(7 * 24 * time.Hour)
		if n := g.questions() - asked; n != 0 {
			t.Errorf("asked %d times about a bill that is closed", n)
		}
	})
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", due, "Success", true))
		shop.openChecked("abc")
		shop.resolve(depositV2("abc", "r1", "Success", true))
		until(40 * 24 * time.Hour)
		if n := column(shop, "SELECT reference FROM bills WHERE check_at IS NOT NULL"); len(n) != 0 {
			t.Errorf("asked about for ever: %v", n)
		}
	})
}

// TestAPaymentIsSeenBeforeItIsKnownWhatWasPaid: a buyer in doubt would pay twice.
func TestAPaymentIsSeenBeforeItIsKnownWhatWasPaid(t *testing.T) {
	seen := func(shop *shop) string {
		b, state := shop.bill("abc")
		return fmt.Sprintf("%s, confirming %v, payable %v, %d payments", state.Status, state.Confirming, state.Payable, len(b.Payments))
	}
	const announced, nothing = "awaiting_payment, confirming true, payable false, 1 payments", "awaiting_payment, confirming false, payable true, 0 payments"
	for name, test := range map[string]struct {
		body []byte
		want string
	}{
		"confirmed":       {depositV2("abc", "r1", "Success", false), announced},
		"on its way":      {depositV2("abc", "r1", "Processing", false), announced},
		"failed":          {depositV2("abc", "r1", "Failed", false), nothing},
		"in another coin": {[]byte(`{"type":"ApiDeposit","msg":{"recordId":"r1","orderId":"abc","coinId":9999,"coinSymbol":"SHIB","status":"Success"}}`), nothing},
		"of another bill": {depositV2("xyz", "r1", "Success", false), nothing},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
				g.fails(unreachable)
				before, _ := shop.bill("abc")
				shop.resolve(test.body)
				shop.expect("abc")
				if got := seen(shop); got != test.want {
					t.Errorf("the bill is %s, want %s", got, test.want)
				}
				if b, _ := shop.bill("abc"); (b.Seq > before.Seq) != (test.want == announced) {
					t.Errorf("seq was %d and is %d", before.Seq, b.Seq)
				}
			})
		})
	}
	t.Run("a stale one", func(t *testing.T) {
		inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
			shop.receive(depositV2("abc", "r1", "Success", false), stale)
			synctest.Wait()
			if got := seen(shop); got != nothing {
				t.Errorf("anybody with an old callback makes the bill %s", got)
			}
		})
	})
	t.Run("taken back if the gateway does not bear it out", func(t *testing.T) {
		inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
			shop.resolve(depositV2("abc", "r1", "Success", false))
			until(48 * time.Hour)
			shop.expect("abc", "unknown.received")
			if got := seen(shop); got != nothing {
				t.Errorf("in the end the bill is %s", got)
			}
			// And counted if it does so after all, when the gateway sends it again.
			g.lists("abc", listedV2("r1", due, "Success", false))
			shop.receive(depositV2("abc", "r1", "Success", false), stale)
			until(time.Minute)
			shop.expect("abc", "unknown.received", "bill.paid (paid)")
		})
	})
	t.Run("and the end of the validity is told all the same", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			shop, g := newShopV2(t)
			shop.start()
			g.fails(unreachable)
			shop.open("abc")
			until(59*time.Minute + 59*time.Second)
			shop.resolve(depositV2("abc", "r1", "Success", false))
			until(time.Hour)
			shop.expect("abc", "bill.expired (expired)")
			shop.resolve(depositV2("abc", "r2", "Success", false))
			shop.expect("abc", "bill.expired (expired)")
		})
	})
}

// TestABurstOfRefusalsGivesOneRest: eight questions are under way when the first is
// refused, and the other seven say nothing new.
func TestABurstOfRefusalsGivesOneRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		for i := range 8 {
			reference := fmt.Sprint("order-", i)
			g.lists(reference, listedV2(fmt.Sprint("r", i), due, "Success", false))
			shop.open(reference, validForDays)
			shop.receive(depositV2(reference, fmt.Sprint("r", i), "Success", false))
		}
		g.fails(func(ctx context.Context) (string, error) {
			time.Sleep(100 * time.Millisecond)
			return tooMany(ctx)
		})
		shop.start()
		until(time.Second)
		g.fails(nil)
		until(time.Minute)
		if got := column(shop, "SELECT status || ' ' || count(*) FROM bills GROUP BY status"); !slices.Equal(got, []string{"paid 8"}) {
			t.Errorf("after a minute the bills are %q", got)
		}
	})
}

// TestAListedPaymentOfNothingKeepsNoPlace: its amount may follow.
func TestAListedPaymentOfNothingKeepsNoPlace(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", "0", "Success", false))
		shop.openChecked("abc")
		until(every + time.Second)
		shop.expect("abc")
		g.lists("abc", listedV2("r1", due, "Success", false), listedV2("r1", due, "Success", false))
		until(every)
		shop.expect("abc", "bill.paid (paid)")
	})
	reconciling(t, func(t *testing.T, shop *shop) {
		shop.gateway.answers(lists(listing("0")))
		shop.openChecked("a")
		until(every + time.Second)
		shop.expect("a")
	})
}

// TestAGeneralFailureDeniesNothing: a gateway that is out of order for two days may
// answer everything with it.
func TestAGeneralFailureDeniesNothing(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.fails(answering(`{"code":10001,"msg":"Failed"}`))
		shop.resolve(depositV2("abc", "r1", "Success", false))
		until(48 * time.Hour)
		shop.expect("abc")
		g.fails(nil)
		g.lists("abc", listedV2("r1", due, "Success", false))
		until(25 * time.Hour)
		shop.expect("abc", "bill.paid (paid)")
	})
}

// TestWhatCameBeforeTheAccountMovedIsHandedOn: it cannot be read any more.
func TestWhatCameBeforeTheAccountMovedIsHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		shop.open("abc")
		body := deposit("abc", "r1", "success", due)
		for i, state := range []string{store.Received, store.Quarantined, store.Asking} {
			shop.receive(body, func(c *store.Callback) {
				c.Kind, c.RecordID, c.Status, c.State = "order", fmt.Sprint("r", i), "success", state
			})
		}
		shop.start()
		until(time.Minute)
		for i := range 3 {
			shop.expect(fmt.Sprint("r", i), event.UnknownReceived)
		}
		if got := shop.inbox(); !slices.Equal(got, []string{"r0 doubted", "r1 doubted", "r2 doubted"}) {
			t.Errorf("inbox is %q", got)
		}
		if e := shop.told("r0"); !strings.Contains(string(e[0].Data.Raw), `"paid_amount":"50.0137"`) {
			t.Errorf("told %s", e[0].Data.Raw)
		}
		if n := g.questions(); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestAHangingAccountHoldsUpOthersForOneQuestionOnly, however many wait behind that.
func TestAHangingAccountHoldsUpOthersForOneQuestionOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		other := shop.account
		other.Name = "healthy"
		healthy := &gatewayV2{orders: map[string][]string{"healthy": {listedV2("r1", due, "Success", false)}}}
		other.Client = clientOf(healthy)
		g.fails(hanging)
		for i := range 100 {
			shop.receive(depositV2(fmt.Sprint("order-", i), fmt.Sprint("r", i), "Success", false))
		}
		shop.start()
		shop.configure(shop.account, other)
		until(time.Second)
		shop.receive(depositV2("healthy", "r1", "Success", false), func(c *store.Callback) { c.Account = "healthy" })
		until(10 * time.Second)
		shop.expect("healthy", "bill.paid (paid)")
	})
}

// TestAGatewayWhoseClockIsAheadEndsNoBill: its time of a payment is not the time it is.
func TestAGatewayWhoseClockIsAheadEndsNoBill(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		shop.open("ahead")
		later := strings.Replace(listedV2("r1", "20", "Success", false), fmt.Sprint(time.Now().Unix()), fmt.Sprint(time.Now().Add(2*time.Hour).Unix()), 1)
		g.lists("ahead", later)
		shop.resolve(depositV2("ahead", "r1", "Success", false))
		shop.expect("ahead", "bill.underpaid (underpaid)")
		until(time.Hour)
		shop.expect("ahead", "bill.underpaid (underpaid)", "bill.expired (underpaid_overdue)")
	})
}
