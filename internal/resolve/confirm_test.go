package resolve

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// listing is what the gateway knows of an order with one confirmed payment.
func listing(amount string, change ...func(*gateway.Seen)) gateway.Info {
	seen := gateway.Seen{Status: bill.Success, Amount: decimal.RequireFromString(amount), Token: trx, TxID: "tx of 1"}
	for _, f := range change {
		f(&seen)
	}
	return gateway.Info{Payments: []gateway.Seen{seen}}
}

var errUnreachable = &gateway.Error{Failure: gateway.Unreachable, Endpoint: "/bill/info", Err: errors.New("connection refused")}

// answers has the gateway give one answer after the other, and the last forever.
func (g *fakeGateway) answers(list ...func() (gateway.Info, error)) {
	g.lookup = func(context.Context, string) (gateway.Info, error) { return list[min(g.asked, len(list))-1]() }
}

func lists(info gateway.Info) func() (gateway.Info, error) {
	return func() (gateway.Info, error) { return info, nil }
}

func fails(err error) func() (gateway.Info, error) {
	return func() (gateway.Info, error) { return gateway.Info{}, err }
}

func times(n int, answer func() (gateway.Info, error)) []func() (gateway.Info, error) {
	return slices.Repeat([]func() (gateway.Info, error){answer}, n)
}

func TestAStaleCallbackCountsOnceTheGatewayConfirmsIt(t *testing.T) {
	for name, c := range map[string]struct {
		answers []func() (gateway.Info, error)
		after   time.Duration
	}{
		"at once":                          {times(1, lists(listing(due))), 0},
		"without naming the transaction":   {times(1, lists(listing(due, func(s *gateway.Seen) { s.TxID = "" }))), 0},
		"after the third question":         {append(times(2, lists(gateway.Info{})), lists(listing(due))), 150 * time.Second},
		"after an outage":                  {append(times(6, fails(errUnreachable)), lists(listing(due))), 6 * time.Hour},
		"after an outage of a day":         {append(times(8, fails(errUnreachable)), lists(listing(due))), 24 * time.Hour},
		"among others":                     {times(1, lists(gateway.Info{Payments: append(listing("1").Payments, listing(due).Payments...)})), 0},
		"after an outage, and not at once": {append(append(times(5, fails(errUnreachable)), lists(gateway.Info{})), lists(listing(due))), 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.open("a", func(b *bill.Bill) { b.ExpiresAt = b.ExpiresAt.Add(10 * 24 * time.Hour) })
				shop.gateway.answers(c.answers...)
				shop.receive(deposit("a", "1", "success", due), stale)
				if c.after > 0 {
					time.Sleep(time.Second)
					if _, state := shop.bill("a"); state.Status != bill.Awaiting {
						t.Errorf("before the gateway has confirmed it the bill is %s", state.Status)
					}
				}
				time.Sleep(c.after)
				synctest.Wait()
				shop.expect("a", "bill.paid (paid)")
				if got := shop.inbox(); !slices.Equal(got, []string{"1 resolved"}) || shop.gateway.asked != len(c.answers) {
					t.Errorf("inbox is %q after %d questions", got, shop.gateway.asked)
				}
			})
		})
	}
}

func TestAStaleCallbackThatTheGatewayDoesNotConfirmIsRefuted(t *testing.T) {
	for name, answer := range map[string]func() (gateway.Info, error){
		"it does not know the order":     fails(errUnknownOrder),
		"it lists no payment":            lists(gateway.Info{}),
		"it lists another amount":        lists(listing("20")),
		"it lists another coin":          lists(listing(due, func(s *gateway.Seen) { s.Crypto = "USDC" })),
		"it lists another chain":         lists(listing(due, func(s *gateway.Seen) { s.Chain = "BSC" })),
		"it lists another contract":      lists(listing(due, func(s *gateway.Seen) { s.Contract = "TFake" })),
		"it lists another transaction":   lists(listing(due, func(s *gateway.Seen) { s.TxID = "tx of 2" })),
		"it lists one not confirmed yet": lists(listing(due, func(s *gateway.Seen) { s.Status = bill.Processing })),
		"it lists one that failed":       lists(listing(due, func(s *gateway.Seen) { s.Status = bill.Failed })),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.open("a", func(b *bill.Bill) { b.ExpiresAt = b.ExpiresAt.Add(10 * 24 * time.Hour) })
				shop.gateway.answers(answer)
				shop.receive(deposit("a", "1", "success", due), stale)
				time.Sleep(time.Hour)
				if got := shop.inbox(); !slices.Equal(got, []string{"1 quarantined"}) {
					t.Errorf("after an hour the inbox is %q", got)
				}
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				if got := shop.inbox(); !slices.Equal(got, []string{"1 refuted"}) {
					t.Errorf("after a day the inbox is %q", got)
				}
				shop.expect("a")
				if _, state := shop.bill("a"); state.Status != bill.Awaiting || shop.gateway.asked != 1+unlisted {
					t.Errorf("the bill is %s after %d questions", state.Status, shop.gateway.asked)
				}
			})
		})
	}
}

