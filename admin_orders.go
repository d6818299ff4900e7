package ccpayment

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/forward"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/resolve"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// What operators may have done. Whatever is wrong with an order is said before anything
// is changed.

func adminRetry(r adminRequest) (any, error) {
	order := struct {
		Upstream string `json:"upstream"`
	}{r.query.Get("upstream")}
	if err := readBodyOf(r, &order); err != nil {
		return nil, err
	}
	number, err := strconv.ParseInt(r.param, 10, 64)
	if err != nil {
		return nil, apiError(http.StatusBadRequest, "%q is not the id of a delivery, a number", r.param)
	}
	d, err := r.store.DeliveryByNumber(r.Context(), number)
	if errors.Is(err, store.ErrNotFound) {
		return nil, apiError(http.StatusNotFound, "there is no delivery %d", number)
	}
	if err != nil {
		return nil, err
	}
	upstream := order.Upstream
	if upstream == "" {
		upstream = d.Upstream
	}
	if err := r.app.mustHave(d.Account, upstream); err != nil {
		return nil, err
	}
	if err := r.store.RetryDelivery(r.Context(), number, upstream, now()); err != nil {
		return nil, err
	}
	if d, err = r.store.DeliveryByNumber(r.Context(), number); err != nil {
		return nil, err
	}
	return r.viewDeliveries([]store.DeliveryRecord{d})[0], nil
}

// upstream returns an account's upstream of a name, or nil if none is configured.
func (a *App) upstream(account, name string) *forward.Upstream {
	for _, u := range a.upstreams {
		if u.Account == account && u.Name == name {
			return u
		}
	}
	return nil
}

// mustHave says which upstreams there are if one is not among them.
func (a *App) mustHave(account, name string) error {
	if a.upstream(account, name) != nil {
		return nil
	}
	var names []string
	for _, u := range a.upstreams {
		if u.Account == account {
			names = append(names, u.Name)
		}
	}
	return apiError(http.StatusConflict, "account %s has no upstream %q in the configuration, so nobody would deliver; name one with upstream=: %s",
		account, name, known(names))
}

// replayOrder says which events are to be told again.
type replayOrder struct {
	IDs      []string  `json:"ids"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	After    string    `json:"after"`
	Upstream string    `json:"upstream"`
}

// replayed is what came of it. A long span of time is told in parts: the next one begins
// after the event Next.
type replayed struct {
	Events     int    `json:"events"`
	Deliveries int    `json:"deliveries"`
	Next       string `json:"next,omitempty"`
}

// Bounds of telling again: a transaction is short, because callbacks wait for it, and a
// request ends in time for who has made it.
const (
	replayAtOnce    = 200
	replayARequest  = 5000
	errReplayWanted = `name the events: {"ids": ["evt_…"]} or {"since": "2026-01-02T15:04:05Z", "until": …, "upstream": …}`
)

func adminReplay(r adminRequest) (any, error) {
	var order replayOrder
	if err := readBodyOf(r, &order); err != nil {
		return nil, err
	}
	switch {
	case len(order.IDs) > 0 && (!order.Since.IsZero() || !order.Until.IsZero() || order.After != ""):
		return nil, apiError(http.StatusBadRequest, "ids and since exclude each other")
	case len(order.IDs) == 0 && order.Since.IsZero():
		return nil, apiError(http.StatusBadRequest, errReplayWanted)
	case len(order.IDs) > maxAdminLimit:
		return nil, apiError(http.StatusBadRequest, "at most %d ids at a time", maxAdminLimit)
	}
	if order.Upstream != "" && !slices.ContainsFunc(r.app.upstreams, func(u *forward.Upstream) bool { return u.Name == order.Upstream }) {
		names := make([]string, len(r.app.upstreams))
		for i, u := range r.app.upstreams {
			names[i] = u.Name
		}
		return nil, apiError(http.StatusConflict, "there is no upstream %q in the configuration; known: %s", order.Upstream, known(names))
	}
	if len(order.IDs) > 0 {
		return r.replayEvents(order)
	}
	return r.replaySpan(order)
}

// replayEvents tells events again that are named. All are looked up before any is told,
// and told in the order in which they were stored, which is that of their bills.
func (r adminRequest) replayEvents(order replayOrder) (done replayed, err error) {
	events := make([]store.StoredEvent, len(order.IDs))
	for i, id := range order.IDs {
		if events[i], err = r.event(id); err != nil {
			return done, err
		}
	}
	slices.SortFunc(events, func(a, b store.StoredEvent) int { return cmp.Compare(a.Number, b.Number) })
	events = slices.CompactFunc(events, func(a, b store.StoredEvent) bool { return a.Number == b.Number })
	err = r.replay(events, order.Upstream, &done)
	return done, err
}

// replaySpan tells the events of a span of time again, or the first part of them.
func (r adminRequest) replaySpan(order replayOrder) (done replayed, err error) {
	if order.Until.IsZero() {
		order.Until = now()
	}
	if !order.Since.Before(order.Until) {
		return done, apiError(http.StatusBadRequest, "since must be before until")
	}
	var last store.StoredEvent
	if order.After != "" {
		if last, err = r.event(order.After); err != nil {
			return done, err
		}
	}
	for seen := 0; ; {
		events, err := r.store.EventsBetween(r.Context(), order.Since, order.Until, last.Number, replayAtOnce)
		if err != nil {
			return done, err
		}
		if err := r.replay(events, order.Upstream, &done); err != nil {
			return done, err
		}
		if len(events) < replayAtOnce {
			return done, nil
		}
		last = events[len(events)-1]
		if seen += len(events); seen >= replayARequest {
			done.Next = last.ID
			return done, nil
		}
	}
}

// replay queues events, in one transaction, for those upstreams that want them.
func (r adminRequest) replay(events []store.StoredEvent, upstream string, done *replayed) error {
	var list []store.Redelivery
	deliveries := 0
	for _, e := range events {
		again := store.Redelivery{Event: e.ID}
		for _, u := range r.app.upstreams {
			if u.Account == e.Account && u.Wants(e.Type) && (upstream == "" || u.Name == upstream) {
				again.Upstreams = append(again.Upstreams, u.Name)
			}
		}
		if len(again.Upstreams) > 0 {
			list = append(list, again)
			deliveries += len(again.Upstreams)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if err := r.store.Redeliver(r.Context(), list, now()); err != nil {
		return err
	}
	done.Events += len(list)
	done.Deliveries += deliveries
	return nil
}

// reconciled is what came of asking the gateway. Problem is why it was not asked about
// all bills.
type reconciled struct {
	resolve.Reconciled
	Problem string `json:"problem,omitempty"`
}

// adminReconcile asks the gateway about every bill that may still change.
func adminReconcile(r adminRequest) (any, error) {
	if err := readBodyOf(r, new(struct{})); err != nil {
		return nil, err
	}
	e, err := r.app.open()
	if err != nil {
		return nil, err
	}
	done, err := e.reconcile(r.Context())
	if err != nil && done.Bills == 0 {
		return nil, err
	}
	answer := reconciled{Reconciled: done}
	if err != nil {
		answer.Problem = err.Error()
	}
	return answer, nil
}
