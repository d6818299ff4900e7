package e2e

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is a schedule of retries that no row of bad luck uses up.
var patience = "retry " + strings.Repeat("50ms ", 40)

// TestCrash kills the server again and again while callbacks come in, at a random
// moment or at one that matters. Nothing that was answered may be missing afterwards,
// and nothing may be told twice under two names or in another order. ROUNDS makes it
// longer, SEED repeats a run.
func TestCrash(t *testing.T) {
	rounds, seed := number(t, "ROUNDS", 24), number(t, "SEED", uint64(time.Now().UnixNano()))
	t.Logf("ROUNDS=%d SEED=%d", rounds, seed)
	random := rand.New(rand.NewPCG(seed, connections))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }

	u := newReceiver(t)
	var (
		mu     sync.Mutex
		within = -1        // how many more arrivals until the server is killed; negative is never
		after  bool        // it is killed after the answer, and not before
		moment chan func() // has a function to call when the server is dead
	)
	faults := rand.New(rand.NewPCG(seed, connections+1))
	u.answering(func(_ arrival, w http.ResponseWriter, r *http.Request) int {
		mu.Lock()
		defer mu.Unlock()
		if within--; within == 0 {
			if after {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				moment <- func() {}
				return -1
			}
			dead := make(chan struct{})
			moment <- func() { close(dead) }
			<-dead
			return http.StatusOK // taken, and nobody will ever know
		}
		switch faults.IntN(100) {
		case 0:
			return http.StatusInternalServerError
		case 1:
			return 0
		default:
			return http.StatusOK
		}
	})

	s := newServer(t, "")
	plain := settings{webhook: u.block("shop", patience)}
	other := settings{app: "retain 100d", webhook: u.block("shop", patience+"\ntimeout 10s") + "tolerance 3m"}
	s.start(plain)
	g := begin(t, s, seed, false)
	for round := range rounds {
		// Under full load the writer leaves little of its time to what follows; with
		// pauses everything is at work at once.
		g.pause.Store(int64([]time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond}[random.IntN(3)]))
		kinds := []string{"under load", "at a delivery", "after a delivery", "during a reload", "while it starts", "while it works off"}
		kind := kinds[round%uint64(len(kinds))]
		switch kind {
		case "under load":
			time.Sleep(upTo(400 * time.Millisecond))
			s.kill()
		case "at a delivery", "after a delivery":
			ready := make(chan func(), 1)
			mu.Lock()
			within, after, moment = 1+random.IntN(50), kind == "after a delivery", ready
			mu.Unlock()
			select {
			case dead := <-ready:
				time.Sleep(upTo(2 * time.Millisecond))
				s.kill()
				dead()
			case <-time.After(20 * time.Second):
				t.Fatalf("round %d: nothing is delivered", round)
			}
		case "during a reload":
			done := make(chan error, 1)
			go func() { done <- s.load(other) }()
			time.Sleep(upTo(60 * time.Millisecond))
			s.kill()
			<-done
		case "while it starts":
			s.kill()
			for range 3 {
				s.launch(plain)
				time.Sleep(upTo(200 * time.Millisecond))
				s.kill()
			}
		case "while it works off":
			time.Sleep(upTo(200 * time.Millisecond))
			g.pause.Store(-1)
			time.Sleep(upTo(200 * time.Millisecond))
			s.kill()
		}
		s.start(plain)
		g.stored()
		if t.Failed() {
			t.Fatalf("in round %d, killed %s", round, kind)
		}
	}
	g.pause.Store(0)
	g.end()
	s.settled()
	again := u.check(g.sent)
	s.stop()
	g.stored()
	g.counted()
	if got := rows[int](s, "SELECT count(*) FROM deliveries WHERE state <> 'delivered'")[0]; got != 0 {
		t.Errorf("%d deliveries are not over", got)
	}
	s.intact()
	t.Logf("%d callbacks were answered, %d requests broke off, %d events came, %d of them again after they had been taken",
		len(g.answered), g.broken.Load(), len(u.got()), again)
}
