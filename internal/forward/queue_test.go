package forward

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// held returns an answer that waits until it is released, and counts how many wait.
func held() (answer func(http.ResponseWriter, *http.Request, message), waiting *atomic.Int32, release chan struct{}) {
	waiting, release = new(atomic.Int32), make(chan struct{})
	return func(_ http.ResponseWriter, r *http.Request, _ message) {
		waiting.Add(1)
		defer waiting.Add(-1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, waiting, release
}

func TestTheEventsOfABillArriveInOrder(t *testing.T) {
	const bills, events = 12, 5
	for name, fails := range map[string]func(message) bool{
		"without failures": func(message) bool { return false },
		"every event fails a few times": func(m message) bool {
			h := fnv.New32()
			h.Write([]byte(m.ID()))
			return m.Try <= int(h.Sum32()%4)
		},
		"the first event fails often": func(m message) bool { return strings.HasSuffix(m.ID(), "/0") && m.Try < 8 },
	} {
		t.Run(name, func(t *testing.T) {
			r := assemble(t)
			var (
				mu    sync.Mutex
				taken = make(map[string]int) // how many events of a bill were taken
			)
			shop := receive(t, func(w http.ResponseWriter, _ *http.Request, m message) {
				mu.Lock()
				defer mu.Unlock()
				if want := fmt.Sprintf("%s/%d", m.Subject(), taken[m.Subject()]); m.ID() != want {
					t.Errorf("%s came when %s was next", m.ID(), want)
				}
				if fails(m) {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				taken[m.Subject()]++
			})
			u := shop.serve("shop")
			u.Retry = make([]time.Duration, 10) // at once
			r.configure(u)
			r.run()
			for i := range events { // some while others are under way
				for bill := range bills {
					reference := fmt.Sprint("bill ", bill)
					r.add(reference, []string{"shop"}, fmt.Sprintf("%s/%d", reference, i))
				}
			}
			for delivered := 0; delivered < bills*events; {
				if r.outcome(1) == "delivered event" {
					delivered++
				}
			}
		})
	}
}

func TestAnEventThatIsGivenUpMakesWayForTheNext(t *testing.T) {
	r := assemble(t)
	shop := receive(t, func(w http.ResponseWriter, _ *http.Request, m message) {
		switch m.ID() {
		case "gone":
			w.WriteHeader(http.StatusGone)
		case "used up":
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	u := shop.serve("shop")
	u.Retry = make([]time.Duration, 2)
	r.configure(u)
	r.add("a", []string{"shop"}, "gone", "used up", "last")
	r.run()
	r.outcome(1 + 3 + 1)
	if got, want := shop.ids(), []string{"gone", "used up", "used up", "used up", "last"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for id, want := range map[string]string{"gone": store.Dead, "used up": store.Dead, "last": store.Delivered} {
		if d := r.delivery(id); d.State != want {
			t.Errorf("%s is %+v", id, d)
		}
	}
}

func TestAPoisonedBillHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t)
		shop := receive(t, func(w http.ResponseWriter, _ *http.Request, m message) {
			if m.Subject() == "poisoned" {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		r.inMemory(map[string]http.Handler{"shop": shop})
		r.add("poisoned", []string{"shop"}, "p1", "p2")
		r.run()
		<-shop.arrived
		// Its event waits for hours; those of other bills come at once.
		for i := range 20 {
			began := time.Now()
			id := fmt.Sprint("fine ", i)
			r.add(fmt.Sprint("bill ", i), []string{"shop"}, id)
			for {
				m := <-shop.arrived
				if m.ID() == "p2" {
					t.Fatal("the poisoned bill's next event came before its first was over")
				}
				if m.ID() == id {
					if late := m.At.Sub(began); late != 0 {
						t.Errorf("%s came after %v", id, late)
					}
					break
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestASlowUpstreamHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t)
		answer, waiting, release := held()
		slow, quick := receive(t, answer), receive(t, nil)
		r.inMemory(map[string]http.Handler{"slow": slow, "quick": quick})
		for i := range 3 * concurrency {
			r.add(fmt.Sprint("bill ", i), []string{"slow", "quick"}, fmt.Sprint(i))
		}
		began := time.Now()
		r.run()
		synctest.Wait()
		if got := len(quick.ids()); got != 3*concurrency || time.Since(began) != 0 {
			t.Errorf("the quick one has %d events after %v", got, time.Since(began))
		}
		if got := waiting.Load(); got != concurrency {
			t.Errorf("the slow one has %d requests open", got)
		}
		close(release)
	})
}

func TestAnUpstreamHasAtMostEightRequestsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const events = 5*concurrency + 3
		r := assemble(t)
		answer, waiting, release := held()
		shop := receive(t, answer)
		r.inMemory(map[string]http.Handler{"shop": shop})
		r.run()
		for i := range events {
			r.add(fmt.Sprint("bill ", i), []string{"shop"}, fmt.Sprint(i))
		}
		for done := range events {
			synctest.Wait()
			if got, want := int(waiting.Load()), min(concurrency, events-done); got != want {
				t.Fatalf("%d requests are open after %d answers, want %d", got, done, want)
			}
			release <- struct{}{}
		}
		synctest.Wait()
		if got := len(shop.ids()); got != events {
			t.Errorf("%d requests for %d events", got, events)
		}
	})
}

func TestWhatIsUnderWayWhenForwardingStopsIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t)
		answer, _, release := held()
		shop := receive(t, answer)
		r.inMemory(map[string]http.Handler{"shop": shop})
		r.add("a", []string{"shop"}, "1", "2")
		stop := r.run()
		<-shop.arrived

		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop()
		}()
		time.Sleep(grace - time.Millisecond)
		select {
		case <-stopped:
			t.Fatal("it did not wait for the answer")
		default:
		}
		close(release)
		<-stopped
		if d := r.delivery("1"); d.State != store.Delivered || d.Tries != 1 {
			t.Errorf("the first is %+v", d)
		}
		if d := r.delivery("2"); d.State != store.PendingDelivery || d.Tries != 0 || len(shop.ids()) != 1 {
			t.Errorf("the second is %+v, and %q came", d, shop.ids())
		}
	})
}

