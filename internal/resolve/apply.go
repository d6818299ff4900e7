package resolve

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/event"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// A message is a callback that was read and is ready to be applied.
type message struct {
	store.Callback
	account Account
	content gateway.Callback
	raw     []byte
	arrived time.Time // of the payment, as far as it is known
	// foreign callbacks cannot be read any more: the account was moved to another
	// generation of the API since they came.
	foreign bool
}

// read reads a callback. A panic of the parser concerns that callback alone.
func read(a Account, c store.Callback) (m message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	m = message{Callback: c, account: a, arrived: c.ReceivedAt}
	if m.raw, err = gateway.Reserialize(c.Body); err != nil {
		return m, err
	}
	if m.content, err = a.Client.ParseCallback(c.Body); err != nil {
		m.foreign = true
		m.content = gateway.Callback{Kind: gateway.KindUnknown, Type: c.Kind, RecordID: c.RecordID, RawStatus: c.Status, Subject: c.RecordID}
	}
	return m, nil
}

// apply resolves one callback: bill, event and deliveries. With doubt it is handed
// on without being believed: nothing is counted, and its type says that it is not
// known what happened.
func (r *Resolver) apply(tx *store.Tx, m message, doubt bool) error {
	a, c, cb := m.account, m.Callback, m.content
	doubt = doubt || m.foreign
	if cb.Incomplete && !doubt {
		if err := r.announce(tx, m); err != nil {
			return err
		}
		return tx.AskAboutCallback(c.Number, r.now())
	}
	data := event.Data{Account: a.Name, API: a.API, Origin: event.FromCallback, Raw: json.RawMessage(m.raw)}
	eventType := string(cb.Kind) + "." + string(cb.Status)
	network := ""
	switch {
	case doubt || cb.Kind == gateway.KindUnknown:
		eventType = event.UnknownReceived
	case cb.Kind == gateway.KindOrder:
		p, err := r.pay(tx, a, cb, m.arrived)
		if err != nil {
			return err
		}
		if p.told {
			return tx.FinishCallback(c.Number, store.Resolved, "found at the gateway before", r.now())
		}
		state := p.bill.StateAt(r.now())
		if eventType = orderEvent(p.bill, cb, state); p.bill.Pays.Accepts(cb.Token) {
			network = p.bill.Pays.Network
		}
		data.Bill = event.OfBill(p.bill, state, p.known, cb.CustomValue)
		data.Late = !p.news
	case cb.Reference != "":
		// A refund or withdrawal does not change the bill it belongs to.
		rec, err := tx.Bill(a.Name, cb.Reference)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil {
			data.Bill = event.OfBill(rec.Bill, rec.StateAt(r.now()), true, cb.CustomValue)
		}
	}
	data.Payment = event.OfPayment(cb, network)

	kind, status, done := c.Kind, c.Status, store.Resolved
	if _, told := cb.Key(); cb.Risky && !doubt && status != told && eventType != event.UnknownReceived {
		// The gateway has flagged the payment when it was asked. Its release is another
		// event, and the callback that tells of it no copy of this one.
		status = told
		if err := tx.RenameCallback(c.Number, status); err != nil {
			return err
		}
	}
	if doubt {
		// Another id, for the event that a copy without doubt will be.
		kind, done = kind+"?", store.Doubted
		if err := r.withdraw(tx, m); err != nil {
			return err
		}
	}
	if err := r.tell(tx, a, event.ID(a.Name, kind, c.RecordID, status), eventType, cb.Subject, c.Trace, c.ReceivedAt, data); err != nil {
		return err
	}
	return tx.FinishCallback(c.Number, done, "", r.now())
}

// paid is what became of a payment.
type paid struct {
	bill  *bill.Bill
	known bool // the bill was made here
	news  bool // the payment was not that far before
	told  bool // the upstreams know of it already, under another name
}

