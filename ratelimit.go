package ccpayment

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxClients bounds the clients that are remembered. Beyond it the idle ones are
// forgotten, which does them no harm: their allowance is full again.
const maxClients = 50_000

// A limiter bounds how often each client may do something.
type limiter struct {
	every rate.Limit
	burst int

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
	swept   time.Time
}

func newLimiter(c RateLimit) *limiter {
	return &limiter{
		every:   rate.Limit(float64(c.Events) / time.Duration(c.Window).Seconds()),
		burst:   c.Burst,
		clients: make(map[netip.Prefix]*rate.Limiter),
	}
}

// allow takes one event of a client at a time, or says how long it must wait.
func (l *limiter) allow(ip string, at time.Time) (wait time.Duration, ok bool) {
	client := l.client(clientKey(ip), at)
	r := client.ReserveN(at, 1)
	if !r.OK() {
		return time.Duration(float64(time.Second) / float64(l.every)), false
	}
	if wait = r.DelayFrom(at); wait > 0 {
		r.CancelAt(at)
		return wait, false
	}
	return 0, true
}

func (l *limiter) client(key netip.Prefix, at time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.clients[key]; c != nil {
		return c
	}
	if len(l.clients) >= maxClients && at.Sub(l.swept) > time.Second {
		l.swept = at
		for k, c := range l.clients {
			if c.TokensAt(at) >= float64(l.burst) {
				delete(l.clients, k)
			}
		}
	}
	c := rate.NewLimiter(l.every, l.burst)
	if len(l.clients) < maxClients {
		l.clients[key] = c
		return c
	}
	// So many clients at once are one attack. They share an allowance.
	shared := netip.Prefix{}
	if l.clients[shared] == nil {
		l.clients[shared] = c
	}
	return l.clients[shared]
}

// clientKey is whom an address belongs to: a single IPv4 address, or the /64 that
// one IPv6 subscriber has.
func clientKey(ip string) netip.Prefix {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}
