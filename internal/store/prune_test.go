package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// prune removes what is older than a time and says what is left.
func prune(t *testing.T, s *Store, before time.Time) (bills, events, callbacks []string) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.Prune(t.Context(), before, 3); err != nil {
			t.Fatal(err)
		}
	}
	return column[string](t, s, "SELECT reference FROM bills ORDER BY 1"),
		column[string](t, s, "SELECT id FROM events ORDER BY 1"),
		column[string](t, s, "SELECT record_id FROM callbacks ORDER BY 1")
}

func TestOnlyWhatIsOverIsRemoved(t *testing.T) {
	s, _ := open(t)
	late := noon.Add(48 * time.Hour)
	add := func(reference, stage string, change func(*Record), deliveries ...string) {
		r := opened(reference)
		if r.Stage = stage; change != nil {
			change(&r)
		}
		put(t, s, r)
		for i, state := range deliveries {
			id := fmt.Sprint(reference, " ", i)
			addEvent(t, s, id, reference, "shop", "books")
			if state != PendingDelivery {
				try(t, s, id, "shop", state, noon)
			}
			try(t, s, id, "books", Delivered, noon) // one upstream that took it is not enough
		}
	}
	pay := func(amount string) func(*Record) {
		return func(r *Record) { r.Payments = []bill.Payment{payment("p", amount, noon)} }
	}
	// The end of its validity was stored later than the bill.
	end := func(reference string) {
		t.Helper()
		write(t, s, func(tx *Tx) error {
			r, err := tx.Bill("default", reference)
			if err != nil {
				return err
			}
			return tx.SaveBill(r, noon.Add(2*time.Hour))
		})
	}
	add("abandoned", Abandoned, nil)
	add("reserved", Reserved, nil)
	add("paid", Open, pay("50.0137"), Delivered, Delivered)
	add("overpaid", Open, pay("51"))
	add("expired", Open, nil, Delivered)
	end("expired")
	add("underpaid, expired", Open, pay("1"), Delivered)
	end("underpaid, expired")
	add("paid, its event dead", Open, pay("50.0137"), Delivered, Dead)
	add("paid, its event pending", Open, pay("50.0137"), PendingDelivery, Delivered)
	add("end not told", Open, nil)
	add("underpaid, end not told", Open, pay("1"), Delivered)
	add("still valid", Open, func(r *Record) { r.ExpiresAt = late })
	for _, state := range []string{Received, Quarantined, Resolved, Refuted, Doubted} {
		c := callback(state)
		c.State = state
		if _, err := s.AddCallback(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}

	for _, step := range []struct {
		name                     string
		before                   time.Time
		bills, events, callbacks int
	}{
		{"before anything", noon, 11, 9, 5},
		{"after the events", noon.Add(time.Millisecond), 11, 2, 2},
		{"before the bills", noon.Add(time.Hour).Add(bill.ListenAfter), 11, 2, 2},
		{"after the bills", noon.Add(time.Hour).Add(bill.ListenAfter + time.Millisecond), 5, 2, 2},
	} {
		bills, events, callbacks := prune(t, s, step.before)
		if len(bills) != step.bills || len(events) != step.events || len(callbacks) != step.callbacks {
			t.Errorf("%s: left are bills %q, events %q, callbacks %q", step.name, bills, events, callbacks)
		}
	}
	bills, events, callbacks := prune(t, s, noon.Add(36*time.Hour))
	if want := []string{"end not told", "paid, its event dead", "paid, its event pending", "still valid", "underpaid, end not told"}; !slices.Equal(bills, want) {
		t.Errorf("bills %q, want %q", bills, want)
	}
	if want := []string{"paid, its event dead 1", "paid, its event pending 0"}; !slices.Equal(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
	if want := []string{Quarantined, Received}; !slices.Equal(callbacks, want) {
		t.Errorf("callbacks %q, want %q", callbacks, want)
	}
	// Nothing is left of what is gone.
	if got := column[string](t, s, `SELECT DISTINCT event FROM deliveries ORDER BY 1`); !slices.Equal(got, events) {
		t.Errorf("deliveries of %q", got)
	}
	if got := column[string](t, s, `SELECT reference FROM payments WHERE reference NOT IN (SELECT reference FROM bills)`); len(got) > 0 {
		t.Errorf("payments of %q", got)
	}

	// What was in the way is over.
	retry(t, s, numberOf(t, s, "paid, its event dead 1", "shop"), "", late)
	try(t, s, "paid, its event dead 1", "shop", Delivered, late)
	try(t, s, "paid, its event pending 0", "shop", Delivered, late)
	end("end not told")
	bills, events, _ = prune(t, s, noon.Add(36*time.Hour))
	if want := []string{"still valid", "underpaid, end not told"}; !slices.Equal(bills, want) || len(events) > 0 {
		t.Errorf("in the end, bills %q, events %q", bills, events)
	}
}

func TestAnEventThatIsRetriedWhileOldOnesAreRemovedStays(t *testing.T) {
	s, _ := open(t)
	addEvent(t, s, "a", "a", "shop")
	try(t, s, "a", "shop", Delivered, noon)
	numbers, err := s.keys(t.Context(), oldEvents, ms(noon.Add(time.Hour)), 10)
	if err != nil || len(numbers) != 1 {
		t.Fatal(numbers, err)
	}
	retry(t, s, numberOf(t, s, "a", "shop"), "", noon)
	write(t, s, func(tx *Tx) error { return tx.exec(pruneEvent, numbers[0]) })
	if got := due(t, s, "shop", noon); got != "a" {
		t.Errorf("due are %q", got)
	}
}

// TestRemovingMakesWayForCallbacks: what is old is removed in short transactions, and
// the writer rests from those while something urgent comes in.
func TestRemovingMakesWayForCallbacks(t *testing.T) {
	const old = 10*pruneAtOnce + 1
	s, _ := open(t)
	write(t, s, func(tx *Tx) error {
		for i := range old {
			if err := tx.AddEvent(eventOf(fmt.Sprint(i), "bill"), nil, noon); err != nil {
				return err
			}
		}
		return nil
	})
	ctx := context.WithoutCancel(t.Context())
	var left []int // after each commit
	s.Observe(Observer{Committed: func(time.Duration) {
		var n int
		if err := s.queryRow(ctx, "SELECT count(*) FROM events").Scan(&n); err != nil {
			t.Error(err)
		}
		left = append(left, n)
	}})
	if more, err := s.Prune(ctx, noon.Add(time.Hour), old+1); err != nil || more {
		t.Error(more, err)
	}
	closeStore(t, s)
	before := old
	for _, n := range left {
		if before-n > pruneAtOnce {
			t.Errorf("%d rows were removed at once", before-n)
		}
		before = n
	}
	if before != 0 || len(left) < old/pruneAtOnce {
		t.Errorf("%d commits left %d rows", len(left), before)
	}
}
