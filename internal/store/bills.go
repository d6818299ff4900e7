package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// The stages of making a bill.
const (
	// Reserved bills were priced here; the gateway has not confirmed an order yet.
	Reserved = "reserved"
	// Open bills can be shown and paid.
	Open = "open"
	// Abandoned bills could not be made. They are kept because the gateway may know
	// an order of their reference.
	Abandoned = "abandoned"
)

// What can stand against a new bill.
var (
	ErrTooManyOpen = errors.New("too many open bills")
	ErrOtherCart   = errors.New("the idempotency key was used for another cart")
	ErrNotFound    = errors.New("not found")
)

// A Record is a bill with what the store knows beside it.
type Record struct {
	*bill.Bill
	Stage          string
	Problem        string
	IdempotencyKey string
	RequestHash    string
	// Status is the one that was stored last. The clock may have moved on since.
	Status bill.Status
}

var billColumns = []string{
	"reference", "token", "account", "stage", "problem", "idempotency_key", "request_hash", "order_id", "items", "note",
	"price", "currency", "hosted", "payment_url", "method", "token_id", "coin_id", "crypto", "network", "chain", "contract", "address",
	"memo", "due", "accept_short", "status", "confirming", "paid", "seq", "created_at", "expires_at", "updated_at",
}

var (
	selectBill = "SELECT " + strings.Join(billColumns, ", ") + " FROM bills "
	upsertBill = "INSERT INTO bills (" + strings.Join(billColumns, ", ") + ") VALUES (" +
		strings.TrimSuffix(strings.Repeat("?, ", len(billColumns)), ", ") + ") ON CONFLICT (reference) DO UPDATE SET " + assignments(billColumns[2:])
)

func assignments(columns []string) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c + " = excluded." + c
	}
	return strings.Join(list, ", ")
}

// Reserve makes room for a new bill before the gateway is asked for an order. With
// an idempotency key that is in use it stores nothing and returns the bill of that
// key, or ErrOtherCart if the cart was another one. A reservation whose making was
// interrupted before the gateway's order was known is abandoned and made anew.
func (s *Store) Reserve(ctx context.Context, r Record, maxOpen int, now time.Time) (existing *Record, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		existing = nil
		old, err := tx.loadBill(billByKey, r.Account, r.IdempotencyKey)
		switch {
		case err == nil && old.RequestHash != r.RequestHash:
			return ErrOtherCart
		case err == nil && (old.Stage == Open || old.OrderID != "" && now.Before(old.ExpiresAt)):
			existing = old
			return nil
		case err == nil:
			old.Stage, old.Problem = Abandoned, "making it was interrupted"
			if err := tx.SaveBill(old, now); err != nil {
				return err
			}
		case !errors.Is(err, ErrNotFound):
			return err
		}

		var open int
		if err := tx.queryRow(countOpenBills, r.Account, ms(now)).Scan(&open); err != nil {
			return err
		}
		if open >= maxOpen {
			return ErrTooManyOpen
		}
		return tx.SaveBill(&r, now)
	})
	return existing, err
}

// PutBill stores a bill and tells those who watch it.
func (s *Store) PutBill(ctx context.Context, r *Record, now time.Time) error {
	return s.Write(ctx, func(tx *Tx) error {
		tx.then(func() { signal(s.Inbox) }) // there is a new end of validity to wait for
		return tx.SaveBill(r, now)
	})
}

// SaveBill stores a bill with its payments and the state that follows from them.
// The bill must not be changed afterwards.
func (tx *Tx) SaveBill(r *Record, now time.Time) error {
	items, err := json.Marshal(r.Items)
	if err != nil {
		return err
	}
	state := r.StateAt(now)
	err = tx.exec(upsertBill, r.Reference, r.Token, r.Account, r.Stage, r.Problem, r.IdempotencyKey, r.RequestHash, r.OrderID,
		string(items), r.Note, r.Price.String(), r.Currency, r.Hosted, r.PaymentURL, r.Method, r.TokenID,
		r.Pays.CoinID, r.Pays.Crypto, r.Pays.Network, r.Pays.Chain, r.Pays.Contract, r.Address, r.Memo, r.Due.String(), r.AcceptShort.String(),
		string(state.Status), state.Confirming, state.Paid.String(), r.Seq, ms(r.CreatedAt), ms(r.ExpiresAt), ms(now))
	if err != nil {
		return err
	}
	for _, p := range r.Payments {
		err := tx.exec(`INSERT INTO payments (reference, id, status, amount, coin_id, crypto, network, chain, contract, txid, service_fee, risky, arrived_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (reference, id) DO UPDATE SET status = excluded.status, amount = excluded.amount, coin_id = excluded.coin_id, crypto = excluded.crypto,
			network = excluded.network, chain = excluded.chain, contract = excluded.contract, txid = excluded.txid,
			service_fee = excluded.service_fee, risky = excluded.risky, arrived_at = excluded.arrived_at`,
			r.Reference, p.ID, string(p.Status), p.Amount.String(), p.CoinID, p.Crypto, p.Network, p.Chain, p.Contract, p.TxID, p.ServiceFee, p.Risky, ms(p.ArrivedAt))
		if err != nil {
			return err
		}
	}
	tx.then(func() { tx.s.watchers.publish(r.Bill) })
	if r.Stage == Open && r.Status != "" && r.Status != state.Status {
		tx.changed(r.Account, state.Status)
	}
	return nil
}

