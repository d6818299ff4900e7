package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// The states of a delivery.
const (
	PendingDelivery = "pending"
	Delivered       = "delivered"
	Dead            = "dead"
)

// An Event is what upstreams are told.
type Event struct {
	ID         string
	Account    string
	Type       string
	Subject    string
	Origin     string
	OccurredAt time.Time
	Envelope   []byte // the CloudEvent in JSON
}

// A Delivery is an event on its way to one upstream.
type Delivery struct {
	Number   int64
	Event    string
	Type     string
	Subject  string
	Tries    int
	Envelope []byte
}

// AddEvent stores an event and one delivery for each upstream. An event that is
// there already is left as it is, with its deliveries.
func (tx *Tx) AddEvent(e Event, upstreams []string, now time.Time) error {
	added, err := tx.execCount(`INSERT INTO events (id, account, type, subject, origin, occurred_at, envelope) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`, e.ID, e.Account, e.Type, e.Subject, e.Origin, ms(e.OccurredAt), string(e.Envelope))
	if err != nil || added == 0 {
		return err
	}
	for _, u := range upstreams {
		if err := tx.addDelivery(e.ID, e.Account, u, e.Subject, now); err != nil {
			return err
		}
	}
	if len(upstreams) > 0 {
		tx.then(func() { signal(tx.s.Outbox) })
	}
	return nil
}

// addDelivery queues a delivery behind those of the same upstream and subject that
// are still pending.
func (tx *Tx) addDelivery(event, account, upstream, subject string, now time.Time) error {
	return tx.exec(`INSERT INTO deliveries (event, account, upstream, subject, state, due_at, created_at, updated_at)
		SELECT ?1, ?2, ?3, ?4, 'pending',
			CASE WHEN EXISTS (SELECT 1 FROM deliveries WHERE account = ?2 AND upstream = ?3 AND subject = ?4 AND state = 'pending')
				THEN NULL ELSE ?5 END, ?5, ?5`,
		event, account, upstream, subject, ms(now))
}

// DueDeliveries returns deliveries of an upstream that are due, at most one for
// each subject, the longest due first.
func (s *Store) DueDeliveries(ctx context.Context, account, upstream string, now time.Time, limit int) ([]Delivery, error) {
	rows, err := s.query(ctx, dueDeliveries, account, upstream, ms(now), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Delivery
	for rows.Next() {
		var d Delivery
		if err := rows.Scan(&d.Number, &d.Event, &d.Type, &d.Subject, &d.Tries, &d.Envelope); err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

// NextDelivery returns when, after now, the next try of an upstream is due.
func (s *Store) NextDelivery(ctx context.Context, account, upstream string, now time.Time) (due time.Time, ok bool, err error) {
	return s.next(ctx, nextDelivery, account, upstream, ms(now))
}

// A Try is the outcome of sending a delivery once.
type Try struct {
	Delivery int64
	// State is delivered, dead, or pending with the time of the next try.
	State  string
	DueAt  time.Time
	Status int    // HTTP status; 0 without an answer
	Error  string // what was wrong, empty if delivered
}

// RecordTry stores the outcome of a try. When the delivery is over, well or badly,
// the next one of its upstream and subject becomes due.
func (s *Store) RecordTry(ctx context.Context, t Try, now time.Time) error {
	return s.WriteInBackground(ctx, func(tx *Tx) error {
		var due any
		if t.State == PendingDelivery {
			due = ms(t.DueAt)
		}
		changed, err := tx.execCount(`UPDATE deliveries SET state = ?, tries = tries + 1, due_at = ?, last_status = ?, last_error = ?, updated_at = ?
			WHERE number = ? AND state = 'pending'`, t.State, due, t.Status, t.Error, ms(now), t.Delivery)
		if err != nil || changed == 0 || t.State == PendingDelivery {
			return err
		}
		return tx.releaseNext(t.Delivery, now)
	})
}

// releaseNext makes the delivery due that waited behind one.
func (tx *Tx) releaseNext(number int64, now time.Time) error {
	var next int64
	err := tx.queryRow(waitingDelivery, number).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	tx.then(func() { signal(tx.s.Outbox) })
	return tx.exec(`UPDATE deliveries SET due_at = ? WHERE number = ? AND due_at IS NULL`, ms(now), next)
}
