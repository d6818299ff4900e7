package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// noon is when everything in these tests happens.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// open opens a fresh store in a directory of the test's own.
func open(t *testing.T) (s *Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ccpayment.db")
	return openAt(t, path), path
}

func openAt(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// column reads one column of what a query finds.
func column[T any](t *testing.T, s *Store, query string, args ...any) []T {
	t.Helper()
	rows, err := s.reader.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// commits counts the transactions in the write-ahead log: the last frame of each
// has the size of the database in its header, the others have zero there. The log
// must be short enough not to have been begun anew.
// Source: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
func commits(t *testing.T, path string) int {
	t.Helper()
	const logHeader, frameHeader = 32, 24
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if len(log) < logHeader {
		return 0
	}
	frame := frameHeader + int(binary.BigEndian.Uint32(log[8:]))
	salts, n := log[16:24], 0
	for f := range slices.Chunk(log[logHeader:], frame) {
		if len(f) == frame && slices.Equal(f[8:16], salts) && binary.BigEndian.Uint32(f[4:]) != 0 {
			n++
		}
	}
	return n
}

// outside runs statements as another program would, on a closed store.
func outside(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAFreshStoreHasTheSchemaAndAReopenedOneKeepsWhatItHas(t *testing.T) {
	s, path := open(t)
	if added, err := s.AddCallback(t.Context(), callback("1")); !added || err != nil {
		t.Fatal(added, err)
	}
	closeStore(t, s)

	s = openAt(t, path)
	if got := column[int](t, s, "PRAGMA user_version"); got[0] != len(migrations) {
		t.Errorf("schema version is %d, want %d", got[0], len(migrations))
	}
	want := []string{"absences", "bills", "callbacks", "deliveries", "events", "payments", "resends"}
	if got := column[string](t, s, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"); !slices.Equal(got, want) {
		t.Errorf("tables are %q, want %q", got, want)
	}
	if got := column[string](t, s, "SELECT record_id FROM callbacks"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("callbacks are %q", got)
	}
}

func TestAStoreOfANewerVersionIsRefusedAndLeftAlone(t *testing.T) {
	s, path := open(t)
	closeStore(t, s)
	outside(t, path, "PRAGMA user_version = 99")

	for range 2 { // a refusal does not keep the store locked
		_, err := OpenSQLite(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), "schema version 99 is newer than this build knows") {
			t.Fatalf("opening it: %v", err)
		}
	}
	outside(t, path, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)))
	openAt(t, path)
}

// A shop that updates keeps what it has.
func TestAStoreOfTheFirstVersionIsBroughtUpToDate(t *testing.T) {
	all := migrations
	t.Cleanup(func() { migrations = all })
	migrations = all[:1]
	s, path := open(t)
	closeStore(t, s)
	outside(t, path, `INSERT INTO callbacks (account, kind, record_id, status, state, due_at, signed_at, received_at, body)
		VALUES ('default', 'order', 'r1', 'success', 'received', 1, 1, 1, '{}'), ('default', 'order', 'r2', 'success', 'received', 1, 1, 1, '{}')`)
	for _, b := range [][2]string{{"v1", "0912e09a-d8e2-41d7-a0bc-a25530892988"}, {"v2", "1280 TRX"}, {"hosted", ""}} {
		outside(t, path, fmt.Sprintf(`INSERT INTO bills (reference, token, account, stage, idempotency_key, request_hash, order_id, items, note, price, currency,
			hosted, payment_url, method, token_id, crypto, network, chain, contract, address, memo, due, accept_short, status, confirming, paid, seq, created_at, expires_at, updated_at)
			VALUES ('%[1]s', '%[1]s', 'default', 'open', '%[1]s', '', '', '[]', '', '50', 'USD', 0, '', '', '%[2]s', 'USDT', '', 'TRX', '', '', '', '50', '0', 'awaiting_payment', 0, '0', 1, 1, 1, 1)`, b[0], b[1]))
	}
	migrations = all

	s = openAt(t, path)
	for reference, coin := range map[string]int64{"v1": 0, "v2": 1280, "hosted": 0} {
		if b, err := s.BillByReference(t.Context(), reference); err != nil || b.Pays.CoinID != coin {
			t.Errorf("bill %s is in coin %v (%v)", reference, b, err)
		}
	}
	list, err := s.Unresolved(t.Context(), Received, noon, 10)
	if err != nil || len(list) != 2 || list[0].RecordID != "r1" || list[0].Trace != "" {
		t.Errorf("callbacks are %v (%v)", list, err)
	}
	write(t, s, func(tx *Tx) error { return tx.AskAboutCallback(1, noon) })
	if got := column[string](t, s, "SELECT record_id || ' ' || state FROM callbacks ORDER BY number"); !slices.Equal(got, []string{"r1 asking", "r2 received"}) {
		t.Errorf("callbacks are %q", got)
	}
	if got := column[int](t, s, "PRAGMA user_version"); got[0] != len(all) {
		t.Errorf("schema version is %d, want %d", got[0], len(all))
	}
}

func TestWhatIsNotADatabaseIsRefusedAndLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	text := strings.Repeat("These are notes and no database. ", 100)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSQLite(t.Context(), path); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("opening it: %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("the file was changed (%v)", err)
	}
}

