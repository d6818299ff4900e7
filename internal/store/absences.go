package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// An Absence is the time whose callbacks are still to be asked for, if From is before
// Until.
type Absence struct {
	Account string
	// AliveAt is when this server was last seen alive.
	AliveAt     time.Time
	From, Until time.Time
	// Tries is how often the beginning of it was asked for in vain.
	Tries int
}

// Absence returns what is kept about an account, or ErrNotFound.
func (s *Store) Absence(ctx context.Context, account string) (Absence, error) {
	return loadAbsence(readQueries{ctx, s}, account)
}

// Absence returns what is kept about an account, or ErrNotFound.
func (tx *Tx) Absence(account string) (Absence, error) { return loadAbsence(tx, account) }

func loadAbsence(q queries, account string) (Absence, error) {
	var (
		alive       int64
		from, until sql.NullInt64
		a           = Absence{Account: account}
	)
	err := q.queryRow("SELECT alive_at, from_at, until_at, tries FROM absences WHERE account = ?", account).Scan(&alive, &from, &until, &a.Tries)
	if errors.Is(err, sql.ErrNoRows) {
		return a, ErrNotFound
	}
	a.AliveAt = at(alive)
	if from.Valid && until.Valid {
		a.From, a.Until = at(from.Int64), at(until.Int64)
	}
	return a, err
}

// SaveAbsence stores what is known about an account.
func (tx *Tx) SaveAbsence(a Absence) error {
	var from, until any
	if a.From.Before(a.Until) {
		from, until = ms(a.From), ms(a.Until)
	}
	return tx.exec(`INSERT INTO absences (account, alive_at, from_at, until_at, tries) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account) DO UPDATE SET alive_at = excluded.alive_at, from_at = excluded.from_at, until_at = excluded.until_at, tries = excluded.tries`,
		a.Account, ms(a.AliveAt), from, until, a.Tries)
}

// ForgetAbsence forgets an account whose absences do not matter any more.
func (tx *Tx) ForgetAbsence(account string) error {
	return tx.exec("DELETE FROM absences WHERE account = ?", account)
}

// CountResend notes a request to send callbacks again, before it is made: one whose
// answer nobody waited for counts too.
func (tx *Tx) CountResend(account string, from, until, now time.Time) error {
	return tx.exec("INSERT OR REPLACE INTO resends (account, asked_at, from_at, until_at) VALUES (?, ?, ?, ?)", account, ms(now), ms(from), ms(until))
}

// Resends counts the requests of an account since a time, and says when the last was.
// Older ones are forgotten, as are those of a clock that was ahead.
func (tx *Tx) Resends(account string, since, now time.Time) (n int, last time.Time, err error) {
	if err := tx.exec("DELETE FROM resends WHERE account = ? AND (asked_at <= ? OR asked_at > ?)", account, ms(since), ms(now)); err != nil {
		return 0, last, err
	}
	var newest sql.NullInt64
	err = tx.queryRow("SELECT count(*), max(asked_at) FROM resends WHERE account = ?", account).Scan(&n, &newest)
	if newest.Valid {
		last = at(newest.Int64)
	}
	return n, last, err
}
