package ccpayment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	strictjson "github.com/go-json-experiment/json"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/forward"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/resolve"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// adminAPI is what operators ask and order at Caddy's admin endpoint, below
// /ccpayment/. Lists are JSON arrays, newest first; the header Link leads to the
// next page. Bills' tokens are never shown: they belong to buyers.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.ccpayment",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// adminPrefix is where the admin API begins.
const adminPrefix = "/ccpayment/"

// Bounds of the admin API.
const (
	adminLimit    = 50
	maxAdminLimit = 500
	maxAdminBody  = 1 << 20
	replayBatch   = 200
)

// Routes returns the one route below which everything is.
func (adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPrefix, Handler: caddy.AdminHandlerFunc(serveAdmin)}}
}

// An adminRoute is one thing that can be asked or ordered. Parameters in braces stand
// for a segment of the path; query has the names that may stand behind it.
type adminRoute struct {
	method, path string
	query        []string
	serve        func(adminRequest) (any, error)
}

var adminRoutes = []adminRoute{
	{http.MethodGet, "status", nil, adminStatus},
	{http.MethodGet, "bills", []string{"status", "limit", "before"}, adminBills},
	{http.MethodGet, "bills/{reference}", nil, adminBill},
	{http.MethodGet, "events", []string{"limit", "before"}, adminEvents},
	{http.MethodGet, "events/{id}", nil, adminEvent},
	{http.MethodPost, "events/replay", nil, adminReplay},
	{http.MethodGet, "deliveries", []string{"state", "upstream", "limit", "before"}, adminDeliveries},
	{http.MethodPost, "deliveries/{id}/retry", []string{"upstream"}, adminRetry},
	{http.MethodPost, "reconcile", nil, adminReconcile},
}

// An adminRequest is a request with what its route needs.
type adminRequest struct {
	*http.Request
	header http.Header // of the answer
	query  url.Values
	param  string // the segment in braces
	app    *App
	store  *store.Store
}