func TestAMigrationThatFailsLeavesTheOldVersion(t *testing.T) {
	s, path := open(t)
	closeStore(t, s)
	old := migrations
	t.Cleanup(func() { migrations = old })
	migrations = append(slices.Clone(old), "CREATE TABLE refunds (number INTEGER PRIMARY KEY); INSERT INTO nowhere VALUES (1);")

	if _, err := OpenSQLite(t.Context(), path); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("bringing the schema to version %d", len(old)+1)) {
		t.Fatalf("opening it: %v", err)
	}
	migrations = old
	s = openAt(t, path)
	if got := column[string](t, s, "SELECT name FROM sqlite_schema WHERE name = 'refunds'"); len(got) != 0 {
		t.Error("half of the migration is there")
	}
}

func TestOnlyTheOwnerMayReadTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "directory", "ccpayment.db")
	s := openAt(t, path)
	if _, err := s.AddCallback(t.Context(), callback("1")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, path + ".lock": 0o600,
		filepath.Dir(path): 0o700,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", filepath.Base(name), got, want)
		}
	}
}

func TestOnlyOneAtATimeMayOpenTheStore(t *testing.T) {
	s, path := open(t)
	if _, err := OpenSQLite(t.Context(), path); !errors.Is(err, ErrInUse) {
		t.Fatalf("opening it a second time: %v", err)
	}
	// The refused attempt has not loosened the first one's hold.
	if _, err := OpenSQLite(t.Context(), path); !errors.Is(err, ErrInUse) {
		t.Fatalf("opening it a third time: %v", err)
	}
	closeStore(t, s)
	openAt(t, path)
}

func TestAPathMayHaveAnyCharacter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a shop?mode=memory#50%41é", "ccpayment & co.db")
	s := openAt(t, path)
	if _, err := s.AddCallback(t.Context(), callback("1")); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if got := column[int](t, openAt(t, path), "SELECT count(*) FROM callbacks"); got[0] != 1 {
		t.Error("what was stored is not in the file of that name")
	}
}

func TestEveryCommitIsSyncedToDisk(t *testing.T) {
	s, _ := open(t)
	settings := make(map[string]string)
	err := s.Write(t.Context(), func(tx *Tx) error {
		for _, pragma := range []string{"journal_mode", "synchronous", "foreign_keys"} {
			var value string
			if err := tx.queryRow("PRAGMA " + pragma).Scan(&value); err != nil {
				return err
			}
			settings[pragma] = value
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const full = "2"
	if settings["journal_mode"] != "wal" || settings["synchronous"] != full || settings["foreign_keys"] != "1" {
		t.Errorf("settings are %v", settings)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	s, _ := open(t)
	if _, err := s.reader.ExecContext(t.Context(), "DELETE FROM callbacks"); err == nil {
		t.Error("a reader deleted callbacks")
	}
}

func TestAfterCloseEverythingReturnsErrClosed(t *testing.T) {
	s, _ := open(t)
	closeStore(t, s)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Write":         func() error { return s.Write(ctx, func(*Tx) error { return nil }) },
		"AddCallback":   func() error { _, err := s.AddCallback(ctx, callback("1")); return err },
		"Reserve":       func() error { _, err := s.Reserve(ctx, reservation("1"), 10, noon); return err },
		"PutBill":       func() error { r := reservation("1"); return s.PutBill(ctx, &r, noon) },
		"RecordTry":     func() error { return s.RecordTry(ctx, Try{Delivery: 1, State: Delivered}, noon) },
		"RetryDelivery": func() error { return s.RetryDelivery(ctx, 1, "", noon) },
		"BillByToken":   func() error { _, err := s.BillByToken(ctx, "default", "token"); return err },
		"BillByKey":     func() error { _, err := s.BillByKey(ctx, "default", "key"); return err },
		"Unresolved":    func() error { _, err := s.Unresolved(ctx, Received, noon, 10); return err },
		"NextExpiry":    func() error { _, _, err := s.NextExpiry(ctx, "default"); return err },
		"ExpiredBills":  func() error { _, err := s.ExpiredBills(ctx, "default", noon, 10); return err },
		"DueDeliveries": func() error {
			_, err := s.DueDeliveries(ctx, "default", "shop", noon, 10)
			return err
		},
		"NextUnresolved": func() error { _, _, err := s.NextUnresolved(ctx, Received); return err },
		"NextDelivery":   func() error { _, _, err := s.NextDelivery(ctx, "default", "shop", noon); return err },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClosingTwiceIsHarmless(t *testing.T) {
	s, path := open(t)
	closeStore(t, s)
	next := openAt(t, path)
	if err := s.Close(); err != nil {
		t.Errorf("closing it again: %v", err)
	}
	// The second Close has not taken the lock from whoever came after the first.
	if _, err := OpenSQLite(t.Context(), path); !errors.Is(err, ErrInUse) {
		t.Errorf("opening what %p has open: %v", next, err)
	}
}

// callback is one of the inbox, told from others by its record.
func callback(record string) Callback {
	return Callback{
		Account:    "default",
		Kind:       "order",
		RecordID:   record,
		Status:     "success",
		State:      Received,
		SignedAt:   noon.Add(-time.Second),
		ReceivedAt: noon,
		Body:       []byte(`{"record_id":"` + record + `"}`),
	}
}

// write runs an operation that must succeed.
func write(t *testing.T, s *Store, do func(*Tx) error) {
	t.Helper()
	if err := s.Write(context.WithoutCancel(t.Context()), do); err != nil {
		t.Fatal(err)
	}
}
