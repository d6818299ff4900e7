package gateway

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// The gateway's limits of API v2 are not documented; v1's are 100 requests a second.
const (
	// callbacksPerSecond bounds the questions about payments of which callbacks tell.
	callbacksPerSecond = 20
	// ordersPerSecond bounds those about orders of which no callback has come.
	ordersPerSecond = 5
	// longestRest bounds the wait after refusals for too many requests.
	longestRest = 10 * time.Minute
)

// A pacer spaces the questions that no buyer waits for, and asks none for a while after
// the gateway has said that there were too many.
type pacer struct {
	callbacks, orders *rate.Limiter

	mu    sync.Mutex
	rest  time.Duration
	since time.Time // when it was asked for
	until time.Time
}

func newPacer() *pacer {
	return &pacer{
		callbacks: rate.NewLimiter(callbacksPerSecond, callbacksPerSecond),
		orders:    rate.NewLimiter(ordersPerSecond, ordersPerSecond),
	}
}

// wait returns when a question may be asked, by one of the limiters. While the gateway is
// left alone the error is the one with which it has asked for that.
func (p *pacer) wait(ctx context.Context, limiter *rate.Limiter, endpoint string) error {
	if err := p.resting(endpoint); err != nil {
		return err
	}
	if err := limiter.Wait(ctx); err != nil {
		return &Error{Failure: Unreachable, Endpoint: endpoint, Err: err}
	}
	return p.resting(endpoint) // it may have begun meanwhile
}

func (p *pacer) resting(endpoint string) error {
	p.mu.Lock()
	rest := time.Until(p.until)
	p.mu.Unlock()
	if rest > 0 {
		return &Error{Failure: Refused, Endpoint: endpoint, Code: codeRateLimit, Msg: "not asked, after a refusal for too many requests", after: rest}
	}
	return nil
}

// saw learns from the outcome of a request. Those that were under way when a rest began
// say nothing new: it was not observed yet.
func (p *pacer) saw(sent time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !sent.After(p.since):
	case err == nil:
		p.rest = 0
	case refusedWith(err, codeRateLimit, codeFrequent):
		p.rest = min(max(2*p.rest, rateLimitWait), longestRest)
		p.since = time.Now()
		p.until = p.since.Add(p.rest)
	}
}
