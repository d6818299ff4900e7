package store

import (
	"sync"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// A Watcher is told the changes of one bill.
type Watcher struct {
	// C has the newest state of the bill. A state that was not taken before the
	// next one came is skipped.
	C     chan *bill.Bill
	token string
}

// Bounds of watching. A bill has one buyer with a few pages; whoever opens more than
// this wants something else.
const (
	maxWatchers       = 50_000
	maxWatchersOfBill = 5_000
)

type watchers struct {
	mu sync.Mutex
	n  int
	of map[string]map[*Watcher]struct{}
}

// Watch returns a watcher of the bill with a token, or nil if there are too many. It
// must be given to Unwatch.
func (s *Store) Watch(token string) *Watcher {
	w := &Watcher{C: make(chan *bill.Bill, 1), token: token}
	s.watchers.mu.Lock()
	defer s.watchers.mu.Unlock()
	set := s.watchers.of[token]
	if s.watchers.n >= maxWatchers || len(set) >= maxWatchersOfBill {
		return nil
	}
	s.watchers.n++
	if set == nil {
		set = make(map[*Watcher]struct{})
		s.watchers.of[token] = set
	}
	set[w] = struct{}{}
	return w
}

// Unwatch releases a watcher.
func (s *Store) Unwatch(w *Watcher) {
	s.watchers.mu.Lock()
	defer s.watchers.mu.Unlock()
	set := s.watchers.of[w.token]
	if _, ok := set[w]; !ok {
		return
	}
	s.watchers.n--
	delete(set, w)
	if len(set) == 0 {
		delete(s.watchers.of, w.token)
	}
}

// publish hands a bill that must not change any more to those who watch it.
func (w *watchers) publish(b *bill.Bill) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for watcher := range w.of[b.Token] {
		select {
		case <-watcher.C: // overtaken
		default:
		}
		watcher.C <- b
	}
}