// pay takes a callback's payment into its bill. For a bill that was not made here
// it returns one that has only what the callback says.
func (r *Resolver) pay(tx *store.Tx, a Account, cb gateway.Callback, arrived time.Time) (out paid, err error) {
	p := bill.Payment{
		ID:         cb.RecordID,
		Status:     cb.Status,
		Amount:     cb.Amount,
		Token:      cb.Token,
		TxID:       cb.TxID,
		ServiceFee: cb.ServiceFee,
		Risky:      cb.Risky,
		ArrivedAt:  arrived,
	}
	rec, err := tx.Bill(a.Name, cb.Reference)
	if errors.Is(err, store.ErrNotFound) {
		return paid{bill: strangerBill(a, cb, p), news: true}, nil
	}
	if err != nil {
		return out, err
	}
	if rec.Hosted && cb.Due.IsPositive() && binds(p) > binding(rec.Bill) && samePrice(rec.Bill, cb) {
		// The buyer chose the coin on the gateway's page. The first payment tells
		// which, and the bill is bound to it, for good once one is confirmed.
		rec.Pays, rec.Due = cb.Token, cb.Due
		if rec.Pays.Network == "" {
			rec.Pays.Network = cb.Token.Chain
		}
	}
	if rec.Pays.Accepts(p.Token) {
		p.Network = rec.Pays.Network
	}
	if rec.OrderID == "" {
		rec.OrderID = cb.OrderID
	}
	// The bill's validity may have ended, and this payment be faster than the clock. Of one
	// that came after the end, the end is told first; after one that came in time the bill
	// stays as if it were valid, until the clock has its turn.
	saved := r.asOf(rec)
	if r.endsUntold(rec) && !arrived.Before(rec.ExpiresAt) {
		if err := r.tellExpiry(tx, a, rec); err != nil {
			return out, err
		}
		saved = r.now()
	}
	out = paid{bill: rec.Bill, known: true}
	if found := recognize(rec.Bill, p); found != "" {
		// It was found at the gateway before its callback came, and has no name from
		// there. From now on it has that of its record.
		if err := tx.RenamePayment(rec.Reference, found, p.ID); err != nil {
			return out, err
		}
		out.told = p.Status == bill.Success
	}
	if out.news = rec.Apply(p); out.news {
		rec.Seq++
	}
	if err := tx.SaveBill(rec, saved); err != nil || !held(rec.Bill) || a.Reconcile <= 0 {
		return out, err
	}
	// Its release is asked about, also where the bill was given up.
	return out, tx.PlanCheck(rec.Reference, nextCheck(rec.Bill, r.now(), a.Reconcile))
}

// endsUntold reports whether a bill's validity has ended without full payment and that
// has not been told yet.
func (r *Resolver) endsUntold(rec *store.Record) bool {
	return rec.Stage == store.Open && !overdue(rec.Status) && overdue(rec.StateAt(r.now()).Status)
}

// asOf is the time as of which a bill is stored: now, or the last moment of its validity
// as long as its end has not been told.
func (r *Resolver) asOf(rec *store.Record) time.Time {
	if r.endsUntold(rec) {
		return rec.ExpiresAt.Add(-time.Millisecond)
	}
	return r.now()
}

// recognize finds a payment that was found at the gateway without a record and is
// the one a callback is about, gives it the callback's record and returns the name
// it had.
func recognize(b *bill.Bill, p bill.Payment) (found string) {
	if strings.HasPrefix(p.ID, foundPrefix) || slices.ContainsFunc(b.Payments, func(q bill.Payment) bool { return q.ID == p.ID }) {
		return ""
	}
	for i, q := range b.Payments {
		if strings.HasPrefix(q.ID, foundPrefix) && q.Amount.Equal(p.Amount) && q.Token.Accepts(p.Token) &&
			(q.TxID == "" || p.TxID == "" || q.TxID == p.TxID) {
			b.Payments[i].ID = p.ID
			return q.ID
		}
	}
	return ""
}

// samePrice reports whether a callback is about the price the bill was made for, as
// far as it says so.
func samePrice(b *bill.Bill, cb gateway.Callback) bool {
	if cb.Price == "" {
		return true
	}
	price, err := bill.ParseAmount(cb.Price)
	return err == nil && price.Equal(b.Price) && (cb.Currency == "" || strings.EqualFold(cb.Currency, b.Currency))
}

// binds says how firmly a payment binds a hosted bill to its coin. One in a coin that is
// none does not.
func binds(p bill.Payment) int {
	switch {
	case p.Status == bill.Failed || !p.Token.Accepts(p.Token):
		return 0
	case p.Status == bill.Success && !p.Risky:
		return 2
	default:
		return 1
	}
}

// binding says how firmly a hosted bill is bound to its coin.
func binding(b *bill.Bill) (firm int) {
	for _, p := range b.Payments {
		if b.Pays.Accepts(p.Token) {
			firm = max(firm, binds(p))
		}
	}
	return firm
}

// announce notes in its bill that a payment was seen of which nothing else is known yet.
// From then on the buyer is not asked for it again.
func (r *Resolver) announce(tx *store.Tx, m message) error {
	cb := m.content
	if cb.Kind != gateway.KindOrder || cb.Status == bill.Failed {
		return nil
	}
	rec, err := tx.Bill(m.account.Name, cb.Reference)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	told := cb.Token
	told.Chain = rec.Pays.Chain
	if !rec.Pays.Accepts(told) {
		return nil // in another coin, or in one that the buyer chose on the gateway's page
	}
	saved := r.asOf(rec)
	if !rec.Apply(bill.Payment{ID: cb.RecordID, Status: bill.Announced, Token: rec.Pays, ArrivedAt: m.arrived}) {
		return nil
	}
	rec.Seq++
	return tx.SaveBill(rec, saved)
}

