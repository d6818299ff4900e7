package store

import (
	"context"
	"time"
)

// The states of a callback.
const (
	Received    = "received"
	Quarantined = "quarantined"
	// Asking callbacks do not say what was paid; the gateway is asked about them.
	Asking   = "asking"
	Resolved = "resolved"
	Refuted  = "refuted"
	// Doubted callbacks were handed on without being believed.
	Doubted = "doubted"
)

// A Callback is a row of the inbox.
type Callback struct {
	Number     int64
	Account    string
	Kind       string // see the schema
	RecordID   string
	Status     string
	State      string
	Asked      int // how often the gateway was asked about one that is quarantined or asking
	Denied     int // how often it answered that it does not know it
	SignedAt   time.Time
	ReceivedAt time.Time
	Trace      string // W3C traceparent of the request it came with, if it was traced
	Body       []byte
}

// AddCallback stores a callback and returns after it is on disk. A callback of the
// same kind, record and status that is there already is left as it is: added is
// false then, and its first copy is as durable. Only a copy that is not believed gives
// way: to one that can be, and where it was decided about to any, which is asked about
// once more.
func (s *Store) AddCallback(ctx context.Context, c Callback) (added bool, err error) {
	err = s.submit(ctx, &op{one: true, done: make(chan error, 1), do: func(tx *Tx) error {
		n, err := tx.execCount(`INSERT INTO callbacks (account, kind, record_id, status, state, due_at, signed_at, received_at, body, trace)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, ?8, ?9)
			ON CONFLICT (account, kind, record_id, status) DO UPDATE SET
				state = excluded.state, problem = '', asked = 0, denied = 0,
				due_at = excluded.due_at, signed_at = excluded.signed_at, body = excluded.body, trace = excluded.trace
			WHERE callbacks.state IN ('quarantined', 'refuted', 'doubted') AND excluded.state = 'received'
				OR callbacks.state IN ('refuted', 'doubted') AND excluded.state = 'quarantined'`,
			c.Account, c.Kind, c.RecordID, c.Status, c.State, ms(c.ReceivedAt), ms(c.SignedAt), c.Body, c.Trace)
		if added = n > 0; added {
			tx.then(func() { signal(s.Inbox) })
		}
		return err
	}})
	return added, err
}

// Unresolved returns callbacks in a state, received or quarantined, that are due to
// be resolved, oldest first.
func (s *Store) Unresolved(ctx context.Context, state string, now time.Time, limit int) ([]Callback, error) {
	return s.callbacks(ctx, unresolvedCallbacks, state, ms(now), limit)
}

// AskingCallbacks returns callbacks of an account about which the gateway is to be
// asked now, the longest due first.
func (s *Store) AskingCallbacks(ctx context.Context, account string, now time.Time, limit int) ([]Callback, error) {
	return s.callbacks(ctx, askingCallbacks, account, ms(now), limit)
}

// NextAsking returns when the gateway is to be asked about the next callback of an
// account; ok is false without any.
func (s *Store) NextAsking(ctx context.Context, account string) (due time.Time, ok bool, err error) {
	return s.next(ctx, nextAskingCallback, account)
}

// callbacks runs a query that finds callbacks.
func (s *Store) callbacks(ctx context.Context, query string, args ...any) ([]Callback, error) {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Callback
	for rows.Next() {
		var (
			c                    Callback
			signedAt, receivedAt int64
		)
		if err := rows.Scan(&c.Number, &c.Account, &c.Kind, &c.RecordID, &c.Status, &c.State, &c.Asked, &c.Denied, &signedAt, &receivedAt, &c.Trace, &c.Body); err != nil {
			return nil, err
		}
		c.SignedAt, c.ReceivedAt = at(signedAt), at(receivedAt)
		list = append(list, c)
	}
	return list, rows.Err()
}

// NextUnresolved returns when the next callback in a state is due; ok is false
// without any.
func (s *Store) NextUnresolved(ctx context.Context, state string) (due time.Time, ok bool, err error) {
	return s.next(ctx, nextUnresolvedCallback, state)
}

// FinishCallback marks a callback as resolved or refuted.
func (tx *Tx) FinishCallback(number int64, state, problem string, now time.Time) error {
	return tx.exec(`UPDATE callbacks SET state = ?, problem = ?, resolved_at = ? WHERE number = ?`, state, problem, ms(now), number)
}

// RenameCallback gives a callback the status that the gateway tells of its payment, so
// that one of the status it came with is no copy of it. One that is there already and has
// that status is a copy of it and done with. It is not removed: its number could become
// that of another callback while it is still being asked about under it.
func (tx *Tx) RenameCallback(number int64, status string) error {
	err := tx.exec(`UPDATE callbacks SET status = c.status || ',copy of ' || ?2, state = 'resolved'
		FROM (SELECT account, kind, record_id, ?1 AS status FROM callbacks WHERE number = ?2) AS c
		WHERE callbacks.account = c.account AND callbacks.kind = c.kind AND callbacks.record_id = c.record_id
			AND callbacks.status = c.status AND callbacks.number <> ?2`, status, number)
	if err != nil {
		return err
	}
	return tx.exec(`UPDATE callbacks SET status = ? WHERE number = ?`, status, number)
}

// AskAboutCallback has the gateway asked about a callback, from now on.
func (tx *Tx) AskAboutCallback(number int64, now time.Time) error {
	return tx.exec(`UPDATE callbacks SET state = 'asking', problem = '', due_at = ? WHERE number = ?`, ms(now), number)
}

// PostponeCallback has a callback tried again later.
func (tx *Tx) PostponeCallback(number int64, problem string, due time.Time) error {
	return tx.exec(`UPDATE callbacks SET problem = ?, due_at = ? WHERE number = ?`, problem, ms(due), number)
}

// CountQuestion notes that the gateway was asked about a callback, and whether it
// answered that it does not know the payment.
func (tx *Tx) CountQuestion(number int64, denied bool) error {
	return tx.exec(`UPDATE callbacks SET asked = asked + 1, denied = denied + ? WHERE number = ?`, denied, number)
}
