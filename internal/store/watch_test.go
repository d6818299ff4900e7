package store

import (
	"sync"
	"testing"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// change stores a bill's next state.
func change(t *testing.T, s *Store, reference string, seq int64) {
	t.Helper()
	r := opened(reference)
	r.Seq = seq
	put(t, s, r)
}

// take returns what a watcher was told, or nil.
func take(w *Watcher) *bill.Bill {
	select {
	case b := <-w.C:
		return b
	default:
		return nil
	}
}

func TestASlowWatcherHoldsUpNobodyAndSeesTheNewestState(t *testing.T) {
	s, _ := open(t)
	slow, other := s.Watch("token of 1"), s.Watch("token of 1")
	defer s.Unwatch(slow)
	defer s.Unwatch(other)
	for seq := range int64(100) {
		change(t, s, "1", seq)
		if b := take(other); b == nil || b.Seq != seq {
			t.Fatalf("state %d: the attentive watcher has %+v", seq, b)
		}
	}
	if b := take(slow); b == nil || b.Seq != 99 {
		t.Errorf("the slow watcher has %+v", b)
	}
	if b := take(slow); b != nil {
		t.Errorf("and then %+v", b)
	}
}

func TestAWatcherSeesItsOwnBillUntilItIsReleased(t *testing.T) {
	s, _ := open(t)
	w := s.Watch("token of 1")
	change(t, s, "2", 1)
	if b := take(w); b != nil {
		t.Errorf("it was told of bill %s", b.Reference)
	}
	s.Unwatch(w)
	change(t, s, "1", 1)
	if b := take(w); b != nil {
		t.Error("it was told after its release")
	}
	if n := len(s.watchers.of); n != 0 {
		t.Errorf("%d bills are still watched", n)
	}
}

// TestWatchersComeAndGoWhileABillChanges: whoever watches when the last change is
// stored sees that change.
func TestWatchersComeAndGoWhileABillChanges(t *testing.T) {
	const last = 200
	s, _ := open(t)
	var wg sync.WaitGroup
	for range 8 {
		w := s.Watch("token of 1")
		wg.Go(func() {
			defer s.Unwatch(w)
			seq := int64(-1)
			for b := range w.C {
				if b.Seq <= seq {
					t.Errorf("state %d came after %d", b.Seq, seq)
				}
				if seq = b.Seq; seq == last {
					return
				}
				s.Unwatch(s.Watch("token of 1"))
			}
		})
	}
	for seq := range int64(last + 1) {
		change(t, s, "1", seq)
	}
	wg.Wait()
}
