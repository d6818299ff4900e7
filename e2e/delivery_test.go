package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestDeliveryToAnUpstreamWithFaults has a bill for each way in which an upstream can
// answer. The bill's second event must come after its first is over, and no bill or
// upstream may wait for another.
func TestDeliveryToAnUpstreamWithFaults(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) int {
		<-r.Context().Done()
		return 0
	}
	status := func(n int) func(http.ResponseWriter, *http.Request) int {
		return func(http.ResponseWriter, *http.Request) int { return n }
	}
	with := func(n int, name, value string) func(http.ResponseWriter, *http.Request) int {
		return func(w http.ResponseWriter, _ *http.Request) int {
			w.Header().Set(name, value)
			return n
		}
	}
	type script []func(http.ResponseWriter, *http.Request) int
	faults := map[string]struct {
		script script // of the first event; whatever comes after it is taken
		state  string
	}{
		"errors":             {script{status(500), status(502), status(404)}, "delivered 4"},
		"no answer in time":  {script{hang}, "delivered 2"},
		"connection reset":   {script{status(0)}, "delivered 2"},
		"redirect":           {script{with(307, "Location", "/elsewhere"), with(301, "Location", "/elsewhere")}, "delivered 3"},
		"asks to come later": {script{with(429, "Retry-After", "1"), with(503, "Retry-After", "nonsense")}, "delivered 3"},
		"head too large":     {script{with(200, "X-Large", strings.Repeat("x", 1<<20))}, "delivered 2"},
		"gone":               {script{status(410)}, "dead 1"},
		"never":              {script{status(500), status(500), status(500), status(500)}, "dead 4"},
		"drips": {script{func(w http.ResponseWriter, r *http.Request) int {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, ".")
				_ = http.NewResponseController(w).Flush()
			}
			return -1
		}}, "delivered 1"},
		"huge answer": {script{func(w http.ResponseWriter, _ *http.Request) int {
			_, _ = io.CopyN(w, endless{}, 16<<20)
			return -1
		}}, "delivered 1"},
	}

	var (
		mu    sync.Mutex
		tries = make(map[string]int)
	)
	faulty, quick, slow := newReceiver(t), newReceiver(t), newReceiver(t)
	faulty.answering(func(a arrival, w http.ResponseWriter, r *http.Request) int {
		if r.URL.Path != "/events" {
			t.Errorf("a redirect to %s was followed", r.URL.Path)
		}
		mu.Lock()
		n := tries[a.key]
		tries[a.key]++
		mu.Unlock()
		if s := faults[a.subject].script; strings.HasPrefix(a.key, "first") && n < len(s) {
			return s[n](w, r)
		}
		return http.StatusOK
	})
	var open, most atomic.Int64
	release := make(chan struct{})
	slow.answering(func(_ arrival, _ http.ResponseWriter, r *http.Request) int {
		n := open.Add(1)
		defer open.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return http.StatusOK
	})

	s := newServer(t, "")
	others := quick.block("quick", "") + slow.block("slow", "timeout 1m")
	s.start(settings{webhook: faulty.block("faulty", "retry 50ms 50ms 50ms\ntimeout 500ms") + others})
	for _, record := range []string{"first", "second"} {
		for bill := range faults {
			s.accept(callback{bill, record + " " + bill, "success"})
		}
	}
	of := func(upstream string) map[string]string {
		list := make(map[string]string)
		for _, row := range rows[string](s, `SELECT json_extract(e.envelope, '$.data.payment.id') || '=' || d.state || ' ' || d.tries
			FROM deliveries d JOIN events e ON e.id = d.event WHERE d.upstream = ?`, upstream) {
			key, state, _ := strings.Cut(row, "=")
			list[key] = state
		}
		return list
	}
	left := func(upstream string) int {
		return rows[int](s, "SELECT count(*) FROM deliveries WHERE upstream = ? AND state = 'pending'", upstream)[0]
	}
	eventually(t, "the faulty and the quick upstream have everything", func() bool {
		return rows[int](s, "SELECT count(*) FROM events")[0] == 2*len(faults) && left("faulty") == 0 && left("quick") == 0
	})
	for bill, f := range faults {
		if got := of("faulty")["first "+bill]; got != f.state {
			t.Errorf("%s: the first event is %s, want %s", bill, got, f.state)
		}
		if got := of("faulty")["second "+bill]; got != "delivered 1" {
			t.Errorf("%s: the second event is %s", bill, got)
		}
	}
	for key, state := range of("quick") {
		if state != "delivered 1" {
			t.Errorf("%s to the quick upstream is %s", key, state)
		}
	}
	// Of a bill, nothing of the second event before the last of the first.
	second := make(map[string]bool)
	for _, a := range faulty.got() {
		if is := strings.HasPrefix(a.key, "second"); second[a.subject] && !is {
			t.Errorf("%s: the second event came before the first was over", a.subject)
		} else if is {
			second[a.subject] = true
		}
	}
	if n := most.Load(); n != 8 {
		t.Errorf("the slow upstream had up to %d requests open, want 8", n)
	}

	// The slow upstream gets another name. What it has not taken stays under the old
	// one, where it can be seen; what is new goes to the new one.
	waiting := left("slow")
	if err := s.load(settings{webhook: faulty.block("faulty", "") + quick.block("quick", "") + slow.block("renamed", "timeout 1m")}); err != nil {
		t.Fatal(err)
	}
	close(release)
	for i := range 10 {
		s.accept(callback{fmt.Sprint("new ", i), fmt.Sprint("new ", i), "success"})
	}
	eventually(t, "the new events are delivered", func() bool {
		return rows[int](s, "SELECT count(*) FROM deliveries WHERE upstream = 'renamed' AND state = 'delivered'")[0] == 10
	})
	// Up to eight of the old ones were under way and may be told as taken.
	if n := left("slow"); n < waiting-8 || n == 0 {
		t.Errorf("%d of %d deliveries to the old name are left", n, waiting)
	}
	s.stop()
	s.intact()
}

// endless is a stream of dots.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '.'
	}
	return len(p), nil
}
