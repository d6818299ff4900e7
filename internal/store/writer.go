package store

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
)

// maxGroup bounds how many operations share one commit.
const maxGroup = 256

// A Tx is a write transaction. It is only valid inside the function it is given to.
type Tx struct {
	s     *Store
	ctx   context.Context
	after []func()
}

// op is one operation that waits for its commit.
type op struct {
	do   func(*Tx) error
	one  bool // a single statement, which undoes itself when it fails
	done chan error
}

// Write runs a function in a write transaction and returns after its commit has
// reached the disk. Functions that wait at the same time share one commit; each is
// undone alone if it returns an error. A function must not wait for anything.
func (s *Store) Write(ctx context.Context, do func(*Tx) error) error {
	return s.submit(ctx, &op{do: do, done: make(chan error, 1)})
}

// submit queues an operation and waits for its outcome. Once queued it may be
// committed, so a cancelled caller still waits: an answer that says nothing was
// stored must be true.
func (s *Store) submit(ctx context.Context, o *op) error {
	select {
	case <-s.closing:
		return ErrClosed
	default:
	}
	select {
	case s.ops <- o:
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
// An operation that comes alone is not kept waiting for others.
func (s *Store) writeLoop() {
	defer close(s.done)
	group := make([]*op, 0, maxGroup)
	for {
		group = group[:0]
		select {
		case o := <-s.ops:
			group = append(group, o)
		case <-s.closing:
			select {
			case o := <-s.ops:
				group = append(group, o)
			default:
				return
			}
		}
	more:
		for len(group) < maxGroup {
			select {
			case o := <-s.ops:
				group = append(group, o)
			default:
				break more
			}
		}
		s.commit(group)
	}
}

// commit runs a group of operations in one transaction and tells each its outcome.
func (s *Store) commit(group []*op) {
	ctx := context.Background()
	outcome := make([]error, len(group))
	tx := &Tx{s: s, ctx: ctx}
	err := tx.exec("BEGIN IMMEDIATE")
	if err == nil {
		for i, o := range group {
			outcome[i] = tx.run(o, len(group) > 1)
		}
		if err = tx.exec("COMMIT"); err != nil {
			// After some errors, a full disk among them, SQLite has rolled back by
			// itself and this finds no transaction.
			_ = tx.exec("ROLLBACK")
		}
	}
	if err != nil {
		// What the operations meant to announce is lost with them, but some of it
		// may have reached the disk all the same: have everybody look again.
		signal(s.Inbox)
		signal(s.Outbox)
		for _, o := range group {
			o.done <- fmt.Errorf("committing: %w", err)
		}
		return
	}
	for _, f := range tx.after {
		f()
	}
	for i, o := range group {
		o.done <- outcome[i]
	}
}

// run runs one operation. In company it gets a savepoint, so that its failure does
// not undo the others.
func (tx *Tx) run(o *op, company bool) (err error) {
	after := len(tx.after)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a store operation: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			tx.after = tx.after[:after]
			switch {
			case o.one:
			case company:
				_ = tx.exec("ROLLBACK TO op")
				_ = tx.exec("RELEASE op")
			default:
				// Alone, the whole transaction is undone and an empty one is committed.
				_ = tx.exec("ROLLBACK")
				_ = tx.exec("BEGIN")
			}
		} else if company && !o.one {
			err = tx.exec("RELEASE op")
		}
	}()
	if company && !o.one {
		if err := tx.exec("SAVEPOINT op"); err != nil {
			return err
		}
	}
	return o.do(tx)
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
