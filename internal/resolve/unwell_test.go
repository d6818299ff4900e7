package resolve

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// lock keeps the store from writing, so that everything asked of it fails after the
// ten seconds for which it waits.
func (shop *shop) lock() (release func()) {
	shop.t.Helper()
	db, err := sql.Open("sqlite", "file:"+shop.path)
	if err != nil {
		shop.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		shop.t.Fatal(err)
	}
	return func() {
		shop.t.Helper()
		if _, err := db.Exec("ROLLBACK"); err != nil {
			shop.t.Error(err)
		}
		db.Close()
	}
}

// TestAStoreThatIsUnwellPutsNoCallbackOff: it says nothing about a callback that it
// could not be resolved, and one that is put off would be overtaken.
func TestAStoreThatIsUnwellPutsNoCallbackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, unwell := range []time.Duration{5 * time.Second, 15 * time.Second, 25 * time.Second, 35 * time.Second} {
			shop := newShop(t)
			shop.open("a")
			shop.receive(deposit("a", "1", "success", "1"))
			shop.receive(deposit("a", "2", "success", "2"))
			release := shop.lock()
			shop.start()
			until(unwell)
			release()
			until(15 * time.Second)
			var paid []string
			for _, e := range shop.told("a") {
				paid = append(paid, e.Data.Bill.Paid)
			}
			if !slices.Equal(paid, []string{"1", "3"}) {
				t.Errorf("unwell for %v: told that %q are paid", unwell, paid)
			}
			if got := column(shop, "SELECT problem FROM callbacks WHERE problem <> ''"); len(got) > 0 {
				t.Errorf("unwell for %v: problems %q", unwell, got)
			}
			shop.stop()
		}
	})
}

// TestTheGatewayIsLeftInPeaceWhileTheStoreIsUnwell: what it answers cannot be kept, so
// it is asked less and less, whatever else comes in.
func TestTheGatewayIsLeftInPeaceWhileTheStoreIsUnwell(t *testing.T) {
	check := func(shop *shop) {
		err := shop.s.Write(shop.t.Context(), func(tx *store.Tx) error { return tx.PlanCheck("a", time.Now()) })
		if err != nil {
			shop.t.Fatal(err)
		}
	}
	callback := func(shop *shop) { shop.receive(deposit("a", "1", "success", due), stale) }
	for name, prepare := range map[string]func(*shop){
		"about an open bill":       check,
		"about a stale callback":   callback,
		"about both, with reloads": func(shop *shop) { check(shop); callback(shop) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shop := newShop(t)
				shop.account.Reconcile = every
				shop.gateway.lookup = func(context.Context, string) (gateway.Info, error) { return listing(due), nil }
				shop.open("a", func(b *bill.Bill) { b.ExpiresAt = time.Now().Add(24 * time.Hour) })
				prepare(shop)
				release := shop.lock()
				shop.start()
				for range 30 * 60 {
					until(time.Second)
					if strings.HasSuffix(name, "reloads") {
						shop.configure(shop.account)
					}
				}
				if n := shop.gateway.requests; n < 1 || n > 2*40 {
					t.Errorf("it was asked %d times in half an hour", n)
				}
				release()
				until(3 * time.Minute)
				shop.expect("a", "bill.paid (paid)")
			})
		})
	}
}
