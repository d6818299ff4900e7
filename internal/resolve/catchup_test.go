package resolve

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
)

// A resending gateway notes what it is asked to send again.
type resending struct {
	*fakeGateway
	mu    sync.Mutex
	spans []span
	fails int // the next so many requests are refused
}

type span struct{ at, from, until time.Time }

func (g *resending) Resend(_ context.Context, from, until time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spans = append(g.spans, span{time.Now(), from, until})
	if g.fails > 0 {
		g.fails--
		return &gateway.Error{Failure: gateway.Refused, Endpoint: "/webhook/resend", Code: 11004, Msg: "RateLimit"}
	}
	return nil
}

// asked returns what it was asked for so far.
func (g *resending) asked() []span {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.spans)
}

// refuse has it refuse the next requests.
func (g *resending) refuse(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fails = n
}

// inAbsence runs a test in a bubble with a shop that was alive for ten minutes, away for
// a while, and is back.
func inAbsence(t *testing.T, away time.Duration, test func(t *testing.T, shop *shop, g *resending, left time.Time)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		g := &resending{fakeGateway: shop.gateway}
		shop.account.Client, shop.account.CatchUp = g, true
		shop.start()
		time.Sleep(10 * time.Minute)
		shop.stop()
		left := time.Now()
		if spans := g.asked(); len(spans) != 0 {
			t.Fatalf("asked without an absence: %v", spans)
		}
		time.Sleep(away)
		shop.start()
		synctest.Wait()
		test(t, shop, g, left)
	})
}

func TestAfterAnAbsenceItsCallbacksAreAskedForWithinTheLimits(t *testing.T) {
	inAbsence(t, 3*time.Hour, func(t *testing.T, shop *shop, g *resending, left time.Time) {
		back := time.Now()
		time.Sleep(time.Hour)
		spans := g.asked()
		if len(spans) != 4 { // 3 hours and the 32 minutes before, in hours
			t.Fatalf("asked %d times: %v", len(spans), spans)
		}
		// What was tried for the first time shortly before the absence is asked for too.
		if first := spans[0].from; first.After(left.Add(-31*time.Minute)) || first.Before(left.Add(-40*time.Minute)) {
			t.Errorf("the first span begins at %s, the absence at %s", first, left)
		}
		for i, s := range spans {
			if d := s.until.Sub(s.from); d <= 0 || d > time.Hour {
				t.Errorf("span %d is %s long", i, d)
			}
			if i > 0 && (!s.from.Equal(spans[i-1].until) || s.at.Sub(spans[i-1].at) < time.Minute) {
				t.Errorf("span %d: %v after %v", i, s, spans[i-1])
			}
		}
		if last := spans[3].until; !last.Equal(back) {
			t.Errorf("the last span ends at %s, the absence at %s", last, back)
		}
	})
}

func TestAShortAbsenceIsLeftToTheGatewaysOwnTries(t *testing.T) {
	inAbsence(t, 3*time.Minute, func(t *testing.T, _ *shop, g *resending, _ time.Time) {
		time.Sleep(24 * time.Hour)
		if spans := g.asked(); len(spans) != 0 {
			t.Errorf("asked for %v", spans)
		}
	})
}

// A shop that was away for a week asks for its last day, and never more than 25 times
// a day, however often it is restarted.
func TestALongAbsenceKeepsToTheLimitOfADay(t *testing.T) {
	inAbsence(t, 7*24*time.Hour, func(t *testing.T, shop *shop, g *resending, _ time.Time) {
		back := time.Now()
		for range 3 {
			time.Sleep(20 * time.Minute)
			shop.stop()
			time.Sleep(10 * time.Minute)
			shop.start()
		}
		time.Sleep(time.Until(back.Add(23 * time.Hour)))
		spans := g.asked()
		if len(spans) != 25 {
			t.Errorf("asked %d times within a day", len(spans))
		}
		for i, s := range spans {
			if s.from.Before(back.Add(-24 * time.Hour)) {
				t.Errorf("span %d is from %s", i, s.from)
			}
			if i > 0 && s.at.Sub(spans[i-1].at) < time.Minute {
				t.Errorf("asked %s after the time before", s.at.Sub(spans[i-1].at))
			}
		}
	})
}

