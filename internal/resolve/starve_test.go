package resolve

import (
	"errors"
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
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// TestAPaymentThatItsCallbackFlagsStaysHeld: however often the order's list does not flag
// it: that may not have heard of it.
func TestAPaymentThatItsCallbackFlagsStaysHeld(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", due, "Success", false))
		shop.openChecked("abc")
		shop.resolve(depositV2("abc", "r1", "Success", true))
		shop.expect("abc", "bill.payment_held (awaiting_payment)")
		for _, record := range []string{"", strings.Replace(cleared, "false", "true", 1), strings.Replace(cleared, "abc", "xyz", 1), `{"recordId":"r1","orderId":"abc"}`} {
			if record != "" {
				g.recorded("r1", record)
			}
			until(every + time.Second)
			shop.expect("abc", "bill.payment_held (awaiting_payment)")
		}
		g.recorded("r1", cleared)
		until(every + time.Second)
		shop.expect("abc", "bill.payment_held (awaiting_payment)", "bill.paid (paid)")
	})
}

// TestTheLastQuestionIsOneThatWasAnswered: an outage over that hour loses no payment.
func TestTheLastQuestionIsOneThatWasAnswered(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc")
		shop.openChecked("abc") // valid for an hour
		until(24*time.Hour + 30*time.Minute)
		g.lists("abc", listedV2("r1", due, "Success", false)) // missed callback
		g.fails(unreachable)
		until(time.Hour) // a short outage over the last question
		g.fails(nil)
		until(72 * time.Hour)
		if got := shop.story("abc"); !strings.Contains(got, "paid") {
			t.Errorf("told %s", got)
		}
	})
}

// TestHangingOrdersHoldUpNobody: they are asked about first and three of them end the turn,
// so those that were not asked about come first next time, also for the last time.
func TestHangingOrdersHoldUpNobody(t *testing.T) {
	for name, begins := range map[string]time.Duration{
		"while they are valid":     7 * time.Minute,
		"after that":               62 * time.Minute,
		"before the last question": 24*time.Hour + 45*time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
				odd := &hangingOrders{gatewayV2: g}
				shop.talksTo(odd)
				for _, reference := range []string{"a-hangs-1", "a-hangs-2", "a-hangs-3", "b"} {
					g.lists(reference)
					shop.openChecked(reference)
				}
				until(begins)
				g.lists("b", listedV2("r1", due, "Success", false))
				odd.on.Store(true)
				until(2 * time.Hour)
				if got := shop.story("b"); !strings.Contains(got, "bill.paid") {
					t.Errorf("told %s", got)
				}
			})
		})
	}
}

// A hangingOrders gateway hangs when it is asked about some orders, once that is on.
type hangingOrders struct {
	*gatewayV2
	on atomic.Bool
}

func (g *hangingOrders) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	if text, _ := io.ReadAll(body); g.on.Load() && strings.Contains(string(text), `"a-hangs`) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return g.gatewayV2.RoundTrip(r)
}

// TestACopyThatIsBeingAskedAboutMakesRoomForNoOther: its number stays its own, or the
// answer about it would end another.
func TestACopyThatIsBeingAskedAboutMakesRoomForNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		gate := &gated{gatewayV2: g, nth: 2, release: make(chan struct{})}
		shop.account.Client = clientOf(gate)
		shop.open("abc", validForDays)
		g.lists("abc", listedV2("r1", due, "Success", true))
		g.recorded("u1", `{"recordId":"u1","referenceId":"user-7","coinId":1280,"coinSymbol":"USDT","chain":"TRX","amount":"9","status":"Success","isFlaggedAsRisky":false}`)
		shop.receive(depositV2("abc", "r1", "Success", false))
		shop.receive(depositV2("abc", "r1", "Success", true))
		shop.start()
		until(time.Second) // the first is answered, the second is being asked about
		if got := shop.inbox(); !slices.Equal(got, []string{"r1 resolved", "r1 resolved"}) {
			t.Errorf("inbox is %q", got)
		}
		shop.receive([]byte(`{"type":"DirectDeposit","msg":{"recordId":"u1","referenceId":"user-7","coinId":1280,"coinSymbol":"USDT","amount":"9","status":"Success","isFlaggedAsRisky":false}}`))
		until(time.Second)
		close(gate.release)
		until(72 * time.Hour)
		if got := shop.story("user-7"); !strings.Contains(got, "deposit.success") {
			t.Errorf("told %q about user-7", got)
		}
	})
}

