package ccpayment

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/address"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

var errNoMemo = errors.New("the gateway gave no memo, without which a payment would be lost")

// maxTitle bounds the product name on the gateway's hosted page.
const maxTitle = 120

// serveCreate makes a bill. Everything that can be refused is refused before the
// gateway is asked, which bans those who ask too much.
func (h *Bill) serveCreate(w http.ResponseWriter, r *http.Request, rt route) (err error) {
	result := "created"
	defer func() {
		if err != nil {
			result = problemOf(err).code
		}
		metrics.billsCreated.WithLabelValues(h.account.name, result).Inc()
	}()

	// 1. What does the buyer want?
	o, err := readOrder(w, r)
	if err != nil {
		return err
	}

	// 2. What does it cost? The price list says, never the browser.
	prices := h.prices()
	items, total, err := prices.Price(o.lines, o.amount, h.MaxQuantity)
	if err != nil {
		return err
	}

	// 3. What is it paid with?
	method, err := h.method(o.method)
	if err != nil {
		return err
	}

	// 4. Make the bill, or find the one that was made with the same key.
	wanted := newRecord(h, items, total, prices.Currency, method, o)
	rec, err := h.once(r, o, wanted)
	if err != nil {
		return err
	}
	if rec.Reference != wanted.Reference {
		result = "repeated"
	}

	// 5. Show it.
	self := rt.prefix + "/bills/" + rec.Token
	if wantsJSON(r) {
		w.Header().Set("Location", self)
		return h.writeBill(w, http.StatusCreated, rec.Bill, rt.prefix)
	}
	target := self
	if rec.Hosted {
		target = rec.PaymentURL
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// method finds the method a buyer has named. With a single one there is no need to
// name it, and on the gateway's page the buyer chooses there.
func (h *Bill) method(name string) (*Method, error) {
	switch {
	case h.Checkout == checkoutHosted:
		return &Method{}, nil
	case name == "" && len(h.Methods) == 1:
		return h.Methods[0], nil
	}
	if m, ok := h.methods[name]; ok {
		return m, nil
	}
	names := make([]string, len(h.Methods))
	for i, m := range h.Methods {
		names[i] = m.Name
	}
	return nil, &problem{
		status: http.StatusUnprocessableEntity,
		code:   "unknown_method",
		detail: "The shop does not take this method; it takes " + strings.Join(names, ", ") + ".",
	}
}

// newRecord is a bill before the gateway knows of it.
func newRecord(h *Bill, items []bill.Item, total decimal.Decimal, currency string, m *Method, o *order) store.Record {
	created := now().UTC().Truncate(time.Millisecond)
	return store.Record{
		Bill: &bill.Bill{
			Token:       random(),
			Reference:   reference(),
			Account:     h.account.name,
			Items:       items,
			Note:        o.note,
			Price:       total,
			Currency:    currency,
			Hosted:      h.Checkout == checkoutHosted,
			Method:      m.Name,
			TokenID:     m.tokenID(),
			AcceptShort: h.acceptShort,
			CreatedAt:   created,
			ExpiresAt:   created.Add(time.Duration(h.ValidFor)),
		},
		Stage:          store.Reserved,
		IdempotencyKey: o.storedKey(),
		RequestHash:    requestHash(items, m.Name, o),
	}
}

// random is 128 random bits in base64url.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// reference is a random order id. It does not begin with a dash, which a command would
// take for a flag.
func reference() string {
	for {
		if r := random(); r[0] != '-' {
			return r
		}
	}
}

// storedKey keeps keys that buyers' pages choose apart from those made here for
// orders without one.
func (o *order) storedKey() string {
	if o.key == "" {
		return "own:" + random()
	}
	return "buyer:" + o.key
}

// requestHash tells whether two requests with one key ask for the same. Prices are
// left out: a price that has changed meanwhile does not make it another cart.
func requestHash(items []bill.Item, method string, o *order) string {
	type line struct {
		ID       string
		Quantity int
	}
	lines := make([]line, len(items))
	for i, item := range items {
		lines[i] = line{item.ID, item.Quantity}
	}
	text, _ := json.Marshal([]any{lines, method, o.amount, o.note})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// once makes a bill unless there is one of the same key. Two requests with one key
// that come together, as from a double click, get the same bill.
func (h *Bill) once(r *http.Request, o *order, rec store.Record) (*store.Record, error) {
	e, err := h.app.open()
	if err != nil {
		return nil, err
	}
	s, err := e.openStore()
	if err != nil {
		return nil, err
	}
	old, err := s.BillByKey(r.Context(), rec.Account, rec.IdempotencyKey)
	switch {
	case err == nil && old.RequestHash != rec.RequestHash:
		return nil, store.ErrOtherCart
	case err == nil && old.Stage == store.Open:
		return old, nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	// Whatever may lead to a question to the gateway uses up the client's allowance.
	if wait, ok := h.limiter.allow(clientIP(r), now()); !ok {
		return nil, &problem{
			status:     http.StatusTooManyRequests,
			code:       "rate_limited",
			retryable:  true,
			retryAfter: wait,
			detail:     "Too many orders in a short time. Please wait a moment.",
		}
	}

	remark := ""
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		remark = repl.ReplaceAll(h.Remark, "")
	}
	// The buyer may leave, but an order that the gateway is making must be finished
	// and stored, or it would be lost.
	ctx := context.WithoutCancel(r.Context())
	flight := strings.Join([]string{rec.Account, rec.IdempotencyKey, rec.RequestHash}, "\x00")
	result := e.creating.DoChan(flight, func() (any, error) { return h.make(ctx, s, &rec, remark) })
	select {
	case done := <-result:
		if done.Err != nil {
			return nil, done.Err
		}
		return done.Val.(*store.Record), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// make reserves a bill, has the gateway make an order, learns what is to be paid,
// and only then opens the bill.
func (h *Bill) make(ctx context.Context, s *store.Store, rec *store.Record, remark string) (_ *store.Record, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	existing, err := s.Reserve(ctx, *rec, h.MaxOpen, now())
	if err != nil {
		return nil, err
	}
	if existing != nil {
		if existing.Stage == store.Open {
			return existing, nil
		}
		rec = existing // its order was made, but not what is to be paid for it
	}

	err = h.order(ctx, rec, remark)
	if gateway.IsDuplicate(err) {
		// Another order has the reference, from wherever. This one gets a new one.
		if err := h.rename(ctx, s, rec); err != nil {
			return nil, err
		}
		err = h.order(ctx, rec, remark)
	}
	if err != nil {
		return nil, h.abandon(ctx, s, rec, err)
	}
	rec.Stage, rec.Seq = store.Open, 1
	opened := now()
	var firstCheck time.Time
	if every := time.Duration(h.app.Reconcile); every > 0 {
		firstCheck = opened.Add(every)
	}
	if err := s.OpenBill(ctx, rec, firstCheck, opened); err != nil {
		return nil, err
	}
	h.log.Info("opened bill", zap.String("account", rec.Account), zap.String("reference", rec.Reference), zap.String("method", rec.Method))
	return rec, nil
}

// rename abandons a reservation in favour of one with another reference.
func (h *Bill) rename(ctx context.Context, s *store.Store, rec *store.Record) error {
	old := *rec
	bill := *rec.Bill
	old.Bill, old.Stage, old.Problem = &bill, store.Abandoned, "the gateway has another order of this reference"
	if err := s.PutBill(ctx, &old, now()); err != nil {
		return err
	}
	rec.Reference, rec.Token = reference(), random()
	_, err := s.Reserve(ctx, *rec, h.MaxOpen, now())
	return err
}

// order has the gateway make the order of a bill.
func (h *Bill) order(ctx context.Context, rec *store.Record, remark string) error {
	o := gateway.Order{
		Reference: rec.Reference,
		Price:     rec.Price,
		Currency:  rec.Currency,
		TokenID:   rec.TokenID,
		ValidFor:  rec.ExpiresAt.Sub(rec.CreatedAt),
		ExpiresAt: rec.ExpiresAt,
		Title:     title(rec.Items),
		Remark:    remark,
		NotifyURL: h.notifyURL,
	}
	if u, err := url.Parse(h.ReturnURL); err == nil && u.Host != "" {
		o.ReturnURL = h.ReturnURL
	}
	if rec.Hosted {
		return h.orderHosted(ctx, o, rec)
	}
	return h.orderNative(ctx, o, rec)
}

func (h *Bill) orderHosted(ctx context.Context, o gateway.Order, rec *store.Record) (err error) {
	rec.PaymentURL, err = h.account.client.CreateHosted(ctx, o)
	return err
}

func (h *Bill) orderNative(ctx context.Context, o gateway.Order, rec *store.Record) error {
	var due gateway.Due
	if rec.OrderID == "" {
		created, err := h.account.client.Create(ctx, o)
		if err != nil {
			if m := h.methods[rec.Method]; m != nil {
				err = h.account.explained(ctx, m, err)
			}
			return err
		}
		due = created.Due
		rec.OrderID, rec.Address, rec.Memo = created.OrderID, created.Address, created.Memo
		rec.Pays.Crypto, rec.Pays.Network = created.Crypto, created.Network
	}
	if m := h.methods[rec.Method]; m != nil && m.MemoRequired && rec.Memo == "" {
		return &gateway.Error{Failure: gateway.Refused, Endpoint: "order", Err: errNoMemo}
	}
	if !due.Known() {
		var err error
		if due, err = h.account.client.Due(ctx, o); err != nil {
			return err
		}
	}
	if rec.Pays.Crypto != "" && !strings.EqualFold(rec.Pays.Crypto, due.Token.Crypto) {
		return &gateway.Error{Failure: gateway.Unreachable, Endpoint: "order", Err: errors.New("the gateway names two different coins for the order")}
	}
	network := rec.Pays.Network
	rec.Pays, rec.Due = due.Token, due.Amount
	if network != "" {
		rec.Pays.Network = network
	} else if rec.Pays.Network == "" {
		rec.Pays.Network = rec.Pays.Chain
	}
	// What is sent to an address that is none is lost, so nobody gets to see it.
	if err := address.Check(rec.Pays.Chain, rec.Address); err != nil {
		return &gateway.Error{Failure: gateway.Refused, Endpoint: "order", Err: fmt.Errorf("address on chain %s: %w", rec.Pays.Chain, err)}
	}
	return nil
}

// abandon keeps what is known of an order that could not be finished. One that the
// gateway has made stays reserved, so that a retry with the same key goes on with
// it; every other is given up, and a retry makes a new one with a new reference.
func (h *Bill) abandon(ctx context.Context, s *store.Store, rec *store.Record, cause error) error {
	rec.Problem = cause.Error()
	rec.Due = decimal.Zero
	if rec.OrderID == "" || errors.Is(cause, errNoMemo) || errors.Is(cause, address.ErrMalformed) {
		rec.Stage = store.Abandoned
	}
	if g := new(gateway.Error); !errors.As(cause, &g) || g.Failure != gateway.Refused {
		h.log.Warn("giving up on an order that the gateway may have made",
			zap.String("account", rec.Account), zap.String("reference", rec.Reference), zap.Error(cause))
	}
	if err := s.PutBill(ctx, rec, now()); err != nil {
		h.log.Error("storing what is known of an unfinished order", zap.String("reference", rec.Reference), zap.Error(err))
	}
	return cause
}

// title names a cart in one line.
func title(items []bill.Item) string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = item.Name
		if item.Quantity > 1 {
			names[i] = fmt.Sprintf("%d × %s", item.Quantity, item.Name)
		}
	}
	s := strings.Join(names, ", ")
	for len(s) > maxTitle {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
