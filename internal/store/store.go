// Package store keeps bills, callbacks, events and deliveries in an SQL database.
// It is where receiving, resolving and forwarding meet: each of them can stop at
// any moment and go on from what is here.
package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
)

var (
	//go:embed schema_1.sql
	schema1 string
	//go:embed schema_2.sql
	schema2 string
	//go:embed schema_3.sql
	schema3 string
	//go:embed schema_4.sql
	schema4 string
)

// migrations bring a database from one version to the next.
var migrations = []string{schema1, schema2, schema3, schema4}

// ErrClosed is returned for everything asked of a closed store.
var ErrClosed = errors.New("the store is closed")

// A Store is an open database. Its methods may be used by several goroutines.
type Store struct {
	reader *sql.DB
	writer *sql.DB
	conn   *sql.Conn // the only connection that writes

	urgent     chan *op
	background chan *op
	closing    chan struct{}
	done       chan struct{}
	once       sync.Once
	closed     error // what Close has returned

	statements map[string]*sql.Stmt // of conn, used by the writing goroutine alone

	// Inbox has a signal after callbacks were committed, Outbox after deliveries.
	Inbox  chan struct{}
	Outbox chan struct{}

	watchers watchers
	observer Observer

	// release lets other processes in, once the database is closed.
	release func() error
}

// An Observer is told what happens in a store. Its functions are called by the
// goroutine that writes, after the commit, and must not wait for anything.
type Observer struct {
	// Committed is told how long a commit took, with the operations in it.
	Committed func(took time.Duration)
	// Changed is told that a bill has come into a status.
	Changed func(account string, status bill.Status)
	// Told is given each new event.
	Told func(Event)
}

// Observe sets who is told. It must be called before anything is written.
func (s *Store) Observe(o Observer) { s.observer = o }

// start brings the schema up to date and starts the writing goroutine.
func start(ctx context.Context, reader, writer *sql.DB) (*Store, error) {
	conn, err := writer.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	s := &Store{
		reader:     reader,
		writer:     writer,
		conn:       conn,
		urgent:     make(chan *op, maxGroup),
		background: make(chan *op, maxGroup),
		closing:    make(chan struct{}),
		done:       make(chan struct{}),
		statements: make(map[string]*sql.Stmt),
		Inbox:      make(chan struct{}, 1),
		Outbox:     make(chan struct{}, 1),
		watchers:   watchers{of: make(map[string]map[*Watcher]struct{})},
	}
	go s.writeLoop()
	return s, nil
}

// migrate applies what the database has not seen yet, each version in one
// transaction. A database of a newer version is left alone.
func migrate(ctx context.Context, conn *sql.Conn) error {
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("schema version %d is newer than this build knows (%d); use the newer build", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		script := "BEGIN IMMEDIATE;\n" + migrations[version] + fmt.Sprintf("\nPRAGMA user_version = %d;\nCOMMIT;", version+1)
		if _, err := conn.ExecContext(ctx, script); err != nil {
			_, _ = conn.ExecContext(ctx, "ROLLBACK")
			return fmt.Errorf("bringing the schema to version %d: %w", version+1, err)
		}
	}
	return nil
}

// Close commits what was accepted and closes the database.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		<-s.done
		for _, st := range s.statements {
			_ = st.Close()
		}
		s.closed = errors.Join(s.conn.Close(), s.writer.Close(), s.reader.Close())
		if s.release != nil {
			s.closed = errors.Join(s.closed, s.release())
		}
	})
	return s.closed
}

// query reads beside the writer.
func (s *Store) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
		return s.reader.QueryContext(ctx, query, args...)
	}
}

func (s *Store) queryRow(ctx context.Context, query string, args ...any) *row {
	select {
	case <-s.closing:
		return &row{err: ErrClosed}
	default:
		return &row{Row: s.reader.QueryRowContext(ctx, query, args...)}
	}
}

func ms(t time.Time) int64  { return t.UnixMilli() }
func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