// gated holds back the nth question about order abc.
type gated struct {
	*gatewayV2
	n, nth  int32
	release chan struct{}
}

func (g *gated) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := r.GetBody()
	if text, _ := io.ReadAll(body); strings.HasSuffix(r.URL.Path, "/getAppOrderInfo") && strings.Contains(string(text), `"abc"`) && atomic.AddInt32(&g.n, 1) == g.nth {
		<-g.release
	}
	return g.gatewayV2.RoundTrip(r)
}

// TestThoseWhoWaitForTheirTurnRestToo: the gateway refuses while many questions wait for
// the limiter.
func TestThoseWhoWaitForTheirTurnRestToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, g := newShopV2(t)
		limited := &limiting{gatewayV2: g, start: time.Now()}
		shop.account.Client = clientOf(limited)
		for i := range 60 {
			reference := fmt.Sprint("order-", i)
			g.lists(reference, listedV2(fmt.Sprint("r", i), due, "Success", false))
			shop.open(reference, validForDays)
			shop.receive(depositV2(reference, fmt.Sprint("r", i), "Success", false))
		}
		shop.start()
		until(2 * time.Minute) // of which the gateway refuses three seconds
		if got := column(shop, "SELECT status || ' ' || count(*) FROM bills GROUP BY status"); len(got) != 1 || got[0] != "paid 60" {
			t.Errorf("after two minutes: %q", got)
		}
		until(15 * time.Minute)
	})
}

// limiting answers 22 questions and then refuses for three seconds.
type limiting struct {
	*gatewayV2
	start time.Time
	n     atomic.Int32
}

