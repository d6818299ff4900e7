package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// maxGroup bounds how many operations share one commit.
	maxGroup = 256
	// busyFor is how long after an urgent operation more of them are expected.
	busyFor = 10 * time.Millisecond
	// backgroundShare is the part of its time, one in so many, that the writer gives
	// to background operations while urgent ones keep coming.
	backgroundShare = 50
)

// Unwell reports whether an error is that of the store as a whole, of a disk that is
// full or broken for example, and not of what was asked of it. The same may succeed
// later, and whatever else is asked fails meanwhile.
func Unwell(err error) bool {
	e := new(sqlite.Error)
	if !errors.As(err, &e) {
		return errors.Is(err, ErrClosed)
	}
	switch e.Code() & 0xff { // without the details
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return false
}

// A Tx is a write transaction. It is only valid inside the function it is given to.
type Tx struct {
	s     *Store
	ctx   context.Context
	after []func()
}

// op is one operation that waits for its commit.
type op struct {
	do         func(*Tx) error
	one        bool // a single statement, which undoes itself when it fails
	background bool
	done       chan error
}

// Write runs a function in a write transaction and returns after its commit has
// reached the disk. Functions that wait at the same time share one commit; each is
// undone alone if it returns an error. A function must not wait for anything.
func (s *Store) Write(ctx context.Context, do func(*Tx) error) error {
	return s.submit(ctx, &op{do: do, done: make(chan error, 1)})
}

// WriteInBackground is like Write for work that nobody waits for, like resolving
// and forwarding. While somebody does wait, for a callback's answer or a bill, it
// gets a share of the writer's time, so that it is slower but never stands still.
func (s *Store) WriteInBackground(ctx context.Context, do func(*Tx) error) error {
	return s.submit(ctx, &op{do: do, background: true, done: make(chan error, 1)})
}

// submit queues an operation and waits for its outcome. Once queued it may be
// committed, so a cancelled caller still waits: an answer that says nothing was
// stored must be true.
func (s *Store) submit(ctx context.Context, o *op) error {
	select {
	case <-s.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	default:
	}
	queue := s.urgent
	if o.background {
		queue = s.background
	}
	select {
	case queue <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return ErrClosed
	}
	select {
	case err := <-o.done:
		return err
	case <-s.done:
		select {
		case err := <-o.done:
			return err
		default:
			return ErrClosed
		}
	}
}

// writeLoop takes the first operation that waits and whatever has come meanwhile.
// An urgent operation that comes alone is not kept waiting for others.
func (s *Store) writeLoop() {
	defer close(s.done)
	var (
		group      = make([]*op, 0, maxGroup)
		lastUrgent time.Time // when an urgent operation was last seen
		rested     time.Time // when background operations have their turn again
	)
	for {
		group = group[:0]
		background := s.background
		now := time.Now()
		var turn <-chan time.Time
		if wait := rested.Sub(now); wait > 0 && now.Sub(lastUrgent) < busyFor {
			background, turn = nil, time.After(min(wait, busyFor))
		}
		select {
		case o := <-s.urgent:
			group = append(group, o)
		case o := <-background:
			group = append(group, o)
		case <-turn:
			continue
		case <-s.closing:
			select {
			case o := <-s.urgent:
				group = append(group, o)
			case o := <-s.background:
				group = append(group, o)
			default:
				return
			}
		}
		// Those who are about to come are let through first. This waits for nobody:
		// where no other goroutine can run it returns at once.
		for grown := 0; grown < len(group); {
			grown = len(group)
			runtime.Gosched()
			group = fill(group, s.urgent)
		}
		group = fill(group, background)

		start, hadBackground := time.Now(), false
		for _, o := range group {
			if o.background {
				hadBackground = true
			} else {
				lastUrgent = start
			}
		}
		s.commit(group)
		if hadBackground {
			end := time.Now()
			rested = end.Add((backgroundShare - 1) * end.Sub(start))
		}
	}
}

// fill adds what waits in a queue to a group.
func fill(group []*op, queue <-chan *op) []*op {
	for len(group) < maxGroup {
		select {
		case o := <-queue:
			group = append(group, o)
		default:
			return group
		}
	}
	return group
}

// commit runs a group of operations in one transaction and tells each its outcome.
func (s *Store) commit(group []*op) {
	began := time.Now()
	outcome := make([]error, len(group))
	tx := &Tx{s: s, ctx: context.Background()}
	if err := tx.runAll(group, outcome); err != nil {
		// After some errors, a full disk among them, SQLite has rolled back by itself
		// and this finds no transaction.
		_ = tx.exec("ROLLBACK")
		for _, o := range group {
			o.done <- err
		}
		return
	}
	if committed := s.observer.Committed; committed != nil {
		committed(time.Since(began))
	}
	for _, f := range tx.after {
		f()
	}
	for i, o := range group {
		o.done <- outcome[i]
	}
}

// runAll runs the operations and commits. Its error is that of the transaction: then
// nothing of the group is there.
func (tx *Tx) runAll(group []*op, outcome []error) error {
	if err := tx.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("beginning: %w", err)
	}
	for i, o := range group {
		var lost bool
		if lost, outcome[i] = tx.run(o, len(group) > 1); lost {
			return outcome[i]
		}
	}
	if err := tx.exec("COMMIT"); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// run runs one operation. In company it gets a savepoint, so that its failure does
// not undo the others. Lost means that the whole transaction cannot go on.
func (tx *Tx) run(o *op, company bool) (lost bool, err error) {
	after := len(tx.after)
	savepoint := company && !o.one
	if savepoint {
		if err := tx.exec("SAVEPOINT op"); err != nil {
			return true, err
		}
	}
	if err = tx.guard(o.do); err == nil && savepoint {
		err = tx.exec("RELEASE op")
	}
	if err == nil {
		return false, nil
	}
	tx.after = tx.after[:after]
	if !savepoint {
		return true, err
	}
	if undo := errors.Join(tx.exec("ROLLBACK TO op"), tx.exec("RELEASE op")); undo != nil {
		return true, err
	}
	return false, err
}

// guard turns a panic into an error: the writing goroutine serves everybody.
func (tx *Tx) guard(do func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a store operation: %v\n%s", p, debug.Stack())
		}
	}()
	return do(tx)
}

// then runs f after the commit, if there is one.
func (tx *Tx) then(f func()) { tx.after = append(tx.after, f) }

func (tx *Tx) prepare(query string) (*sql.Stmt, error) {
	if st := tx.s.statements[query]; st != nil {
		return st, nil
	}
	st, err := tx.s.conn.PrepareContext(tx.ctx, query)
	if err == nil {
		tx.s.statements[query] = st
	}
	return st, err
}

func (tx *Tx) exec(query string, args ...any) error {
	_, err := tx.execCount(query, args...)
	return err
}

func (tx *Tx) execCount(query string, args ...any) (int64, error) {
	st, err := tx.prepare(query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(tx.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (tx *Tx) queryRow(query string, args ...any) *row {
	st, err := tx.prepare(query)
	if err != nil {
		return &row{err: err}
	}
	return &row{Row: st.QueryRowContext(tx.ctx, args...)}
}

func (tx *Tx) query(query string, args ...any) (*sql.Rows, error) {
	st, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(tx.ctx, args...)
}

// row is a *sql.Row that may carry the error of preparing.
type row struct {
	*sql.Row
	err error
}

func (r *row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.Row.Scan(dest...)
}