// withdraw takes a payment back that is known by callbacks alone and that the gateway does
// not bear out.
func (r *Resolver) withdraw(tx *store.Tx, m message) error {
	var err error
	reference := m.content.Reference
	if m.foreign {
		reference, err = tx.AnnouncedTo(m.account.Name, m.RecordID)
	}
	var rec *store.Record
	if err == nil {
		rec, err = tx.Bill(m.account.Name, reference)
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rec.Payments, func(p bill.Payment) bool {
		return p.ID == m.RecordID && p.Amount.IsZero() && p.Status != bill.Success && p.Status != bill.Failed
	})
	if i < 0 {
		return nil
	}
	rec.Payments = slices.Delete(rec.Payments, i, i+1)
	if err := tx.RemovePayment(rec.Reference, m.RecordID); err != nil {
		return err
	}
	rec.Seq++
	return tx.SaveBill(rec, r.asOf(rec))
}

// strangerBill is a bill of which nothing is known but one callback.
func strangerBill(a Account, cb gateway.Callback, p bill.Payment) *bill.Bill {
	price, err := bill.ParseAmount(cb.Price)
	if err != nil {
		price = bill.Payment{}.Amount
	}
	return &bill.Bill{
		Reference: cb.Reference,
		Account:   a.Name,
		OrderID:   cb.OrderID,
		Price:     price,
		Currency:  cb.Currency,
		Pays:      cb.Token,
		Due:       cb.Due,
		Payments:  []bill.Payment{p},
		// Its validity is not known, and nothing says that it has ended.
		ExpiresAt: p.ArrivedAt.Add(bill.ListenAfter * 365),
	}
}

// orderEvent names what a payment did to its bill. One in another coin did nothing
// to it; it is money that came in all the same.
func orderEvent(b *bill.Bill, cb gateway.Callback, s bill.State) string {
	unbound := b.Hosted && b.Pays.Crypto == ""
	switch {
	case unbound && cb.Status == bill.Failed:
		return event.BillPaymentFailed
	case !b.Pays.Accepts(cb.Token):
		return string(gateway.KindDeposit) + "." + string(cb.Status)
	case cb.Status == bill.Failed:
		return event.BillPaymentFailed
	case cb.Status != bill.Success:
		return event.BillConfirming
	case cb.Risky:
		return event.BillPaymentHeld
	}
	switch s.Status {
	case bill.Paid, bill.PaidOverdue:
		return event.BillPaid
	case bill.Overpaid, bill.OverpaidOverdue:
		return event.BillOverpaid
	default:
		return event.BillUnderpaid
	}
}

// overdue reports whether a status is one that the clock alone brings about.
func overdue(s bill.Status) bool { return s == bill.Expired || s == bill.UnderpaidOverdue }

// expire ends the validity of a bill.
func (r *Resolver) expire(tx *store.Tx, a Account, reference string) error {
	rec, err := tx.Bill(a.Name, reference)
	if err != nil {
		return err
	}
	if overdue(rec.StateAt(r.now()).Status) {
		if err := r.tellExpiry(tx, a, rec); err != nil {
			return err
		}
	}
	return tx.SaveBill(rec, r.now())
}

// tellExpiry tells that the validity of a bill has ended without full payment.
func (r *Resolver) tellExpiry(tx *store.Tx, a Account, rec *store.Record) error {
	now := r.now()
	state := rec.StateAt(now)
	rec.Seq++
	data := event.Data{
		Account: a.Name,
		API:     a.API,
		Origin:  event.FromTimer,
		Bill:    event.OfBill(rec.Bill, state, true, ""),
		Raw:     json.RawMessage("{}"),
	}
	id := event.ID(a.Name, "expiry", rec.Reference, string(state.Status))
	return r.tell(tx, a, id, event.BillExpired, rec.Reference, "", now, data)
}

// tell stores an event and its deliveries.
func (r *Resolver) tell(tx *store.Tx, a Account, id, eventType, subject, trace string, at time.Time, data event.Data) error {
	envelope, err := event.Encode(id, eventType, subject, at, data)
	if err != nil {
		return err
	}
	return tx.AddEvent(store.Event{
		ID:         id,
		Account:    a.Name,
		Type:       eventType,
		Subject:    subject,
		Origin:     data.Origin,
		OccurredAt: at,
		Trace:      trace,
		Envelope:   envelope,
	}, a.Upstreams(eventType), r.now())
}