func TestASpanThatIsRefusedIsTriedAgainAndThenGivenUp(t *testing.T) {
	inAbsence(t, 50*time.Minute, func(t *testing.T, shop *shop, g *resending, _ time.Time) {
		// The first request was answered when the shop came back; the rest is refused.
		g.refuse(10)
		time.Sleep(time.Hour)
		if spans := g.asked(); len(spans) != 4 { // one that was taken, three tries of the other
			t.Errorf("asked %d times: %v", len(spans), spans)
		}
		if a, err := shop.s.Absence(t.Context(), "default"); err != nil || a.From.Before(a.Until) {
			t.Errorf("it is not given up: %+v %v", a, err)
		}
	})
}

// A server that is stopped while the gateway does not answer asks for the same span
// again, but never more often than it may.
func TestAStopWhileAskingForgetsNothingAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		g := &hangingResend{fakeGateway: shop.gateway, asked: make(chan time.Time, 100)}
		shop.account.Client, shop.account.CatchUp = g, true
		shop.start()
		time.Sleep(time.Minute)
		shop.stop()
		time.Sleep(20 * time.Minute)
		back := time.Now()
		for range 150 {
			shop.start()
			time.Sleep(time.Second)
			shop.stop()
		}
		if n := len(g.asked); n < 2 || n > 3 {
			t.Errorf("asked %d times in two and a half minutes", n)
		}
		if first := <-g.asked; first.After(back) {
			t.Errorf("the first span begins at %s", first)
		}
		for len(g.asked) > 0 {
			if from := <-g.asked; !from.Before(back) {
				t.Errorf("then it asked for a span from %s", from)
			}
		}
	})
}

// Days of a server that comes and goes leave no heap of work.
func TestManyAbsencesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		g := &resending{fakeGateway: shop.gateway}
		shop.account.Client, shop.account.CatchUp = g, true
		for range 4 * 48 { // away for 6 minutes of every 30, for four days
			shop.start()
			time.Sleep(24 * time.Minute)
			shop.stop()
			time.Sleep(6 * time.Minute)
		}
		spans := g.asked()
		for i, s := range spans {
			if s.at.Sub(s.from) > 25*time.Hour || s.until.Sub(s.from) > time.Hour {
				t.Fatalf("request %d at %s is about %s to %s", i, s.at, s.from, s.until)
			}
			if i >= 25 && s.at.Sub(spans[i-25].at) < 24*time.Hour {
				t.Fatalf("26 requests in %s", s.at.Sub(spans[i-25].at))
			}
		}
	})
}

func TestSwitchingItOnIsNoEndOfAnAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		g := &resending{fakeGateway: shop.gateway}
		shop.account.Client, shop.account.CatchUp = g, true
		shop.start()
		time.Sleep(10 * time.Minute)
		shop.account.CatchUp = false
		shop.configure(shop.account)
		time.Sleep(30 * 24 * time.Hour)
		shop.account.CatchUp = true
		shop.configure(shop.account)
		time.Sleep(time.Hour)
		if spans := g.asked(); len(spans) != 0 {
			t.Errorf("asked for %v", spans)
		}
	})
}

// A clock that was a year ahead for five minutes does not stop the catching up.
func TestAWrongClockDoesNotEndTheCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(t)
		g := &resending{fakeGateway: shop.gateway}
		shop.account.Client, shop.account.CatchUp = g, true
		run := func(ahead, d time.Duration) {
			shop.startAt(func() time.Time { return time.Now().Add(ahead) })
			time.Sleep(d)
			shop.stop()
		}
		run(0, 10*time.Minute)
		run(365*24*time.Hour, 5*time.Minute)
		run(0, 2*time.Hour)
		before := len(g.asked())
		left := time.Now()
		time.Sleep(3 * time.Hour)
		run(0, time.Hour)
		spans := g.asked()[before:]
		if len(spans) != 4 || spans[0].from.After(left) || spans[3].until.After(time.Now()) {
			t.Errorf("after a real absence, asked for %v", spans)
		}
	})
}

type hangingResend struct {
	*fakeGateway
	asked chan time.Time
}

func (g *hangingResend) Resend(ctx context.Context, from, _ time.Time) error {
	g.asked <- from
	<-ctx.Done()
	return errors.New("gone")
}
