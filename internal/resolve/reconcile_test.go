package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

const every = 5 * time.Minute

// reconciling starts a shop whose open bills are asked about.
func reconciling(t *testing.T, test func(t *testing.T, shop *shop)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		shop.account.Reconcile = every
		shop.start()
		test(t, shop)
	})
}

// openChecked makes a bill that is asked about, as the handler does.
func (shop *shop) openChecked(reference string, change ...func(*bill.Bill)) {
	shop.t.Helper()
	shop.open(reference, change...)
	err := shop.s.Write(shop.t.Context(), func(tx *store.Tx) error { return tx.PlanCheck(reference, time.Now().Add(every)) })
	if err != nil {
		shop.t.Fatal(err)
	}
	shop.r.Configure(map[string]Account{"default": shop.account}, shop.r.log)
	synctest.Wait()
}

// until lets time pass and everything that is due happen.
func until(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func internalTransfer(s *gateway.Seen) { s.TxID = "" }

func TestAPaymentWhoseCallbackWasMissedIsFound(t *testing.T) {
	reconciling(t, func(t *testing.T, shop *shop) {
		paidAt := time.Now().Add(time.Minute).Truncate(time.Second)
		shop.gateway.answers(lists(gateway.Info{}), lists(listing(due, func(s *gateway.Seen) { s.PaidAt = paidAt })))
		shop.openChecked("a")
		until(every + time.Second)
		shop.expect("a")
		until(every)
		shop.expect("a", "bill.paid (paid)")
		e := shop.told("a")[0]
		if e.Data.Origin != event.FromReconcile || string(e.Data.Raw) != "{}" || !e.Data.Bill.Known {
			t.Errorf("told %+v", e.Data)
		}
		b, _ := shop.bill("a")
		if !b.Payments[0].ArrivedAt.Equal(paidAt) {
			t.Errorf("arrived at %v, and not when the gateway says so", b.Payments[0].ArrivedAt)
		}
	})
}

// TestACallbackThatComesLaterIsTheSamePayment: neither counted nor told twice.
func TestACallbackThatComesLaterIsTheSamePayment(t *testing.T) {
	for name, c := range map[string]struct {
		info   gateway.Info
		bodies [][]byte
		story  []string
	}{
		"with a transaction": {
			listing(due),
			[][]byte{deposit("a", "1", "success", due)},
			[]string{"bill.paid (paid)"},
		},
		"without one": {
			listing(due, internalTransfer),
			[][]byte{deposit("a", "1", "success", due, fields{"txid": "internal transfer"})},
			[]string{"bill.paid (paid)"},
		},
		"that the list names and the callback does not": {
			listing(due),
			[][]byte{deposit("a", "1", "success", due, fields{"txid": ""})},
			[]string{"bill.paid (paid)"},
		},
		"twice": {
			listing(due),
			[][]byte{deposit("a", "1", "success", due), deposit("a", "1", "success", due)},
			[]string{"bill.paid (paid)"},
		},
		"overtaken": {
			listing(due),
			[][]byte{deposit("a", "1", "processing", due), deposit("a", "1", "success", due)},
			[]string{"bill.paid (paid)", "bill.confirming (paid) late", "bill.paid (paid) late"},
		},
		"another payment": {
			listing("20"),
			[][]byte{deposit("a", "1", "success", "30.0137")},
			[]string{"bill.underpaid (underpaid)", "bill.paid (paid)"},
		},
		"equal, but another transaction": {
			listing("20"),
			[][]byte{deposit("a", "other", "success", "20")},
			[]string{"bill.underpaid (underpaid)", "bill.underpaid (underpaid)"},
		},
		"two equal internal transfers": {
			gateway.Info{Payments: append(listing("20", internalTransfer).Payments, listing("20", internalTransfer).Payments...)},
			[][]byte{
				deposit("a", "1", "success", "20", fields{"txid": "internal transfer"}),
				deposit("a", "2", "success", "20", fields{"txid": "internal transfer"}),
			},
			[]string{"bill.underpaid (underpaid)", "bill.underpaid (underpaid)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reconciling(t, func(t *testing.T, shop *shop) {
				shop.gateway.answers(lists(c.info))
				shop.openChecked("a")
				until(every + time.Second)
				_, before := shop.bill("a")
				told := len(shop.told("a"))
				if told != len(c.info.Payments) {
					t.Fatalf("%d payments were found: %s", told, shop.story("a"))
				}
				shop.resolve(c.bodies...)
				shop.expect("a", c.story...)
				b, after := shop.bill("a")
				if named := !strings.HasPrefix(b.Payments[0].ID, foundPrefix); len(b.Payments) == len(c.info.Payments) && !named {
					t.Errorf("the payment has no record: %+v", b.Payments)
				}
				if len(c.story) == told && !after.Paid.Equal(before.Paid) {
					t.Errorf("counted twice: %s, then %s", before.Paid, after.Paid)
				}
			})
		})
	}
}

