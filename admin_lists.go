package ccpayment

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// What operators may see, as JSON.

type statusView struct {
	Version   string                      `json:"version"`
	Store     storeView                   `json:"store"`
	Accounts  map[string]accountView      `json:"accounts"`
	Inbox     map[string]int64            `json:"inbox,omitempty"`
	Upstreams []queueView                 `json:"upstreams"`
	CatchUp   map[string]spanView         `json:"catch_up,omitempty"`
	Bills     map[string]map[string]int64 `json:"bills,omitempty"`
}

type storeView struct {
	Location string `json:"location"`
	State    string `json:"state"` // open or closed
	Problem  string `json:"problem,omitempty"`
}

type accountView struct {
	API       string `json:"api"`
	Simulated bool   `json:"simulated"`
}

type queueView struct {
	Account string `json:"account"`
	Name    string `json:"name"`
	// Configured is false for an upstream that was renamed or removed and whose
	// deliveries nobody makes.
	Configured    bool  `json:"configured"`
	Pending       int64 `json:"pending"`
	Dead          int64 `json:"dead"`
	OldestPending int64 `json:"oldest_pending_seconds"`
}

func adminStatus(r adminRequest) (any, error) {
	v := statusView{
		Version:   version(),
		Store:     storeView{Location: r.app.storage.Location(), State: "closed"},
		Accounts:  make(map[string]accountView),
		Upstreams: []queueView{},
	}
	for name, a := range r.app.accounts {
		v.Accounts[name] = accountView{a.API, a.simulated}
	}
	if r.closed != nil {
		v.Store.Problem = r.closed.Error()
		return v, nil
	}
	v.Store.State = "open"
	ctx := r.Context()
	counts, err := r.store.CountUnresolved(ctx)
	if err != nil {
		return nil, err
	}
	v.Inbox = map[string]int64{store.Received: counts[store.Received], store.Asking: counts[store.Asking], store.Quarantined: counts[store.Quarantined]}
	bills, err := r.store.CountBills(ctx)
	if err != nil {
		return nil, err
	}
	v.Bills = make(map[string]map[string]int64)
	for _, c := range bills {
		if v.Bills[c.Account] == nil {
			v.Bills[c.Account] = make(map[string]int64)
		}
		v.Bills[c.Account][string(c.Status)] = c.Bills
	}
	queues, err := r.store.Queues(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range r.app.upstreams {
		if !slices.ContainsFunc(queues, func(q store.Queue) bool { return q.Account == u.Account && q.Upstream == u.Name }) {
			queues = append(queues, store.Queue{Account: u.Account, Upstream: u.Name})
		}
	}
	for _, q := range queues {
		view := queueView{Account: q.Account, Name: q.Upstream, Configured: r.app.upstream(q.Account, q.Upstream) != nil, Pending: q.Pending, Dead: q.Dead}
		if !q.Oldest.IsZero() {
			view.OldestPending = int64(max(now().Sub(q.Oldest), 0) / time.Second)
		}
		v.Upstreams = append(v.Upstreams, view)
	}
	for name := range r.app.accounts {
		absence, err := r.store.Absence(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if absence.From.Before(absence.Until) {
			if v.CatchUp == nil {
				v.CatchUp = make(map[string]spanView)
			}
			v.CatchUp[name] = spanView{absence.From, absence.Until}
		}
	}
	return v, nil
}

// spanView is the time whose callbacks are still to be asked for.
type spanView struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

// billView is a bill as operators see it.
type billView struct {
	Reference  string    `json:"reference"`
	Account    string    `json:"account"`
	OrderID    string    `json:"order_id"`
	Stage      string    `json:"stage"`
	Problem    string    `json:"problem,omitempty"`
	Status     string    `json:"status"`
	Confirming bool      `json:"confirming"`
	Final      bool      `json:"final"`
	Price      priceView `json:"price"`
	Method     string    `json:"method"`
	Crypto     string    `json:"crypto"`
	Network    string    `json:"network"`
	Due        string    `json:"due"`
	Paid       string    `json:"paid"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

type priceView struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// billDetail is a single bill with what belongs to it.
type billDetail struct {
	billView
	Items    []bill.Item   `json:"items"`
	Note     string        `json:"note"`
	Address  string        `json:"address"`
	Memo     string        `json:"memo"`
	Payments []paymentView `json:"payments"`
	Events   []eventView   `json:"events"`
}

type paymentView struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	Counts    bool      `json:"counts"`
	Amount    string    `json:"amount"`
	Crypto    string    `json:"crypto"`
	Chain     string    `json:"chain"`
	Contract  string    `json:"contract"`
	TxID      string    `json:"txid"`
	Risky     bool      `json:"risky"`
	ArrivedAt time.Time `json:"arrived_at"`
}

func viewBill(r *store.Record) billView {
	s := r.StateAt(now())
	return billView{
		Reference: r.Reference, Account: r.Account, OrderID: r.OrderID, Stage: r.Stage, Problem: r.Problem,
		Status: string(s.Status), Confirming: s.Confirming, Final: s.Final,
		Price: priceView{r.Price.StringFixed(2), r.Currency}, Method: r.Method, Crypto: r.Pays.Crypto, Network: r.Pays.Network,
		Due: r.Due.String(), Paid: s.Paid.String(), CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
	}
}

// statuses are those a list of bills can be asked for.
var statuses = []string{
	string(bill.Awaiting), string(bill.Underpaid), string(bill.Paid), string(bill.Overpaid),
	string(bill.Expired), string(bill.UnderpaidOverdue), string(bill.PaidOverdue), string(bill.OverpaidOverdue),
}

func adminBills(r adminRequest) (any, error) {
	limit, err := r.limit()
	if err != nil {
		return nil, err
	}
	status := r.query.Get("status")
	if status != "" && !slices.Contains(statuses, status) {
		return nil, apiError(http.StatusBadRequest, "unrecognized status %q; known: %s", status, known(statuses))
	}
	list, err := r.store.Bills(r.Context(), bill.Status(status), r.query.Get("before"), limit)
	if err != nil {
		return nil, beforeWhat(err, "bill", r)
	}
	views := make([]billView, len(list))
	for i, rec := range list {
		views[i] = viewBill(rec)
	}
	if len(list) > 0 {
		r.next(len(list) == limit, list[len(list)-1].Reference)
	}
	return views, nil
}

// beforeWhat says which parameter names nothing.
func beforeWhat(err error, what string, r adminRequest) error {
	if errors.Is(err, store.ErrNotFound) {
		return apiError(http.StatusNotFound, "before: there is no %s %q", what, r.query.Get("before"))
	}
	return err
}

func adminBill(r adminRequest) (any, error) {
	rec, err := r.store.BillByReference(r.Context(), r.param)
	if errors.Is(err, store.ErrNotFound) {
		return nil, apiError(http.StatusNotFound, "there is no bill %q", r.param)
	}
	if err != nil {
		return nil, err
	}
	events, err := r.store.EventsAbout(r.Context(), rec.Reference, maxAdminLimit)
	if err != nil {
		return nil, err
	}
	v := billDetail{
		billView: viewBill(rec), Items: rec.Items, Note: rec.Note, Address: rec.Address, Memo: rec.Memo,
		Payments: make([]paymentView, len(rec.Payments)), Events: viewEvents(events),
	}
	for i, p := range rec.Payments {
		v.Payments[i] = paymentView{
			ID: p.ID, Status: string(p.Status), Counts: rec.Counts(p), Amount: p.Amount.String(), Crypto: p.Crypto, Chain: p.Chain,
			Contract: p.Contract, TxID: p.TxID, Risky: p.Risky, ArrivedAt: p.ArrivedAt,
		}
	}
	return v, nil
}

// eventView is an event as operators see it in lists.
type eventView struct {
	ID      string    `json:"id"`
	Type    string    `json:"type"`
	Account string    `json:"account"`
	Subject string    `json:"subject"`
	Origin  string    `json:"origin"`
	Time    time.Time `json:"time"`
}

func viewEvents(list []store.StoredEvent) []eventView {
	views := make([]eventView, len(list))
	for i, e := range list {
		views[i] = eventView{e.ID, e.Type, e.Account, e.Subject, e.Origin, e.OccurredAt}
	}
	return views
}

func adminEvents(r adminRequest) (any, error) {
	limit, err := r.limit()
	if err != nil {
		return nil, err
	}
	list, err := r.store.Events(r.Context(), r.query.Get("before"), limit)
	if err != nil {
		return nil, beforeWhat(err, "event", r)
	}
	if len(list) > 0 {
		r.next(len(list) == limit, list[len(list)-1].ID)
	}
	return viewEvents(list), nil
}

func adminEvent(r adminRequest) (any, error) {
	e, err := r.event(r.param)
	if err != nil {
		return nil, err
	}
	deliveries, err := r.store.DeliveriesOf(r.Context(), e.ID)
	if err != nil {
		return nil, err
	}
	return struct {
		eventView
		Envelope   json.RawMessage `json:"envelope"`
		Deliveries []deliveryView  `json:"deliveries"`
	}{viewEvents([]store.StoredEvent{e})[0], json.RawMessage(e.Envelope), r.viewDeliveries(deliveries)}, nil
}

// event finds an event by its id or the beginning of it.
func (r adminRequest) event(id string) (store.StoredEvent, error) {
	e, err := r.store.EventByID(r.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return e, apiError(http.StatusNotFound, "there is no event %q, or more than one whose id begins so", id)
	}
	return e, err
}

// deliveryView is a delivery as operators see it.
type deliveryView struct {
	ID         int64      `json:"id"`
	Event      string     `json:"event"`
	Type       string     `json:"type"`
	Account    string     `json:"account"`
	Upstream   string     `json:"upstream"`
	Configured bool       `json:"configured"`
	Subject    string     `json:"subject"`
	State      string     `json:"state"`
	Tries      int        `json:"tries"`
	NextTry    *time.Time `json:"next_try"` // null unless pending and first of its bill
	LastStatus int        `json:"last_status"`
	LastError  string     `json:"last_error"`
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
}

func (r adminRequest) viewDeliveries(list []store.DeliveryRecord) []deliveryView {
	views := make([]deliveryView, len(list))
	for i, d := range list {
		views[i] = deliveryView{
			ID: d.Number, Event: d.Event, Type: d.Type, Account: d.Account, Upstream: d.Upstream,
			Configured: r.app.upstream(d.Account, d.Upstream) != nil, Subject: d.Subject, State: d.State, Tries: d.Tries,
			LastStatus: d.LastStatus, LastError: d.LastError, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
		}
		if !d.DueAt.IsZero() {
			views[i].NextTry = &d.DueAt
		}
	}
	return views
}

func adminDeliveries(r adminRequest) (any, error) {
	limit, err := r.limit()
	if err != nil {
		return nil, err
	}
	states := []string{store.PendingDelivery, store.Dead, store.Delivered}
	state := r.query.Get("state")
	if state != "" && !slices.Contains(states, state) {
		return nil, apiError(http.StatusBadRequest, "unrecognized state %q; known: %s", state, known(states))
	}
	var before int64
	if v := r.query.Get("before"); v != "" {
		if before, err = strconv.ParseInt(v, 10, 64); err != nil || before < 1 {
			return nil, apiError(http.StatusBadRequest, "before must be the id of a delivery, a number")
		}
	}
	list, err := r.store.Deliveries(r.Context(), state, r.query.Get("upstream"), before, limit)
	if err != nil {
		return nil, err
	}
	if len(list) > 0 {
		r.next(len(list) == limit, strconv.FormatInt(list[len(list)-1].Number, 10))
	}
	return r.viewDeliveries(list), nil
}
