package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

// What operators look at. Lists begin with the newest and are read in pages: each goes
// on before the last entry of the one before.

// Bills returns bills, newest first, made before the bill of a reference unless that is
// empty. With a status they are those that were opened and have come into it.
func (s *Store) Bills(ctx context.Context, status bill.Status, before string, limit int) ([]*Record, error) {
	query, args, where := "SELECT reference FROM bills", []any{}, " WHERE "
	if status != "" {
		query, args, where = openBillsOfStatus, []any{string(status)}, " AND "
	}
	if before != "" {
		if _, err := s.BillByReference(ctx, before); err != nil {
			return nil, err
		}
		query += where + "(created_at, reference) < (SELECT created_at, reference FROM bills WHERE reference = ?)"
		args = append(args, before)
	}
	references, err := s.references(ctx, query+" ORDER BY created_at DESC, reference DESC LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, err
	}
	list := make([]*Record, 0, len(references))
	for _, reference := range references {
		r, err := s.BillByReference(ctx, reference)
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// BillByReference returns the bill with a reference, or ErrNotFound.
func (s *Store) BillByReference(ctx context.Context, reference string) (*Record, error) {
	return loadBill(readQueries{ctx, s}, "WHERE reference = ?", reference)
}

// A StoredEvent is an event with its place in the order of all.
type StoredEvent struct {
	Number int64
	Event
}

const eventColumns = "SELECT number, id, account, type, subject, origin, occurred_at, envelope, trace FROM events "

// Events returns events, newest first, stored before the event of an id unless that
// is empty.
func (s *Store) Events(ctx context.Context, before string, limit int) ([]StoredEvent, error) {
	if before == "" {
		return s.events(ctx, "ORDER BY number DESC LIMIT ?", limit)
	}
	e, err := s.EventByID(ctx, before)
	if err != nil {
		return nil, err
	}
	return s.events(ctx, "WHERE number < ? ORDER BY number DESC LIMIT ?", e.Number, limit)
}

// EventsAbout returns the events of a subject in the order in which they happened.
func (s *Store) EventsAbout(ctx context.Context, subject string, limit int) ([]StoredEvent, error) {
	list, err := s.events(ctx, "WHERE subject = ? ORDER BY number DESC LIMIT ?", subject, limit)
	slices.Reverse(list)
	return list, err
}

// leastOfID is how much of an event's id must be known to find it by the beginning.
const leastOfID = len("evt_") + 8

// EventByID returns the event with an id, or with an id that begins so if there is
// only one, or ErrNotFound.
func (s *Store) EventByID(ctx context.Context, id string) (StoredEvent, error) {
	if len(id) < leastOfID {
		return StoredEvent{}, ErrNotFound
	}
	// The characters of ids are all below the tilde.
	list, err := s.events(ctx, "WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 2", id)
	switch {
	case err != nil:
		return StoredEvent{}, err
	case len(list) == 0 || len(list) == 2 && list[0].ID != id:
		return StoredEvent{}, ErrNotFound
	}
	return list[0], nil
}

// EventsBetween returns events that happened from one time to another, in the order in
// which they were stored, after the one of a number.
func (s *Store) EventsBetween(ctx context.Context, since, until time.Time, after int64, limit int) ([]StoredEvent, error) {
	first := after + 1
	if after == 0 {
		var least sql.NullInt64
		if err := s.queryRow(ctx, firstEventSince, ms(since), ms(until)).Scan(&least); err != nil || !least.Valid {
			return nil, err
		}
		first = least.Int64
	}
	return s.events(ctx, eventsSince, first, ms(since), ms(until), limit)
}

func (s *Store) events(ctx context.Context, where string, args ...any) ([]StoredEvent, error) {
	rows, err := s.query(ctx, eventColumns+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []StoredEvent
	for rows.Next() {
		var (
			e          StoredEvent
			occurredAt int64
		)
		if err := rows.Scan(&e.Number, &e.ID, &e.Account, &e.Type, &e.Subject, &e.Origin, &occurredAt, &e.Envelope, &e.Trace); err != nil {
			return nil, err
		}
		e.OccurredAt = at(occurredAt)
		list = append(list, e)
	}
	return list, rows.Err()
}

// A DeliveryRecord is what the store knows of a delivery.
type DeliveryRecord struct {
	Number     int64
	Event      string
	Type       string
	Account    string
	Upstream   string
	Subject    string
	State      string
	Tries      int
	DueAt      time.Time // of the next try; zero while it waits behind another
	LastStatus int       // HTTP status of the last try, 0 without an answer
	LastError  string
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

const deliveryColumns = `SELECT d.number, d.event, e.type, d.account, d.upstream, d.subject, d.state, d.tries, d.due_at,
	d.last_status, d.last_error, d.created_at, d.updated_at FROM deliveries d JOIN events e ON e.id = d.event `

// Deliveries returns deliveries, newest first, in a state and to an upstream unless
// those are empty, with a number below before unless that is zero.
func (s *Store) Deliveries(ctx context.Context, state, upstream string, before int64, limit int) ([]DeliveryRecord, error) {
	query, args := deliveryColumns, []any{}
	switch state {
	case "":
		query += " WHERE 1"
	case PendingDelivery:
		query += pendingDeliveries
	case Dead:
		query += deadDeliveries
	default:
		query, args = query+" WHERE d.state = ?", append(args, state)
	}
	if upstream != "" {
		query, args = query+" AND d.upstream = ?", append(args, upstream)
	}
	if before > 0 {
		query, args = query+" AND d.number < ?", append(args, before)
	}
	return s.deliveries(ctx, query+" ORDER BY d.number DESC LIMIT ?", append(args, limit)...)
}

// DeliveriesOf returns the deliveries of an event.
func (s *Store) DeliveriesOf(ctx context.Context, event string) ([]DeliveryRecord, error) {
	return s.deliveries(ctx, deliveryColumns+"WHERE d.event = ? ORDER BY d.number", event)
}

// DeliveryByNumber returns a delivery, or ErrNotFound.
func (s *Store) DeliveryByNumber(ctx context.Context, number int64) (DeliveryRecord, error) {
	list, err := s.deliveries(ctx, deliveryColumns+"WHERE d.number = ?", number)
	if err != nil || len(list) == 0 {
		return DeliveryRecord{}, errors.Join(err, ErrNotFound)
	}
	return list[0], nil
}

func (s *Store) deliveries(ctx context.Context, query string, args ...any) ([]DeliveryRecord, error) {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []DeliveryRecord
	for rows.Next() {
		var (
			d                    DeliveryRecord
			dueAt                sql.NullInt64
			createdAt, updatedAt int64
		)
		if err := rows.Scan(&d.Number, &d.Event, &d.Type, &d.Account, &d.Upstream, &d.Subject, &d.State, &d.Tries, &dueAt,
			&d.LastStatus, &d.LastError, &createdAt, &updatedAt); err != nil {
			return nil, err
		}
		if dueAt.Valid {
			d.DueAt = at(dueAt.Int64)
		}
		d.CreatedAt, d.UpdatedAt = at(createdAt), at(updatedAt)
		list = append(list, d)
	}
	return list, rows.Err()
}

// A Queue is what waits for one upstream and what was given up.
type Queue struct {
	Account, Upstream string
	Pending           int64
	Dead              int64
	Oldest            time.Time // of the pending deliveries; zero without any
}

// Queues counts the deliveries of every upstream that has any pending or dead.
func (s *Store) Queues(ctx context.Context) ([]Queue, error) {
	queues := make(map[[2]string]*Queue)
	of := func(account, upstream string) *Queue {
		k := [2]string{account, upstream}
		if queues[k] == nil {
			queues[k] = &Queue{Account: account, Upstream: upstream}
		}
		return queues[k]
	}
	read := func(query string, take func(q *Queue, n int64, oldest int64)) error {
		rows, err := s.query(ctx, query)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var (
				account, upstream string
				n, oldest         int64
			)
			if err := rows.Scan(&account, &upstream, &n, &oldest); err != nil {
				return err
			}
			take(of(account, upstream), n, oldest)
		}
		return rows.Err()
	}
	if err := read(countPending, func(q *Queue, n, oldest int64) { q.Pending, q.Oldest = n, at(oldest) }); err != nil {
		return nil, err
	}
	if err := read(countDead, func(q *Queue, n, _ int64) { q.Dead = n }); err != nil {
		return nil, err
	}
	list := make([]Queue, 0, len(queues))
	for _, q := range queues {
		list = append(list, *q)
	}
	slices.SortFunc(list, func(p, q Queue) int {
		return slices.Compare([]string{p.Account, p.Upstream}, []string{q.Account, q.Upstream})
	})
	return list, nil
}

// A Count is how many bills of an account are in a status.
type Count struct {
	Account string
	Status  bill.Status
	Bills   int64
}

// CountBills counts the bills that were opened, by status.
func (s *Store) CountBills(ctx context.Context) ([]Count, error) {
	rows, err := s.query(ctx, countBills)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Count
	for rows.Next() {
		var c Count
		if err := rows.Scan(&c.Account, &c.Status, &c.Bills); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// CountUnresolved counts the callbacks that are still to be resolved, by state.
func (s *Store) CountUnresolved(ctx context.Context) (map[string]int64, error) {
	rows, err := s.query(ctx, countUnresolved)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := make(map[string]int64)
	for rows.Next() {
		var (
			state string
			n     int64
		)
		if err := rows.Scan(&state, &n); err != nil {
			return nil, err
		}
		counts[state] = n
	}
	return counts, rows.Err()
}
