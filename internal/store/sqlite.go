package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// ErrInUse is returned while another process has the store open.
var ErrInUse = errors.New("another process uses the store")

// OpenSQLite opens or creates a database file. Commits are synced to disk before
// they are reported; the file may be read by others meanwhile, but only one
// process may work on it.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking the store: %w", err)
	}
	if !locked {
		return nil, ErrInUse
	}
	s, err := openSQLite(ctx, path)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	s.release = lock.Unlock
	return s, nil
}

// openSQLite opens the file twice: once to write, through one connection, and
// once to read, through a few.
func openSQLite(ctx context.Context, path string) (*Store, error) {
	// The file holds what buyers bought. SQLite gives its side files the mode of
	// the file itself.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// A log of up to 32 MiB before it is carried over: pages of indexes change with
	// every callback and are written back once for many of them.
	writer, err := sql.Open("sqlite", dsn(path, "page_size(8192)", "journal_mode(WAL)", "wal_autocheckpoint(4000)", "synchronous(FULL)", "foreign_keys(1)", "busy_timeout(10000)"))
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	reader, err := sql.Open("sqlite", dsn(path, "query_only(1)", "busy_timeout(10000)"))
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	reader.SetMaxOpenConns(4)
	reader.SetMaxIdleConns(4)
	s, err := start(ctx, reader, writer)
	if err != nil {
		return nil, errors.Join(err, writer.Close(), reader.Close())
	}
	return s, nil
}

func dsn(path string, pragmas ...string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{"_pragma": pragmas}.Encode()
}
