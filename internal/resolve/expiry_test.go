package resolve

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
)

func TestTheEndOfABillsValidityIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a")
		time.Sleep(time.Hour - time.Millisecond)
		synctest.Wait()
		shop.expect("a")
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		shop.expect("a", "bill.expired (expired)")

		e := shop.told("a")[0]
		if e.Data.Origin != event.FromTimer || e.Data.Payment != nil || !e.Data.Bill.Known {
			t.Errorf("data is %+v", e.Data)
		}
		if at, err := time.Parse(time.RFC3339, e.Time); err != nil || time.Since(at) > 10*time.Millisecond {
			t.Errorf("its time is %s", e.Time)
		}
		if b, state := shop.bill("a"); b.Seq != 2 || state.Status != bill.Expired {
			t.Errorf("bill is %+v", b)
		}

		time.Sleep(48 * time.Hour)
		shop.stop()
		shop.start()
		synctest.Wait()
		shop.expect("a", "bill.expired (expired)")
	})
}

func TestWhatHappensAroundTheEndOfABillsValidity(t *testing.T) {
	type step struct {
		at   time.Duration
		body []byte
	}
	for name, c := range map[string]struct {
		steps []step
		story []string
	}{
		"paid before": {
			[]step{{59 * time.Minute, deposit("a", "1", "success", due)}}, []string{"bill.paid (paid)"},
		},
		"paid after": {
			[]step{{61 * time.Minute, deposit("a", "1", "success", due)}},
			[]string{"bill.expired (expired)", "bill.paid (paid_overdue)"},
		},
		"overpaid after": {
			[]step{{61 * time.Minute, deposit("a", "1", "success", "51")}},
			[]string{"bill.expired (expired)", "bill.overpaid (overpaid_overdue)"},
		},
		"paid in part before": {
			[]step{{59 * time.Minute, deposit("a", "1", "success", "20")}},
			[]string{"bill.underpaid (underpaid)", "bill.expired (underpaid_overdue)"},
		},
		"paid in part after": {
			[]step{{61 * time.Minute, deposit("a", "1", "success", "20")}},
			[]string{"bill.expired (expired)", "bill.underpaid (underpaid_overdue)"},
		},
		"half before and half after": {
			[]step{{59 * time.Minute, deposit("a", "1", "success", "20")}, {61 * time.Minute, deposit("a", "2", "success", "30.0137")}},
			[]string{"bill.underpaid (underpaid)", "bill.expired (underpaid_overdue)", "bill.paid (paid_overdue)"},
		},
		"seen before and confirmed after": {
			[]step{{59 * time.Minute, deposit("a", "1", "processing", due)}, {61 * time.Minute, deposit("a", "1", "success", due)}},
			[]string{"bill.confirming (awaiting_payment)", "bill.expired (expired)", "bill.paid (paid)"},
		},
		"paid before and more after": {
			[]step{{59 * time.Minute, deposit("a", "1", "success", due)}, {61 * time.Minute, deposit("a", "2", "success", "1")}},
			[]string{"bill.paid (paid)", "bill.overpaid (overpaid)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, shop *shop) {
				shop.open("a")
				began := time.Now()
				for _, s := range c.steps {
					time.Sleep(time.Until(began.Add(s.at)))
					shop.resolve(s.body)
				}
				time.Sleep(time.Until(began.Add(72 * time.Hour)))
				synctest.Wait()
				shop.expect("a", c.story...)
			})
		})
	}
}

func TestABillThatExpiredDuringADowntimeIsToldAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		shop.open("a")
		shop.open("b")
		time.Sleep(30 * time.Minute)
		shop.receive(deposit("b", "1", "success", due)) // in time, though it is resolved late
		time.Sleep(24 * time.Hour)
		shop.start()
		synctest.Wait()
		shop.expect("a", "bill.expired (expired)")
		shop.expect("b", "bill.paid (paid)")
	})
}

func TestManyBillsExpireTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		const bills = 2*batch + 5
		for i := range bills {
			shop.open(fmt.Sprint(i))
		}
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		for i := range bills {
			shop.expect(fmt.Sprint(i), "bill.expired (expired)")
		}
	})
}

func TestABillOfAnAccountThatIsNotConfiguredExpiresOnceItIs(t *testing.T) {
	inBubble(t, func(t *testing.T, shop *shop) {
		shop.open("a", func(b *bill.Bill) { b.Account = "other" })
		time.Sleep(24 * time.Hour)
		shop.expect("a")
		other := shop.account
		other.Name = "other"
		shop.configure(shop.account, other)
		synctest.Wait()
		shop.expect("a", "bill.expired (expired)")
	})
}
