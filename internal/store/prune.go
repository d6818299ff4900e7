package store

import (
	"context"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// What is removed when it is old: events that every upstream has taken, with their
// deliveries; callbacks that are done with; bills that are closed. Deliveries that are
// pending or dead keep their events and the bill of these for as long as they are so,
// and a bill whose end was not told yet stays until it is.
const (
	eventIsOver    = `NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = events.id AND d.state <> 'delivered')`
	callbackIsOver = `state NOT IN ('received', 'quarantined', 'asking')`
	billIsOver     = `(stage <> 'open' OR status NOT IN ('awaiting_payment', 'underpaid'))
		AND NOT EXISTS (SELECT 1 FROM events e JOIN deliveries d ON d.event = e.id
			WHERE e.subject = bills.reference AND e.account = bills.account AND d.state <> 'delivered')`

	oldEvents    = `SELECT number FROM events WHERE occurred_at < ? AND ` + eventIsOver + ` ORDER BY occurred_at LIMIT ?`
	oldCallbacks = `SELECT number FROM callbacks WHERE received_at < ? AND ` + callbackIsOver + ` ORDER BY received_at LIMIT ?`
	oldBills     = `SELECT reference FROM bills WHERE expires_at < ? AND ` + billIsOver + ` ORDER BY expires_at LIMIT ?`

	pruneEvent    = `DELETE FROM events WHERE number = ? AND ` + eventIsOver
	pruneCallback = `DELETE FROM callbacks WHERE number = ? AND ` + callbackIsOver
	pruneBill     = `DELETE FROM bills WHERE reference = ? AND ` + billIsOver
)

// pruneAtOnce is how many rows one transaction removes. It is short, because a
// callback may be waiting for it.
const pruneAtOnce = 50

// Prune removes at most so many rows of each kind that are older than a time, and
// reports whether there may be more. What is old and stays may be much: it is looked
// through beside the writer, which is given only what has to go.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (more bool, err error) {
	for _, p := range []struct {
		find, remove string
		before       time.Time
	}{
		{oldEvents, pruneEvent, before},
		{oldCallbacks, pruneCallback, before},
		{oldBills, pruneBill, before.Add(-bill.ListenAfter)},
	} {
		old, err := s.keys(ctx, p.find, ms(p.before), limit)
		if err != nil {
			return false, err
		}
		more = more || len(old) == limit
		for len(old) > 0 {
			n := min(pruneAtOnce, len(old))
			err := s.WriteInBackground(ctx, func(tx *Tx) error {
				for _, key := range old[:n] {
					if err := tx.exec(p.remove, key); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return false, err
			}
			old = old[n:]
		}
	}
	return more, nil
}

// keys runs a query that finds rows by numbers or names.
func (s *Store) keys(ctx context.Context, query string, args ...any) ([]any, error) {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []any
	for rows.Next() {
		var key any
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		list = append(list, key)
	}
	return list, rows.Err()
}
