package store

import (
	"context"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// What is removed when it is old: events that every upstream has taken, with their
// deliveries; callbacks that are done with; bills that have been given up or paid.
// Deliveries that are pending or dead keep their events for as long as they are so.
const (
	pruneEvents = `DELETE FROM events WHERE number IN (SELECT number FROM events e WHERE occurred_at < ?
		AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event = e.id AND d.state <> 'delivered') ORDER BY occurred_at LIMIT ?)`

	pruneCallbacks = `DELETE FROM callbacks WHERE number IN (SELECT number FROM callbacks
		WHERE received_at < ? AND state NOT IN ('received', 'quarantined', 'asking') ORDER BY received_at LIMIT ?)`

	pruneBills = `DELETE FROM bills WHERE reference IN (SELECT reference FROM bills WHERE expires_at < ? ORDER BY expires_at LIMIT ?)`
)

// Prune removes at most so many rows of each kind that are older than a time, and
// reports whether there may be more.
func (s *Store) Prune(ctx context.Context, before time.Time, limit int) (more bool, err error) {
	err = s.WriteInBackground(ctx, func(tx *Tx) error {
		more = false
		for _, p := range []struct {
			query  string
			before time.Time
		}{
			{pruneEvents, before},
			{pruneCallbacks, before},
			{pruneBills, before.Add(-bill.ListenAfter)},
		} {
			n, err := tx.execCount(p.query, ms(p.before), limit)
			if err != nil {
				return err
			}
			more = more || n == int64(limit)
		}
		return nil
	})
	return more, err
}