func TestWhatTakesTooLongWhenForwardingStopsIsSentAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := assemble(t)
		answer, _, _ := held()
		shop := receive(t, answer)
		r.inMemory(map[string]http.Handler{"shop": shop})
		r.add("a", []string{"shop"}, "1", "2")
		stop := r.run()
		<-shop.arrived
		began := time.Now()
		stop()
		if took := time.Since(began); took != grace {
			t.Errorf("stopping took %v", took)
		}
		if d := r.delivery("1"); d.State != store.PendingDelivery || d.Tries != 0 {
			t.Errorf("the delivery is %+v", d)
		}

		// The next start goes on where this one stopped.
		shop.answer = nil
		r.f = New(r.s, time.Now, agent)
		r.inMemory(map[string]http.Handler{"shop": shop})
		r.run()
		synctest.Wait()
		if got, want := shop.ids(), []string{"1", "1", "2"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestDeliveriesToARemovedUpstreamWaitForItsReturn(t *testing.T) {
	r := assemble(t)
	shop, other := receive(t, nil), receive(t, nil)
	u, v := shop.serve("shop"), other.serve("other")
	r.configure(u, v)
	stop := r.run()
	r.add("a", []string{"shop"}, "1")
	r.outcome(1)

	r.configure(v)
	r.add("a", []string{"shop", "other"}, "2")
	await(t, other.arrived)
	if got := shop.ids(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the removed upstream got %q", got)
	}

	r.configure(u, v)
	await(t, shop.arrived)
	if m := await(t, shop.arrived); m.ID() != "2" {
		t.Errorf("after its return it got %s", m.ID())
	}
	stop()
	if got := shop.ids(); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("in all it got %q", got)
	}
}