func (g *limiting) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/getAppOrderInfo") {
		return g.gatewayV2.RoundTrip(r)
	}
	time.Sleep(20 * time.Millisecond)
	if n := g.n.Add(1); n > 22 && time.Since(g.start) < 3*time.Second {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"code":11004,"msg":"RateLimit"}`)), Header: http.Header{}, Request: r}, nil
	}
	return g.gatewayV2.RoundTrip(r)
}

// TestAContradictionBindsNoHostedBill: the payment that is on its way keeps it.
func TestAContradictionBindsNoHostedBill(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.hosted = true
		g.lists("abc", listedV2("r1", "50.015005", "Processing", false))
		shop.openChecked("abc", hosted, validForDays)
		shop.resolve(depositV2("abc", "r1", "Processing", false))
		g.lists("abc", listedV2("r1", "50.015005", "Processing", false), listedV2("r2", "1", "Success", false))
		shop.resolve([]byte(`{"type":"ApiDeposit","msg":{"recordId":"r2","orderId":"abc","coinId":9999,"coinSymbol":"SHIB","status":"Success","isFlaggedAsRisky":false}}`))
		b, state := shop.bill("abc")
		if b.Pays.CoinID == bill.NoCoin || state.Payable {
			t.Errorf("the bill is bound to no coin: %+v, payable %v", b.Pays, state.Payable)
		}
	})
}

// TestAHostedBillTakesNoPaymentInAnotherCoinWithoutItsPrice: it would never count, even if
// the first fails.
func TestAHostedBillTakesNoPaymentInAnotherCoinWithoutItsPrice(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.hosted = true
		odd := &oddGateway{gatewayV2: g, about: "abc", with: answering(`{"code":15002,"msg":"OrderExpired"}`)}
		odd.fixed.Store(true)
		shop.talksTo(odd)
		first, second := listedV2("r1", "50.015005", "Processing", false), onBsc(listedV2("r2", "50.015004501350405122", "Success", false))
		g.lists("abc", first)
		shop.openChecked("abc", hosted, validForDays)
		shop.resolve(depositV2("abc", "r1", "Processing", false))
		odd.fixed.Store(false)
		g.recorded("r2", `{"recordId":"r2","orderId":"abc","coinId":1280,"coinSymbol":"USDT","chain":"BSC","amount":"50.015004501350405122","status":"Success","isFlaggedAsRisky":false}`)
		shop.resolve(depositV2("abc", "r2", "Success", false))
		odd.fixed.Store(true)
		g.lists("abc", listedV2("r1", "50.015005", "Failed", false), second)
		shop.resolve(depositV2("abc", "r1", "Failed", false))
		until(24 * time.Hour)
		_, state := shop.bill("abc")
		if state.Status != bill.Paid {
			t.Errorf("bill is %s", state.Status)
		}
	})
}

// TestAPaymentThatIsTakenBackLeavesNothingBehind: nor does what was told of it while it was
// on its way.
func TestAPaymentThatIsTakenBackLeavesNothingBehind(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc")
		shop.resolve(depositV2("abc", "r1", "Processing", false), depositV2("abc", "r1", "Success", false))
		until(60 * time.Hour)
		_, state := shop.bill("abc")
		if state.Confirming || !state.Payable {
			t.Errorf("confirming %v payable %v", state.Confirming, state.Payable)
		}
	})
}

// TestAnAnnouncedPaymentIsTakenBackWhenTheAccountMoves: nobody can be asked about it any more.
func TestAnAnnouncedPaymentIsTakenBackWhenTheAccountMoves(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.fails(unreachable)
		shop.resolve(depositV2("abc", "r1", "Success", false))
		shop.account.API = "v1"
		shop.account.Client = gateway.NewV1(gateway.Config{Signer: noSigner{}, Endpoint: "http://gateway.test", Transport: g})
		shop.configure(shop.account)
		until(time.Hour)
		_, state := shop.bill("abc")
		if state.Confirming || !state.Payable {
			t.Errorf("confirming %v payable %v", state.Confirming, state.Payable)
		}
	})
}

// TestAPaymentThatIsHeldAfterTheBillWasGivenUpIsAskedAbout: its release may come by no
// callback.
func TestAPaymentThatIsHeldAfterTheBillWasGivenUpIsAskedAbout(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc")
		shop.openChecked("abc")
		until(48 * time.Hour)
		g.lists("abc", listedV2("r1", due, "Success", true))
		shop.resolve(depositV2("abc", "r1", "Success", true))
		g.lists("abc", listedV2("r1", due, "Success", false))
		g.recorded("r1", cleared)
		until(10 * 24 * time.Hour)
		shop.expect("abc", "bill.expired (expired)", "bill.payment_held (expired)", "bill.paid (paid_overdue)")
	})
}

// TestAGeneralFailureAboutTheRecordDeniesNothing: as one about the order denies nothing.
func TestAGeneralFailureAboutTheRecordDeniesNothing(t *testing.T) {
	inBubbleV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		odd := &oddGateway{gatewayV2: g, about: "r1", with: answering(`{"code":10001,"msg":"Failed"}`)}
		shop.talksTo(odd)
		g.lists("abc", strings.Replace(listedV2("r1", due, "Success", false), `,"isFlaggedAsRisky":false`, "", 1))
		g.recorded("r1", `{"recordId":"r1","orderId":"abc","coinId":1280,"coinSymbol":"USDT","chain":"TRX","amount":"50.0137","status":"Success","isFlaggedAsRisky":false}`)
		shop.resolve([]byte(`{"type":"ApiDeposit","msg":{"recordId":"r1","orderId":"abc","coinId":1280,"coinSymbol":"USDT","status":"Success"}}`))
		until(48 * time.Hour)
		shop.expect("abc")
		odd.fixed.Store(true)
		until(25 * time.Hour)
		shop.expect("abc", "bill.paid (paid)")
	})
}

// TestABadlySignedAnswerHoldsUpNoOtherBill: though it is about the first in every turn.
func TestABadlySignedAnswerHoldsUpNoOtherBill(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		shop.account.Client = gateway.NewV2(gateway.Config{Signer: badFor{}, Endpoint: "http://gateway.test", Timeout: 10 * time.Second, Transport: &signing{g}})
		shop.configure(shop.account)
		for i, reference := range []string{"a-poison", "b", "c"} {
			g.lists(reference, listedV2(fmt.Sprint("r", i), due, "Success", false))
			shop.openChecked(reference, validForDays)
		}
		until(72 * time.Hour)
		shop.expect("b", "bill.paid (paid)")
		shop.expect("c", "bill.paid (paid)")
	})
}

// A signing gateway signs its answers, and a badFor signer finds one of them badly signed.
type signing struct{ *gatewayV2 }

func (g *signing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.gatewayV2.RoundTrip(r)
	if err == nil {
		resp.Header.Set("Appid", "x")
		resp.Header.Set("Timestamp", "1")
		resp.Header.Set("Sign", "y")
	}
	return resp, err
}

type badFor struct{ noSigner }

func (badFor) Verify(_, _, _ string, body []byte) (time.Time, error) {
	if strings.Contains(string(body), `"r0"`) {
		return time.Time{}, errors.New("bad signature")
	}
	return time.Time{}, nil
}

// TestAReleaseMayBeAheadOfTheList: its callback is asked about until the list agrees.
func TestAReleaseMayBeAheadOfTheList(t *testing.T) {
	test := func(t *testing.T, shop *shop, g *gatewayV2) {
		g.lists("abc", listedV2("r1", due, "Success", true))
		shop.resolve(depositV2("abc", "r1", "Success", true))
		shop.expect("abc", "bill.payment_held (awaiting_payment)")
		shop.resolve(depositV2("abc", "r1", "Success", false)) // released
		g.lists("abc", listedV2("r1", due, "Success", false))  // and the list says so a moment later
		until(72 * time.Hour)
		if got := shop.story("abc"); !strings.Contains(got, "bill.paid") {
			t.Errorf("told %s", got)
		}
	}
	t.Run("without reconcile", func(t *testing.T) { inBubbleV2(t, test) })
	t.Run("after the last question", func(t *testing.T) {
		reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
			g.lists("abc")
			shop.openChecked("abc")
			until(48 * time.Hour)
			g.lists("abc", listedV2("r1", due, "Success", true))
			shop.resolve(depositV2("abc", "r1", "Success", true))
			shop.resolve(depositV2("abc", "r1", "Success", false))
			g.lists("abc", listedV2("r1", due, "Success", false))
			until(240 * time.Hour)
			if got := shop.story("abc"); !strings.Contains(got, "bill.paid") {
				t.Errorf("told %s", got)
			}
		})
	})
}

// TestACoinMayGetItsNewNameWhileTheListIsKept: the list is asked for anew.
func TestACoinMayGetItsNewNameWhileTheListIsKept(t *testing.T) {
	reconcilingV2(t, func(t *testing.T, shop *shop, g *gatewayV2) {
		valid := func(b *bill.Bill) { validForDays(b); b.Pays.CoinID = 1280 }
		g.lists("warm", listedV2("r0", due, "Success", false))
		shop.openChecked("warm", valid)
		shop.resolve(depositV2("warm", "r0", "Success", false))
		shop.expect("warm", "bill.paid (paid)")
		g.mu.Lock()
		g.coins = `{"coinId":1280,"symbol":"USDT0","status":"Normal","networks":{"TRX":{"chain":"TRX","precision":6}}}`
		g.mu.Unlock()
		until(30 * time.Minute)
		g.lists("abc", listedV2("r1", due, "Success", false))
		shop.openChecked("abc", valid)
		shop.resolve([]byte(`{"type":"ApiDeposit","msg":{"recordId":"r1","orderId":"abc","coinId":1280,"coinSymbol":"USDT0","status":"Success","isFlaggedAsRisky":false}}`))
		until(72 * time.Hour)
		if got := shop.story("abc"); !strings.Contains(got, "bill.paid") {
			t.Errorf("told %s", got)
		}
	})
}
