package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const connections = 16

// number reads a number from the environment.
func number(t *testing.T, name string, standard uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return standard
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// A traffic is what the gateway sends meanwhile: from each of its connections one
// callback after the other. One that was not answered with "success" is sent again
// until it is, before the next of its bill.
type traffic struct {
	t *testing.T
	s *server
	// tolerated are statuses, other than 200, after which a callback is sent again.
	tolerated map[int]bool
	// up says that the server never ends: it may drop a connection, but somebody is
	// always there to take another one.
	up    bool
	pause atomic.Int64 // the longest pause of a connection between two callbacks; negative is for as long as it is
	stop  chan struct{}
	wg    sync.WaitGroup

	broken  atomic.Int64 // requests that got no answer
	refused atomic.Int64 // requests that got a tolerated one

	mu       sync.Mutex
	sent     map[string][]callback // by bill
	answered []callback            // with success

	there   map[string]bool // keys of callbacks that were seen in the store
	last    int64           // number of the last of them
	checked int             // of the answered ones
}

// begin starts the connections, each with bills of its own: some that the server has
// made and some that it does not know.
func begin(t *testing.T, s *server, seed uint64, up bool, tolerated ...int) *traffic {
	g := &traffic{t: t, up: up, s: s, stop: make(chan struct{}), sent: make(map[string][]callback), there: make(map[string]bool), tolerated: make(map[int]bool)}
	for _, status := range tolerated {
		g.tolerated[status] = true
	}
	for i := range connections {
		bills := []string{s.buy(), s.buy()}
		for n := range 4 {
			bills = append(bills, fmt.Sprintf("elsewhere-%d-%d", i, n))
		}
		g.wg.Go(func() { g.connection(i, bills, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	return g
}

func (g *traffic) connection(id int, bills []string, random *rand.Rand) {
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	pending := make(map[string][]callback) // of a bill, payments that are not confirmed yet
	for n := 0; ; n++ {
		if !g.rest(random) {
			return
		}
		bill := bills[random.IntN(len(bills))]
		c := callback{reference: bill, record: fmt.Sprintf("%d-%d", id, n), status: "success"}
		switch list := pending[bill]; {
		case len(list) > 0 && random.IntN(2) == 0:
			c = list[0]
			c.status, pending[bill] = "success", list[1:]
		case random.IntN(3) == 0:
			c.status = "pending"
			pending[bill] = append(list, c)
		}
		g.mu.Lock()
		g.sent[bill] = append(g.sent[bill], c)
		earlier := g.sent[bill][random.IntN(len(g.sent[bill]))]
		g.mu.Unlock()
		g.deliver(client, c, random)
		if random.IntN(10) == 0 {
			g.deliver(client, earlier, random) // the gateway repeats itself
		}
	}
}

// rest makes a pause and reports whether to go on.
func (g *traffic) rest(random *rand.Rand) bool {
	for {
		longest := g.pause.Load()
		wait := time.Millisecond
		if longest >= 0 {
			wait = time.Duration(random.Int64N(longest + 1))
		}
		select {
		case <-g.stop:
			return false
		case <-time.After(wait):
		}
		if longest >= 0 {
			return true
		}
	}
}

// dropped reports whether a connection ended before there was an answer on it.
func dropped(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(err.Error(), "server closed idle connection")
}

func (g *traffic) deliver(client *http.Client, c callback, random *rand.Rand) {
	for {
		status, answer, err := g.s.send(client, c)
		switch {
		case err != nil:
			g.broken.Add(1)
			if g.up && !dropped(err) {
				g.t.Errorf("callback %s: %v", c.key(), err)
			}
		case status == http.StatusOK && answer == "success":
			g.mu.Lock()
			g.answered = append(g.answered, c)
			g.mu.Unlock()
			return
		case g.tolerated[status]:
			g.refused.Add(1)
		default:
			g.t.Errorf("callback %s was answered with %d %q", c.key(), status, answer)
			return
		}
		time.Sleep(time.Duration(random.IntN(int(5 * time.Millisecond))))
	}
}

// end lets every connection finish what it is about.
func (g *traffic) end() {
	close(g.stop)
	g.wg.Wait()
}

// stored checks that what was answered with success since the last time is in the
// store. That it is still there at the end is for counted to check.
func (g *traffic) stored() {
	g.t.Helper()
	g.mu.Lock()
	answered := g.answered[g.checked:len(g.answered):len(g.answered)]
	g.checked = len(g.answered)
	g.mu.Unlock()
	for _, found := range rows[string](g.s, "SELECT number || ' ' || record_id || ' ' || status FROM callbacks WHERE number > ? ORDER BY number", g.last) {
		n, key, _ := strings.Cut(found, " ")
		g.last, _ = strconv.ParseInt(n, 10, 64)
		g.there[key] = true
	}
	var lost []callback
	for _, c := range answered {
		if !g.there[c.key()] {
			lost = append(lost, c)
		}
	}
	if len(lost) > 0 {
		g.t.Errorf("%d callbacks of %d were answered and are not in the store: %.200v", len(lost), len(answered), lost)
	}
}

// counted checks that every callback is in the store once, resolved, and that each
// bill of the server's own has every payment once.
func (g *traffic) counted() {
	g.t.Helper()
	total, payments := 0, make(map[string]int)
	for bill, list := range g.sent {
		total += len(list)
		for _, c := range list {
			if c.status == "success" {
				payments[bill]++
			}
		}
	}
	if got := rows[int](g.s, "SELECT count(*) FROM callbacks WHERE state = 'resolved'")[0]; got != total {
		g.t.Errorf("%d callbacks are resolved, %d were sent", got, total)
	}
	for _, got := range rows[string](g.s, "SELECT reference || ' ' || paid FROM bills") {
		var (
			reference string
			paid      int
		)
		if _, err := fmt.Sscan(got, &reference, &paid); err != nil || paid != payments[reference] {
			g.t.Errorf("%s is paid, %d payments were sent (%v)", got, payments[reference], err)
		}
	}
}