// TestAnUpstreamThatReturnsGetsNothingTwice: what was sent before it was removed
// and is not answered yet is still under way when it returns.
func TestAnUpstreamThatReturnsGetsNothingTwice(t *testing.T) {
	r := assemble(t)
	answer, _, release := held()
	shop := receive(t, func(w http.ResponseWriter, req *http.Request, m message) {
		if m.ID() == "1" {
			answer(w, req, m)
		}
	})
	u := shop.serve("shop")
	r.configure(u)
	stop := r.run()
	r.add("a", []string{"shop"}, "1", "2")
	await(t, shop.arrived)
	r.configure()
	r.configure(u)
	r.add("b", []string{"shop"}, "3")
	select {
	case <-shop.arrived: // the queue is served again
	case <-time.After(200 * time.Millisecond): // or waits for the answer
	}
	close(release)
	for delivered := 0; delivered < 3; {
		if r.outcome(1) == "delivered event" {
			delivered++
		}
	}
	stop()
	got := shop.ids()
	slices.Sort(got)
	if want := []string{"1", "2", "3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNewSettingsHoldFromTheNextTry(t *testing.T) {
	r := assemble(t)
	before, after := receive(t, nil), receive(t, nil)
	before.secrets, after.secrets = []string{older}, []string{secret}
	u := before.serve("shop")
	u.Secrets = keys(t, older)
	r.configure(u)
	r.run()
	r.add("a", []string{"shop"}, "1")
	r.outcome(1)

	moved := after.serve("shop")
	moved.Secrets, moved.Header = keys(t, secret), http.Header{"X-Shop": {"books"}}
	r.configure(moved)
	r.add("a", []string{"shop"}, "2")
	if m := await(t, after.arrived); m.ID() != "2" || m.Header.Get("X-Shop") != "books" {
		t.Errorf("got %s with headers %v", m.ID(), m.Header)
	}
	if got := before.ids(); !slices.Equal(got, []string{"1"}) {
		t.Errorf("the old address got %q", got)
	}
}

func TestUpstreamsOfOneNameInTwoAccountsAreApart(t *testing.T) {
	r := assemble(t)
	shop, other := receive(t, nil), receive(t, nil)
	u, v := shop.serve("shop"), other.serve("shop")
	v.Account = "other"
	r.configure(u, v)
	stop := r.run()
	r.add("a", []string{"shop"}, "1")
	await(t, shop.arrived)
	stop()
	if got := other.ids(); len(got) != 0 {
		t.Errorf("the other account's upstream got %q", got)
	}
}

// TestUpstreamsChangeWhileEventsFlow has three upstreams come and go; in the end
// each has every event at least once, and the first copies in their order.
func TestUpstreamsChangeWhileEventsFlow(t *testing.T) {
	const events = 30
	r := assemble(t)
	names := []string{"a", "b", "c"}
	receivers := make(map[string]*receiver)
	var upstreams []*Upstream
	for _, name := range names {
		receivers[name] = receive(t, nil)
		upstreams = append(upstreams, receivers[name].serve(name))
	}
	stop := r.run()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range events {
			r.add("bill", names, fmt.Sprintf("%02d", i))
		}
	})
	for change := range 2 {
		wg.Go(func() {
			for i := range 100 {
				r.configure(upstreams[(i+change)%3:]...)
			}
		})
	}
	wg.Wait()
	r.configure(upstreams...)
	for _, name := range names {
		for last := ""; last != fmt.Sprintf("%02d", events-1); {
			last = await(t, receivers[name].arrived).ID()
		}
	}
	stop()
	for _, name := range names {
		var first []string
		for _, id := range receivers[name].ids() {
			if !slices.Contains(first, id) {
				first = append(first, id)
			}
		}
		if len(first) != events || !slices.IsSorted(first) {
			t.Errorf("%s got %q", name, first)
		}
	}
}

func TestConfiguringAfterTheStopStartsNothing(t *testing.T) {
	r := assemble(t)
	shop := receive(t, nil)
	r.run()()
	r.configure(shop.serve("shop"))
	r.add("a", []string{"shop"}, "1")
	if d := r.delivery("1"); d.State != store.PendingDelivery || len(shop.ids()) != 0 {
		t.Errorf("delivery is %+v", d)
	}
}