// changed tells, after the commit, that a bill has come into a status.
func (tx *Tx) changed(account string, status bill.Status) {
	if tell := tx.s.observer.Changed; tell != nil {
		tx.then(func() { tell(account, status) })
	}
}

// Bill returns the bill with a reference, or ErrNotFound.
func (tx *Tx) Bill(account, reference string) (*Record, error) {
	return tx.loadBill("WHERE account = ? AND reference = ?", account, reference)
}

// BillByToken returns an open bill of an account, or ErrNotFound.
func (s *Store) BillByToken(ctx context.Context, account, token string) (*Record, error) {
	return loadBill(readQueries{ctx, s}, "WHERE token = ? AND account = ? AND stage = 'open'", token, account)
}

// BillByKey returns the bill of an idempotency key, or ErrNotFound.
func (s *Store) BillByKey(ctx context.Context, account, key string) (*Record, error) {
	return loadBill(readQueries{ctx, s}, billByKey, account, key)
}

// ExpiredBills returns the references of open bills whose validity has ended and
// that are not marked so yet.
func (s *Store) ExpiredBills(ctx context.Context, account string, now time.Time, limit int) ([]string, error) {
	return s.references(ctx, expiredBills, account, ms(now), limit)
}

// references runs a query that finds bills.
func (s *Store) references(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var reference string
		if err := rows.Scan(&reference); err != nil {
			return nil, err
		}
		list = append(list, reference)
	}
	return list, rows.Err()
}

// NextExpiry returns when the next open bill's validity ends.
func (s *Store) NextExpiry(ctx context.Context, account string) (due time.Time, ok bool, err error) {
	return s.next(ctx, nextExpiry, account)
}

// OpenBill stores a bill that can be shown from now on, and plans the first question
// to the gateway about it.
func (s *Store) OpenBill(ctx context.Context, r *Record, firstCheck, now time.Time) error {
	return s.Write(ctx, func(tx *Tx) error {
		tx.then(func() { signal(s.Inbox) }) // there is a new end of validity to wait for
		if err := tx.SaveBill(r, now); err != nil {
			return err
		}
		tx.changed(r.Account, r.StateAt(now).Status)
		return tx.PlanCheck(r.Reference, firstCheck)
	})
}

// PlanCheck sets when the gateway is asked about a bill; the zero time is never.
func (tx *Tx) PlanCheck(reference string, at time.Time) error {
	var due any
	if !at.IsZero() {
		due = ms(at)
	}
	return tx.exec(`UPDATE bills SET check_at = ? WHERE reference = ?`, due, reference)
}

// PlanChecks has the gateway asked now about every bill of an account that may still
// change.
func (s *Store) PlanChecks(ctx context.Context, account string, now time.Time) error {
	return s.WriteInBackground(ctx, func(tx *Tx) error {
		return tx.exec(`UPDATE bills SET check_at = ?1 WHERE account = ?2 AND stage = 'open' AND expires_at > ?3
			AND (confirming OR status NOT IN ('paid', 'overpaid', 'paid_overdue', 'overpaid_overdue'))`,
			ms(now), account, ms(now.Add(-bill.ListenAfter)))
	})
}

// BillsToCheck returns the references of bills that the gateway is to be asked about.
func (s *Store) BillsToCheck(ctx context.Context, account string, now time.Time, limit int) ([]string, error) {
	return s.references(ctx, billsToCheck, account, ms(now), limit)
}

