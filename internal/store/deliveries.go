package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	Trace      string // W3C traceparent of the callback it follows from, if that was traced
	Envelope   []byte // the CloudEvent in JSON
}

// A Delivery is an event on its way to one upstream.
type Delivery struct {
	Number   int64
	Event    string
	Type     string
	Subject  string
	Tries    int
	Round    int // how often an operator has had its tries begin anew
	Trace    string
	Envelope []byte
}

// AddEvent stores an event and one delivery for each upstream. An event that is
// there already is left as it is, with its deliveries.
func (tx *Tx) AddEvent(e Event, upstreams []string, now time.Time) error {
	added, err := tx.execCount(`INSERT INTO events (id, account, type, subject, origin, occurred_at, envelope, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`, e.ID, e.Account, e.Type, e.Subject, e.Origin, ms(e.OccurredAt), string(e.Envelope), e.Trace)
	if err != nil || added == 0 {
		return err
	}
	if tell := tx.s.observer.Told; tell != nil {
		tx.then(func() { tell(e) })
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
		if err := rows.Scan(&d.Number, &d.Event, &d.Type, &d.Subject, &d.Tries, &d.Round, &d.Trace, &d.Envelope); err != nil {
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
	// Round is that of the delivery when it was sent. The outcome of a try is void once
	// the tries have begun anew.
	Round int
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
		// An earlier one may have been put before it during the try. Then it waits.
		changed, err := tx.execCount(`UPDATE deliveries AS d SET state = ?1, tries = tries + 1, last_status = ?3, last_error = ?4, updated_at = ?5,
			due_at = CASE WHEN EXISTS (SELECT 1 FROM deliveries b WHERE b.account = d.account AND b.upstream = d.upstream
				AND b.subject = d.subject AND b.state = 'pending' AND b.number < d.number) THEN NULL ELSE ?2 END
			WHERE number = ?6 AND state = 'pending' AND round = ?7`,
			t.State, due, t.Status, t.Error, ms(now), t.Delivery, t.Round)
		if err != nil || changed == 0 || t.State == PendingDelivery {
			return err
		}
		q, _, err := tx.queueOf(t.Delivery)
		if err != nil {
			return err
		}
		return tx.settle(q, now)
	})
}

// RetryDelivery makes a delivery due again, with all its tries before it. With the
// name of an upstream it moves to that upstream's queue of the same account. Behind
// pending deliveries of the same subject that are older it waits for its turn; a
// younger one that was due waits for it. The outcome of a try that is under way is void.
// An unknown delivery is ErrNotFound; one of an event that the other upstream has
// already is a [TakenError].
func (s *Store) RetryDelivery(ctx context.Context, number int64, upstream string, now time.Time) error {
	return s.Write(ctx, func(tx *Tx) error { return tx.retryDelivery(number, upstream, now) })
}

func (tx *Tx) retryDelivery(number int64, upstream string, now time.Time) error {
	from, state, err := tx.queueOf(number)
	if err != nil {
		return err
	}
	to := from
	if upstream != "" {
		to.upstream = upstream
	}
	if to != from {
		var other int64
		err := tx.queryRow(`SELECT o.number FROM deliveries o JOIN deliveries d ON o.event = d.event AND o.upstream = ?
			WHERE d.number = ? AND o.number <> d.number`, to.upstream, number).Scan(&other)
		if err == nil {
			return &TakenError{Upstream: to.upstream, Delivery: other}
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	err = tx.exec(`UPDATE deliveries SET state = 'pending', upstream = ?, tries = 0, round = round + 1, due_at = NULL, updated_at = ? WHERE number = ?`,
		to.upstream, ms(now), number)
	if err != nil {
		return err
	}
	if to != from && state == PendingDelivery {
		if err := tx.settle(from, now); err != nil {
			return err
		}
	}
	return tx.settle(to, now)
}

// A TakenError says that an upstream has a delivery of the same event already.
type TakenError struct {
	Upstream string
	Delivery int64
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("upstream %q has delivery %d of the same event; retry that one", e.Upstream, e.Delivery)
}

// A Redelivery is an event that upstreams are to be told again.
type Redelivery struct {
	Event     string
	Upstreams []string
}

// Redeliver has events delivered once more, in their order: a delivery that is there
// already begins its tries anew, others are added.
func (s *Store) Redeliver(ctx context.Context, list []Redelivery, now time.Time) error {
	return s.WriteInBackground(ctx, func(tx *Tx) error {
		for _, r := range list {
			if err := tx.redeliver(r, now); err != nil {
				return err
			}
		}
		tx.then(func() { signal(s.Outbox) })
		return nil
	})
}

func (tx *Tx) redeliver(r Redelivery, now time.Time) error {
	var account, subject string
	err := tx.queryRow("SELECT account, subject FROM events WHERE id = ?", r.Event).Scan(&account, &subject)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	for _, u := range r.Upstreams {
		var number int64
		err := tx.queryRow("SELECT number FROM deliveries WHERE event = ? AND upstream = ?", r.Event, u).Scan(&number)
		switch {
		case err == nil:
			err = tx.retryDelivery(number, u, now)
		case errors.Is(err, sql.ErrNoRows):
			err = tx.addDelivery(r.Event, account, u, subject, now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A queue has the pending deliveries of one subject to one upstream.
type queue struct{ account, upstream, subject string }

// queueOf returns where a delivery belongs, and its state.
func (tx *Tx) queueOf(number int64) (q queue, state string, err error) {
	err = tx.queryRow(`SELECT account, upstream, subject, state FROM deliveries WHERE number = ?`, number).
		Scan(&q.account, &q.upstream, &q.subject, &state)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return q, state, err
}

// settle makes the first delivery of a queue due if it is not, and the one behind it
// wait. One of the two may just have come or gone; the others were waiting already.
func (tx *Tx) settle(q queue, now time.Time) error {
	rows, err := tx.query(firstPending, q.account, q.upstream, q.subject)
	if err != nil {
		return err
	}
	defer rows.Close()
	var (
		numbers []int64
		due     []bool
	)
	for rows.Next() {
		var (
			number int64
			is     bool
		)
		if err := rows.Scan(&number, &is); err != nil {
			return err
		}
		numbers, due = append(numbers, number), append(due, is)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if len(numbers) > 1 && due[1] {
		if err := tx.exec(`UPDATE deliveries SET due_at = NULL WHERE number = ?`, numbers[1]); err != nil {
			return err
		}
	}
	if len(numbers) > 0 && !due[0] {
		tx.then(func() { signal(tx.s.Outbox) })
		return tx.exec(`UPDATE deliveries SET due_at = ? WHERE number = ?`, ms(now), numbers[0])
	}
	return nil
}