func TestEqualTransfersAreFoundOneAfterTheOther(t *testing.T) {
	one := listing("10", internalTransfer).Payments
	n := func(n int) gateway.Info { return gateway.Info{Payments: slices.Repeat(one, n)} }
	callback := func(record string) []byte {
		return deposit("a", record, "success", "10", fields{"txid": "internal transfer"})
	}
	reconciling(t, func(t *testing.T, shop *shop) {
		shop.gateway.answers(lists(n(1)), lists(n(2)), lists(n(2)), lists(n(3)))
		shop.openChecked("a")
		until(every + time.Second)
		shop.resolve(callback("1"))
		until(every)
		shop.resolve(callback("2"))
		until(2 * every)
		shop.resolve(callback("3"))
		if _, state := shop.bill("a"); state.Paid.String() != "30" {
			t.Errorf("paid %s", state.Paid)
		}
		if got := len(shop.told("a")); got != 3 {
			t.Errorf("%d events: %s", got, shop.story("a"))
		}
	})
}

func TestWhatIsKnownIsNotFoundAgain(t *testing.T) {
	for name, c := range map[string]struct {
		bodies [][]byte
		info   gateway.Info
		story  []string
	}{
		"a confirmed payment": {
			[][]byte{deposit("a", "1", "success", "20")}, listing("20"), []string{"bill.underpaid (underpaid)"},
		},
		"one of two equal transfers": {
			[][]byte{deposit("a", "1", "success", "20", fields{"txid": "internal transfer"})},
			gateway.Info{Payments: append(listing("20", internalTransfer).Payments, listing("20", internalTransfer).Payments...)},
			[]string{"bill.underpaid (underpaid)", "bill.underpaid (underpaid)"},
		},
		"one that was seen and then confirmed": {
			[][]byte{deposit("a", "1", "processing", due)}, listing(due), []string{"bill.confirming (awaiting_payment)", "bill.paid (paid)"},
		},
		"one in another coin": {
			nil, listing(due, func(s *gateway.Seen) { s.Crypto = "USDC" }), []string{"deposit.success (awaiting_payment)"},
		},
		"one that is not confirmed": {
			nil, listing(due, func(s *gateway.Seen) { s.Status = bill.Processing }), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			reconciling(t, func(t *testing.T, shop *shop) {
				shop.gateway.answers(lists(c.info))
				shop.openChecked("a")
				shop.resolve(c.bodies...)
				until(3*every + time.Second)
				shop.expect("a", c.story...)
			})
		})
	}
}

// TestTheCallbackOfAPaymentThatWasSeenBefore has the same event id as what was told
// when it was found confirmed.
func TestTheCallbackOfAPaymentThatWasSeenBeforeIsToldOnce(t *testing.T) {
	reconciling(t, func(t *testing.T, shop *shop) {
		shop.gateway.answers(lists(listing(due)))
		shop.openChecked("a")
		shop.resolve(deposit("a", "1", "processing", due))
		until(every + time.Second)
		shop.resolve(deposit("a", "1", "success", due))
		shop.expect("a", "bill.confirming (awaiting_payment)", "bill.paid (paid)")
	})
}

func TestWhenBillsAreAskedAbout(t *testing.T) {
	asked := func(t *testing.T, shop *shop) *[]time.Duration {
		t.Helper()
		began, list := time.Now(), new([]time.Duration)
		shop.gateway.lookup = func(context.Context, string) (gateway.Info, error) {
			*list = append(*list, time.Since(began).Round(time.Minute))
			return gateway.Info{}, nil
		}
		return list
	}
	t.Run("while it is valid, at its end, and until it is given up", func(t *testing.T) {
		reconciling(t, func(t *testing.T, shop *shop) {
			list := asked(t, shop)
			shop.openChecked("a", func(b *bill.Bill) { b.ExpiresAt = time.Now().Add(12 * time.Minute) })
			until(72 * time.Hour)
			want := []time.Duration{5 * time.Minute, 10 * time.Minute, 12 * time.Minute}
			for d := 42 * time.Minute; d < 24*time.Hour+12*time.Minute; d += 30 * time.Minute {
				want = append(want, d)
			}
			want = append(want, 24*time.Hour+12*time.Minute)
			if !slices.Equal(*list, want) {
				t.Errorf("asked after %v, want %v", *list, want)
			}
			if n := column(shop, "SELECT reference FROM bills WHERE check_at IS NOT NULL"); len(n) != 0 {
				t.Errorf("still to be asked about: %v", n)
			}
		})
	})
	t.Run("not once it is paid", func(t *testing.T) {
		reconciling(t, func(t *testing.T, shop *shop) {
			list := asked(t, shop)
			shop.openChecked("a")
			shop.resolve(deposit("a", "1", "success", due))
			until(time.Hour)
			if len(*list) > 1 {
				t.Errorf("asked after %v", *list)
			}
		})
	})
	t.Run("again after the gateway could not be reached", func(t *testing.T) {
		reconciling(t, func(t *testing.T, shop *shop) {
			shop.gateway.answers(append(times(3, fails(errUnreachable)), lists(listing(due)))...)
			shop.openChecked("a")
			until(20*time.Minute + time.Second)
			shop.expect("a", "bill.paid (paid)")
		})
	})
	t.Run("never if it is off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			shop := newShop(t) // its gateway fails the test if it is asked
			shop.start()
			shop.openChecked("a")
			until(72 * time.Hour)
		})
	})
	t.Run("after a downtime", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			shop := newShop(t)
			shop.account.Reconcile = every
			shop.start()
			shop.gateway.answers(lists(listing(due, func(s *gateway.Seen) { s.PaidAt = time.Now() })))
			shop.openChecked("a")
			shop.stop()
			time.Sleep(10 * time.Hour)
			shop.start()
			until(time.Second)
			if got := shop.story("a"); !strings.HasSuffix(got, "bill.paid (paid)") {
				t.Errorf("told %s", got)
			}
		})
	})
}