func TestAStaleCallbackIsHandedOnUnbelievedIfTheGatewayCannotBeAskedForDays(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a", func(b *bill.Bill) { b.ExpiresAt = b.ExpiresAt.Add(10 * 24 * time.Hour) })
		shop.gateway.answers(fails(errUnreachable))
		shop.receive(deposit("a", "1", "success", due), stale)
		time.Sleep(46 * time.Hour)
		shop.expect("a")
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		shop.expect("a", "unknown.received")
		if _, state := shop.bill("a"); state.Status != bill.Awaiting {
			t.Errorf("the bill is %s", state.Status)
		}
		if p := shop.told("a")[0].Data.Payment; p.ID != "1" || p.Amount != due {
			t.Errorf("payment is %+v", p)
		}
	})
}

func TestAStaleCallbackOfWhichTheGatewayCannotBeAskedIsHandedOnUnbelieved(t *testing.T) {
	for _, file := range []string{"direct-deposit", "invoice", "api-withdrawal", "refund"} {
		t.Run(file, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join("testdata", "v1-webhook-"+file+".json"))
			if err != nil {
				t.Fatal(err)
			}
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.receive(body, stale)
				synctest.Wait()
				if got := column(shop, "SELECT type FROM events"); !slices.Equal(got, []string{"unknown.received"}) {
					t.Errorf("told %q", got)
				}
				if shop.gateway.asked != 0 {
					t.Error("the gateway was asked")
				}
			})
		})
	}
}

func TestAStaleMessageThatConfirmsNothingNeedsOnlyTheOrder(t *testing.T) {
	for status, story := range map[string]string{
		"pending": "bill.confirming (awaiting_payment)", "processing": "bill.confirming (awaiting_payment)", "failed": "bill.payment_failed (awaiting_payment)",
	} {
		t.Run(status, func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.open("a")
				shop.gateway.answers(lists(gateway.Info{}))
				shop.receive(deposit("a", "1", status, due), stale)
				synctest.Wait()
				shop.expect("a", story)
			})
		})
	}
}

// TestAConfirmedPaymentArrivedWhenTheGatewaySaysSo: the callback of a payment in
// time was late, the payment was not.
func TestAConfirmedPaymentArrivedWhenTheGatewaySaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a")
		paidAt := time.Now().Add(59 * time.Minute)
		time.Sleep(90 * time.Minute)
		shop.gateway.answers(lists(listing(due, func(s *gateway.Seen) { s.PaidAt = paidAt })))
		shop.receive(deposit("a", "1", "success", due), stale)
		synctest.Wait()
		shop.expect("a", "bill.expired (expired)", "bill.paid (paid)")
		if b, _ := shop.bill("a"); !b.Payments[0].ArrivedAt.Equal(paidAt) {
			t.Errorf("it arrived at %v, want %v", b.Payments[0].ArrivedAt, paidAt)
		}
	})
}

// TestWaitingForItsAccountTakesNothingFromAStaleCallback: only questions that the
// gateway was asked count against it.
func TestWaitingForItsAccountTakesNothingFromAStaleCallback(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a", func(b *bill.Bill) { b.ExpiresAt = b.ExpiresAt.Add(24 * time.Hour) })
		shop.configure(Account{Name: "other"})
		synctest.Wait()
		shop.receive(deposit("a", "1", "success", due), stale)
		time.Sleep(30 * time.Minute)
		shop.gateway.answers(lists(gateway.Info{}), lists(listing(due)))
		shop.configure(shop.account)
		time.Sleep(time.Hour)
		synctest.Wait()
		shop.expect("a", "bill.paid (paid)")
	})
}

// TestAnUnreachableGatewayHoldsUpNoFreshCallback: each question takes as long as a
// request may, and there are many.
func TestAnUnreachableGatewayHoldsUpNoFreshCallback(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.gateway.lookup = func(ctx context.Context, _ string) (gateway.Info, error) {
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
			}
			return gateway.Info{}, errUnreachable
		}
		shop.open("a")
		for i := range batch {
			record := decimal.NewFromInt(int64(i)).String()
			shop.receive(deposit("order "+record, "stale "+record, "success", due), stale)
		}
		synctest.Wait()
		shop.receive(deposit("a", "fresh", "success", due))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		shop.expect("a", "bill.paid (paid)")
	})
}

// TestStoppingWhileTheGatewayIsAskedDecidesNothing: what the stop breaks off is
// asked again by the next start, however often.
func TestStoppingWhileTheGatewayIsAskedDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		shop.gateway.lookup = func(ctx context.Context, _ string) (gateway.Info, error) {
			<-ctx.Done()
			return gateway.Info{}, ctx.Err()
		}
		shop.open("a")
		shop.receive(deposit("a", "1", "success", due), stale)
		for range 20 {
			shop.start()
			synctest.Wait()
			shop.stop()
		}
		if got, want := column(shop, "SELECT state || ' ' || asked FROM callbacks"), []string{store.Quarantined + " 0"}; !slices.Equal(got, want) {
			t.Errorf("the callback is %q", got)
		}
	})
}
