// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"time"

	"github.com/assent-tx/assent/internal/panics"
)

// work is what is to be done in a local transaction; keep tells whether it is to be committed. It may be called again after
// its transaction was rolled back.
type work func(ctx context.Context, tx *sql.Tx) (keep bool, err error)

// commitError is an error of COMMIT: nothing was kept if the database says why, and it is not known if it says nothing.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

// local does work in a local transaction. Its errors are the work's, and the database's.
func (s *Store) local(ctx context.Context, do work) error {
	if s.group != nil {
		return s.group.do(ctx, do)
	}
	return transact(ctx, s.db, &sql.TxOptions{Isolation: s.cfg.Isolation}, do)
}

// transact does work in a transaction of its own.
func transact(ctx context.Context, db *sql.DB, options *sql.TxOptions, do work) error {
	tx, err := db.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing, and a transaction that cannot be rolled back is gone
	keep, err := contained(ctx, tx, do)
	if err != nil || !keep {
		return err
	}
	if err := tx.Commit(); err != nil {
		return &commitError{err}
	}
	return nil
}

// contained does work, and makes an error of a panic: others may share the transaction.
func contained(ctx context.Context, tx *sql.Tx, do work) (keep bool, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			keep, err = false, panics.Recovered("sqlstore: Try, Confirm or Cancel", reason)
		}
	}()
	return do(ctx, tx)
}

// The pauses before another attempt when others are in the way, with full jitter: between nothing and a limit that doubles.
const (
	firstPause = 2 * time.Millisecond
	maxPauses  = 64 * time.Millisecond
)

// persist makes attempts until one is not in the way of others, or patience or ctx ends; it gives the last one's error.
func (s *Store) persist(ctx context.Context, attempt func() error) error {
	patience, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	for limit := firstPause; ; limit = min(2*limit, maxPauses) {
		err := attempt()
		if err == nil || s.judge(err) != inTheWay {
			return err
		}
		pause := time.NewTimer(rand.N(limit))
		select {
		case <-pause.C:
		case <-patience.Done():
			pause.Stop()
			return err
		}
	}
}
