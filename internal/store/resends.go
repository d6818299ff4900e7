package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// The states of a resend.
const (
	PlannedResend = "planned"
	AskedResend   = "asked"
	DroppedResend = "dropped"
)

// A Resend is a span of time whose callbacks the gateway is to send again.
type Resend struct {
	Number      int64
	Account     string
	From, Until time.Time
	State       string
	Tries       int
	Problem     string // of the last try
}

// Heartbeat notes that this server is alive, and returns when that was noted last; the
// zero time is never.
func (tx *Tx) Heartbeat(account string, now time.Time) (last time.Time, err error) {
	var before int64
	err = tx.queryRow("SELECT at FROM heartbeats WHERE account = ?", account).Scan(&before)
	switch {
	case err == nil:
		last = at(before)
	case !errors.Is(err, sql.ErrNoRows):
		return last, err
	}
	return last, tx.exec("INSERT INTO heartbeats (account, at) VALUES (?1, ?2) ON CONFLICT (account) DO UPDATE SET at = ?2", account, ms(now))
}

// PlanResend plans to have the callbacks of a span sent again.
func (tx *Tx) PlanResend(account string, from, until time.Time) error {
	return tx.exec("INSERT INTO resends (account, from_at, until_at, state) VALUES (?, ?, ?, 'planned')", account, ms(from), ms(until))
}

// NextResend returns the span to ask about next, or ErrNotFound.
func (s *Store) NextResend(ctx context.Context, account string) (Resend, error) {
	list, err := s.resends(ctx, "WHERE state = 'planned' AND account = ? ORDER BY number LIMIT 1", account)
	if err != nil || len(list) == 0 {
		return Resend{}, errors.Join(err, ErrNotFound)
	}
	return list[0], nil
}

// ResendsSince counts how often an account has asked since a time, and says when it
// did so last.
func (s *Store) ResendsSince(ctx context.Context, account string, since time.Time) (n int, last time.Time, err error) {
	var newest sql.NullInt64
	err = s.queryRow(ctx, "SELECT coalesce(sum(tries), 0), max(tried_at) FROM resends WHERE account = ? AND tried_at > ?", account, ms(since)).Scan(&n, &newest)
	if newest.Valid {
		last = at(newest.Int64)
	}
	return n, last, err
}

// RecordResend notes that the gateway was asked about a span, and what follows.
func (s *Store) RecordResend(ctx context.Context, number int64, state, problem string, now time.Time) error {
	return s.WriteInBackground(ctx, func(tx *Tx) error {
		return tx.exec("UPDATE resends SET state = ?, problem = ?, tries = tries + 1, tried_at = ? WHERE number = ?", state, problem, ms(now), number)
	})
}

// Resends returns what was planned and asked of late, the oldest first.
func (s *Store) Resends(ctx context.Context) ([]Resend, error) {
	return s.resends(ctx, "ORDER BY number")
}

func (s *Store) resends(ctx context.Context, where string, args ...any) ([]Resend, error) {
	rows, err := s.query(ctx, "SELECT number, account, from_at, until_at, state, tries, problem FROM resends "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Resend
	for rows.Next() {
		var (
			r           Resend
			from, until int64
		)
		if err := rows.Scan(&r.Number, &r.Account, &from, &until, &r.State, &r.Tries, &r.Problem); err != nil {
			return nil, err
		}
		r.From, r.Until = at(from), at(until)
		list = append(list, r)
	}
	return list, rows.Err()
}

// ForgetResends removes the spans that are over and older than a time.
func (tx *Tx) ForgetResends(account string, before time.Time) error {
	return tx.exec("DELETE FROM resends WHERE account = ? AND state <> 'planned' AND tried_at < ?", account, ms(before))
}