func apiError(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

// serveAdmin answers one request of an operator. Whatever is wrong with it is said
// before anything is changed.
func serveAdmin(w http.ResponseWriter, r *http.Request) error {
	// 1. What is asked for?
	route, param, err := findAdminRoute(r)
	if err != nil {
		return err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return apiError(http.StatusBadRequest, "the query is malformed: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(route.query, name) {
			return apiError(http.StatusBadRequest, "unrecognized parameter %q; known here: %s", name, known(route.query))
		}
		if len(values) > 1 {
			return apiError(http.StatusBadRequest, "parameter %q is there twice", name)
		}
	}

	// 2. Is there anything to ask?
	app := currentApp()
	if app == nil {
		return apiError(http.StatusServiceUnavailable, "the running configuration has no global option block 'ccpayment'")
	}
	req := adminRequest{Request: r, header: w.Header(), query: query, param: param, app: app}
	if req.store, err = app.store(); err != nil && route.path != "status" {
		return apiError(http.StatusServiceUnavailable, "the store is not open: %v", err)
	}

	// 3. Answer.
	answer, err := route.serve(req)
	if err != nil {
		return adminProblem(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(answer)
}

func findAdminRoute(r *http.Request) (adminRoute, string, error) {
	path := strings.TrimPrefix(r.URL.Path, adminPrefix)
	var methods, paths []string
	for _, route := range adminRoutes {
		param, ok := matchPath(route.path, path)
		if ok && r.Method == route.method {
			return route, param, nil
		}
		if ok {
			methods = append(methods, route.method)
		}
		paths = append(paths, route.method+" "+adminPrefix+route.path)
	}
	if methods != nil {
		return adminRoute{}, "", apiError(http.StatusMethodNotAllowed, "method %s is not allowed here; use %s", r.Method, strings.Join(methods, " or "))
	}
	return adminRoute{}, "", apiError(http.StatusNotFound, "there is no %s; known: %s", r.URL.Path, strings.Join(paths, ", "))
}

// matchPath compares a path with one that has a parameter in braces.
func matchPath(pattern, path string) (param string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case strings.HasPrefix(want[i], "{") && got[i] != "":
			param = got[i]
		case want[i] != got[i]:
			return "", false
		}
	}
	return param, true
}

func known(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// adminProblem turns an error into one that Caddy's admin endpoint reports.
func adminProblem(err error) error {
	var (
		g   *gateway.Error
		api caddy.APIError
	)
	switch {
	case errors.As(err, &api):
		return api
	case errors.Is(err, store.ErrNotFound):
		return apiError(http.StatusNotFound, "there is none of that name")
	case errors.As(err, &g):
		return apiError(http.StatusBadGateway, "asking the gateway: %v", err)
	}
	return apiError(http.StatusInternalServerError, "%v", err)
}

// limit is how many entries a page has.
func (r adminRequest) limit() (int, error) {
	v := r.query.Get("limit")
	if v == "" {
		return adminLimit, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxAdminLimit {
		return 0, apiError(http.StatusBadRequest, "limit must be a number from 1 to %d", maxAdminLimit)
	}
	return n, nil
}

// next leads to the page after one that is full.
func (r adminRequest) next(full bool, last string) {
	if !full {
		return
	}
	query := maps.Clone(r.query)
	query.Set("before", last)
	r.header.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, query.Encode()))
}

type statusView struct {
	Version   string                      `json:"version"`
	Store     storeView                   `json:"store"`
	Accounts  map[string]accountView      `json:"accounts"`
	Inbox     map[string]int64            `json:"inbox,omitempty"`
	Upstreams []queueView                 `json:"upstreams"`
	CatchUp   map[string][]resendView     `json:"catch_up,omitempty"`
	Bills     map[string]map[string]int64 `json:"bills,omitempty"`
}

type storeView struct {
	Location string `json:"location"`
	State    string `json:"state"`
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
		Store:     storeView{r.app.storage.Location(), "waiting for another process"},
		Accounts:  make(map[string]accountView),
		Upstreams: []queueView{},
	}
	for name, a := range r.app.accounts {
		v.Accounts[name] = accountView{a.API, a.simulated}
	}
	if r.store == nil {
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
	resends, err := r.store.Resends(ctx)
	if err != nil {
		return nil, err
	}
	for _, re := range resends {
		if v.CatchUp == nil {
			v.CatchUp = make(map[string][]resendView)
		}
		v.CatchUp[re.Account] = append(v.CatchUp[re.Account], resendView{re.From, re.Until, re.State, re.Problem})
	}
	return v, nil
}

type resendView struct {
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
	State   string    `json:"state"`
	Problem string    `json:"problem,omitempty"`
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
	Upstream string    `json:"upstream"`
}

// replayed is what came of it.
type replayed struct {
	Events     int `json:"events"`
	Deliveries int `json:"deliveries"`
}

func adminReplay(r adminRequest) (any, error) {
	var order replayOrder
	if err := readBodyOf(r, &order); err != nil {
		return nil, err
	}
	switch {
	case len(order.IDs) > 0 && (!order.Since.IsZero() || !order.Until.IsZero()):
		return nil, apiError(http.StatusBadRequest, "ids and since exclude each other")
	case len(order.IDs) == 0 && order.Since.IsZero():
		return nil, apiError(http.StatusBadRequest, `name the events: {"ids": ["evt_…"]} or {"since": "2026-01-02T15:04:05Z", "until": …, "upstream": …}`)
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

	var done replayed
	if len(order.IDs) > 0 {
		// All are looked up before any is told again.
		events := make([]store.StoredEvent, len(order.IDs))
		for i, id := range order.IDs {
			var err error
			if events[i], err = r.event(id); err != nil {
				return nil, err
			}
		}
		if err := r.replay(events, order.Upstream, &done); err != nil {
			return nil, err
		}
		return done, nil
	}
	if order.Until.IsZero() {
		order.Until = now()
	}
	if !order.Since.Before(order.Until) {
		return nil, apiError(http.StatusBadRequest, "since must be before until")
	}
	var last int64
	for {
		events, err := r.store.EventsBetween(r.Context(), order.Since, order.Until, last, replayBatch)
		if err != nil {
			return nil, err
		}
		if err := r.replay(events, order.Upstream, &done); err != nil {
			return nil, err
		}
		if len(events) < replayBatch {
			return done, nil
		}
		last = events[len(events)-1].Number
	}
}

// replay queues events for those upstreams that want them.
func (r adminRequest) replay(events []store.StoredEvent, upstream string, done *replayed) error {
	for _, e := range events {
		var names []string
		for _, u := range r.app.upstreams {
			if u.Account == e.Account && u.Wants(e.Type) && (upstream == "" || u.Name == upstream) {
				names = append(names, u.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		if err := r.store.AddDeliveries(r.Context(), e.ID, names, now()); err != nil {
			return err
		}
		done.Events++
		done.Deliveries += len(names)
	}
	return nil
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
	if err != nil {
		return nil, err
	}
	return done, nil
}

// reconcile asks the gateway about the open bills of all accounts, now.
func (e *engine) reconcile(ctx context.Context) (resolve.Reconciled, error) {
	e.mu.Lock()
	resolver := e.resolver
	e.mu.Unlock()
	if resolver == nil {
		return resolve.Reconciled{}, store.ErrInUse
	}
	return resolver.Reconcile(ctx)
}

// readBodyOf reads the body of an order whole; none is an empty object. Names nobody
// knows are errors, since a misspelt one would change what is ordered.
func readBodyOf(r adminRequest, to any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAdminBody+1))
	if err != nil {
		return apiError(http.StatusBadRequest, "reading the body: %v", err)
	}
	if len(body) > maxAdminBody {
		return apiError(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", maxAdminBody)
	}
	if len(body) == 0 {
		return nil
	}
	if err := strictjson.Unmarshal(body, to, strictjson.RejectUnknownMembers(true)); err != nil {
		return apiError(http.StatusBadRequest, "the body is not as it should be: %v", err)
	}
	return nil
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