func TestManyBillsAreAskedAboutTogether(t *testing.T) {
	reconciling(t, func(t *testing.T, shop *shop) {
		shop.gateway.answers(lists(gateway.Info{}))
		const n = maxLookup + 1
		for i := range n {
			shop.openChecked(strings.Repeat("a", i+1))
		}
		until(every + time.Second)
		if shop.gateway.asked != n || shop.gateway.requests != 2 {
			t.Errorf("%d bills were asked about in %d requests", shop.gateway.asked, shop.gateway.requests)
		}
	})
}

func TestWhatIsOldIsRemoved(t *testing.T) {
	reconciling(t, func(t *testing.T, shop *shop) {
		shop.gateway.answers(lists(gateway.Info{}))
		shop.account.Reconcile = 0
		shop.configure(shop.account)
		shop.open("old")
		shop.resolve(deposit("old", "1", "success", due))
		shop.open("dead")
		shop.resolve(deposit("dead", "2", "success", due))
		for _, upstream := range []string{"shop", "books"} {
			due, err := shop.s.DueDeliveries(t.Context(), "default", upstream, time.Now(), 10)
			if err != nil || len(due) != 2 {
				t.Fatal(due, err)
			}
			for _, d := range due {
				try := store.Try{Delivery: d.Number, State: map[string]string{"old": store.Delivered, "dead": store.Dead}[d.Subject]}
				if err := shop.s.RecordTry(t.Context(), try, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		shop.r.Retain(30 * 24 * time.Hour)
		until(29 * 24 * time.Hour)
		if got := column(shop, "SELECT reference FROM bills ORDER BY 1"); len(got) != 2 {
			t.Errorf("removed too early: %v", got)
		}
		shop.open("new")
		until(3 * 24 * time.Hour)
		for query, want := range map[string][]string{
			"SELECT reference FROM bills ORDER BY 1":                   {"dead", "new"},
			"SELECT reference FROM payments":                           {"dead"},
			"SELECT count(*) || '' FROM callbacks":                     {"0"},
			"SELECT DISTINCT subject FROM events ORDER BY 1":           {"dead", "new"},
			"SELECT DISTINCT subject || ', ' || state FROM deliveries": {"dead, dead", "new, pending"},
		} {
			if got := column(shop, query); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
	})
}

// One account whose gateway is out of order keeps no other from being asked about.
func TestAnAccountIsAskedAboutThoughAnotherCannotBe(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("healthy")
		for i, name := range []string{"a-broken", "z-broken"} {
			shop.open(fmt.Sprintf("broken %d", i), func(b *bill.Bill) { b.Account = name })
		}
		shop.gateway.lookup = func(context.Context, string) (gateway.Info, error) { return gateway.Info{}, errUnknownOrder }
		accounts := []Account{shop.account}
		for _, name := range []string{"a-broken", "z-broken"} {
			broken := shop.account
			broken.Name = name
			broken.Client = &fakeGateway{Client: shop.gateway.Client, lookup: func(context.Context, string) (gateway.Info, error) {
				return gateway.Info{}, &gateway.Error{Failure: gateway.Unreachable, Err: errors.New("out of order")}
			}}
			accounts = append(accounts, broken)
		}
		shop.configure(accounts...)
		done, err := shop.r.Reconcile(t.Context())
		if done.Bills != 1 || err == nil || !strings.Contains(err.Error(), "a-broken") || !strings.Contains(err.Error(), "z-broken") {
			t.Errorf("%+v %v", done, err)
		}
	})
}