// NextCheck returns when the gateway is to be asked about a bill next.
func (s *Store) NextCheck(ctx context.Context, account string) (due time.Time, ok bool, err error) {
	return s.next(ctx, nextCheck, account)
}

// RenamePayment gives a payment of a bill another id.
func (tx *Tx) RenamePayment(reference, from, to string) error {
	return tx.exec(`UPDATE payments SET id = ? WHERE reference = ? AND id = ?`, to, reference, from)
}

// AnnouncedTo returns the reference of the bill that a payment was announced to, or
// ErrNotFound.
func (tx *Tx) AnnouncedTo(account, payment string) (reference string, err error) {
	err = tx.queryRow(announcedTo, payment, account).Scan(&reference)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNotFound
	}
	return reference, err
}

// RemovePayment removes a payment of a bill.
func (tx *Tx) RemovePayment(reference, id string) error {
	return tx.exec(`DELETE FROM payments WHERE reference = ? AND id = ?`, reference, id)
}

// next reads a time that may be missing.
func (s *Store) next(ctx context.Context, query string, args ...any) (time.Time, bool, error) {
	var due sql.NullInt64
	if err := s.queryRow(ctx, query, args...).Scan(&due); err != nil || !due.Valid {
		return time.Time{}, false, err
	}
	return at(due.Int64), true, nil
}

// queries is what loading needs: the writing transaction or the readers.
type queries interface {
	queryRow(query string, args ...any) *row
	query(query string, args ...any) (*sql.Rows, error)
}

type readQueries struct {
	ctx context.Context
	s   *Store
}

func (q readQueries) queryRow(query string, args ...any) *row {
	return q.s.queryRow(q.ctx, query, args...)
}

func (q readQueries) query(query string, args ...any) (*sql.Rows, error) {
	return q.s.query(q.ctx, query, args...)
}

func (tx *Tx) loadBill(where string, args ...any) (*Record, error) {
	return loadBill(tx, where, args...)
}

func loadBill(q queries, where string, args ...any) (*Record, error) {
	r := &Record{Bill: new(bill.Bill)}
	var (
		items, price, due, short        string
		status, paid                    string
		confirming                      bool
		createdAt, expiresAt, updatedAt int64
	)
	err := q.queryRow(selectBill+where, args...).Scan(&r.Reference, &r.Token, &r.Account, &r.Stage, &r.Problem, &r.IdempotencyKey,
		&r.RequestHash, &r.OrderID, &items, &r.Note, &price, &r.Currency, &r.Hosted, &r.PaymentURL, &r.Method, &r.TokenID,
		&r.Pays.CoinID, &r.Pays.Crypto, &r.Pays.Network, &r.Pays.Chain, &r.Pays.Contract, &r.Address, &r.Memo, &due, &short,
		&status, &confirming, &paid, &r.Seq, &createdAt, &expiresAt, &updatedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(items), &r.Items); err != nil {
		return nil, fmt.Errorf("bill %s: items: %w", r.Reference, err)
	}
	for _, f := range []struct {
		text string
		to   *decimal.Decimal
	}{{price, &r.Price}, {due, &r.Due}, {short, &r.AcceptShort}} {
		if *f.to, err = decimal.NewFromString(f.text); err != nil {
			return nil, fmt.Errorf("bill %s: %w", r.Reference, err)
		}
	}
	r.Status = bill.Status(status)
	r.CreatedAt, r.ExpiresAt = at(createdAt), at(expiresAt)
	r.Payments, err = loadPayments(q, r.Reference)
	return r, err
}

func loadPayments(q queries, reference string) ([]bill.Payment, error) {
	rows, err := q.query(`SELECT id, status, amount, coin_id, crypto, network, chain, contract, txid, service_fee, risky, arrived_at
		FROM payments WHERE reference = ? ORDER BY arrived_at, id`, reference)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []bill.Payment
	for rows.Next() {
		var (
			p         bill.Payment
			status    string
			amount    string
			arrivedAt int64
		)
		if err := rows.Scan(&p.ID, &status, &amount, &p.CoinID, &p.Crypto, &p.Network, &p.Chain, &p.Contract, &p.TxID, &p.ServiceFee, &p.Risky, &arrivedAt); err != nil {
			return nil, err
		}
		if p.Amount, err = decimal.NewFromString(amount); err != nil {
			return nil, fmt.Errorf("payment %s: %w", p.ID, err)
		}
		p.Status, p.ArrivedAt = bill.PaymentStatus(status), at(arrivedAt)
		list = append(list, p)
	}
	return list, rows.Err()
}
