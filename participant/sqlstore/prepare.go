// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/locks/fence"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// errRaced: another instance did something for the same branch just now. It is settled by looking again.
var errRaced = errors.New("another instance is at work on the same branch")

// errCancelled is why a prepare is refused that comes after its rollback.
var errCancelled = errors.New("the transaction was rolled back here before it was prepared, or since")

// withinError is an error that came when the barrier row was had: no other instance holds the branch, nor can it before this
// local transaction is rolled back. So it can be a no.
type withinError struct{ err error }

func (e *withinError) Error() string { return e.err.Error() }
func (e *withinError) Unwrap() error { return e.err }

func within(err error) error {
	if err == nil {
		return nil
	}
	return &withinError{err}
}

// Prepare implements participant.Handler: it calls Try, and keeps the branch in the same local transaction.
func (s *Store) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	record := s.record(b)
	var vote participant.Vote
	err := s.persist(ctx, func() error {
		return s.local(ctx, func(ctx context.Context, tx *sql.Tx) (keep bool, err error) {
			vote, keep, err = s.prepare(ctx, tx, b, record)
			return keep, err
		})
	})
	if err != nil {
		return 0, s.answer(err)
	}
	return vote, nil
}

// answer makes of an error what the SDK understands.
func (s *Store) answer(err error) error {
	var (
		inside *withinError
		commit *commitError
	)
	sure := errors.As(err, &inside) || errors.As(err, &commit)
	switch verdict := s.judge(err); {
	case verdict == decided:
		return err
	case verdict == wrong && sure:
		return participant.Refuse(s.told(err))
	case verdict == inTheWay && sure:
		return participant.Conflict(s.told(err))
	}
	return fmt.Errorf("sqlstore: %w", s.told(err))
}

// prepare is what a local transaction does for a branch.
func (s *Store) prepare(ctx context.Context, tx *sql.Tx, b *participant.Branch, record []byte) (vote participant.Vote, keep bool, err error) {
	first, err := s.raise(ctx, tx, b.Tx, record)
	if err != nil {
		return 0, false, err
	}
	if !first {
		return s.again(ctx, tx, b.Tx)
	}
	if keys := b.Keys(); len(keys) > 0 {
		if err := s.takeKeys(ctx, tx, b.Tx, keys); err != nil {
			return 0, false, within(err)
		}
	}
	if err := s.fence(ctx, tx, b.Locks); err != nil {
		return 0, false, within(err)
	}
	err = s.cfg.Try(ctx, tx, b)
	if !errors.Is(err, ErrNothing) {
		return participant.Yes, err == nil, within(err)
	}
	if !b.Isolated() {
		return participant.ReadOnly, false, nil
	}
	_, err = tx.ExecContext(ctx, s.say.hold, s.cfg.Name, b.Tx.String())
	return participant.Yes, err == nil, within(err)
}

// raise puts the barrier row, and tells whether it did: if not, something was done for the branch before.
func (s *Store) raise(ctx context.Context, tx *sql.Tx, id messages.ID, record []byte) (first bool, err error) {
	args := []any{s.cfg.Name, id.String(), record, time.Now().UnixMilli()}
	if s.cfg.Dialect == Postgres {
		patience := strconv.FormatInt(max(1, s.cfg.Patience.Milliseconds()), 10) + "ms"
		args = append([]any{patience}, args...)
	}
	result, err := tx.ExecContext(ctx, s.say.barrier, args...)
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	return rows == 1, err
}

// again is the answer to a prepare that comes again.
func (s *Store) again(ctx context.Context, tx *sql.Tx, id messages.ID) (participant.Vote, bool, error) {
	r, err := s.look(ctx, tx, id)
	switch {
	case err != nil:
		return 0, false, err
	case r == nil:
		return 0, false, errRaced // it was reaped this moment
	case r.state == cancelled:
		return 0, false, participant.Refuse(errCancelled)
	}
	return participant.Yes, false, nil
}

// fence refuses a client whose locks have passed to another.
func (s *Store) fence(ctx context.Context, tx *sql.Tx, held []messages.Lock) error {
	for _, lock := range held {
		token, err := locks.ParseToken(lock.Token)
		if err != nil {
			return participant.Refuse(err)
		}
		err = s.fences.Check(ctx, tx, lock.Key, token)
		switch {
		case errors.Is(err, fence.ErrStale):
			return participant.Conflict(err)
		case errors.Is(err, fence.ErrInvalid):
			return participant.Refuse(err)
		case err != nil:
			return err
		}
	}
	return nil
}
