// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Commit implements participant.Handler: it calls Confirm for what was tried, once.
func (s *Store) Commit(ctx context.Context, tx messages.ID) error {
	return s.finish(ctx, &ending{tx: tx, commit: true})
}

// Rollback implements participant.Handler: it calls Cancel for what was tried, once, and keeps a later prepare out.
func (s *Store) Rollback(ctx context.Context, tx messages.ID) error {
	return s.finish(ctx, &ending{tx: tx})
}

// ending is the outcome of a transaction.
type ending struct {
	tx     messages.ID
	commit bool
	// overruled is why the application has decided otherwise; "" if it has not.
	overruled string
	// overtaken: another instance has applied the outcome meanwhile.
	overtaken bool
}

// overruledError is an error of Confirm or Cancel that says so.
type overruledError struct{ err error }

func (e *overruledError) Error() string { return e.err.Error() }
func (e *overruledError) Unwrap() error { return e.err }

func (s *Store) finish(ctx context.Context, e *ending) error {
	err := s.settle(ctx, e)
	var overruled *overruledError
	if errors.As(err, &overruled) {
		// What it changed is undone. What it said is kept, so that the branch is over here, too.
		e.overruled = messages.CutReason(err.Error())
		if again := s.settle(ctx, e); again != nil || e.overtaken {
			err = again
		}
	}
	if err != nil && !errors.Is(err, participant.ErrHeuristic) {
		return s.failed(err)
	}
	return err
}

// failed is an error after which the SDK asks again, whatever the application may have marked it as.
func (s *Store) failed(err error) error { return fmt.Errorf("sqlstore: %w", s.told(err)) }

func (s *Store) settle(ctx context.Context, e *ending) error {
	return s.persist(ctx, func() error {
		return s.local(ctx, func(ctx context.Context, tx *sql.Tx) (keep bool, err error) { return s.apply(ctx, tx, e) })
	})
}

// apply is what a local transaction does for an outcome.
func (s *Store) apply(ctx context.Context, tx *sql.Tx, e *ending) (keep bool, err error) {
	r, err := s.look(ctx, tx, e.tx)
	switch {
	case err != nil:
		return false, err
	case r == nil && e.commit:
		return false, s.lost(ctx, tx, e.tx)
	case r == nil:
		return s.keepOut(ctx, tx, e.tx)
	case r.state == heuristic:
		return false, participant.Heuristic(errors.New(r.reason))
	case r.state == cancelled && e.commit:
		return false, participant.Heuristic(fmt.Errorf("sqlstore: transaction %s is committed, and was rolled back here", e.tx))
	case r.state == cancelled || r.state == confirmed:
		e.overtaken = true
		return false, nil // a rollback of what is confirmed comes from who has forgotten that everyone was done
	}
	return true, s.end(ctx, tx, e, r)
}

// end turns what is tried or held into what the outcome says. The keys come first, as they do in Prepare: who locks rows in
// the same order does not meet in a deadlock.
func (s *Store) end(ctx context.Context, tx *sql.Tx, e *ending, r *row) error {
	b, err := s.branch(e.tx, r.record)
	if err != nil {
		return err
	}
	if err := s.releaseKeys(ctx, tx, e.tx, b.Keys()); err != nil {
		return err
	}
	state, do := cancelled, s.cfg.Cancel
	if e.commit {
		state, do = confirmed, s.cfg.Confirm
	}
	if e.overruled != "" {
		state, do = heuristic, nil
	}
	if do != nil && r.state == tried {
		if err := do(ctx, tx, b); errors.Is(err, participant.ErrHeuristic) {
			return &overruledError{err}
		} else if err != nil {
			return err
		}
	}
	now := time.Now()
	forget := latestOf(now.Add(s.cfg.Keep), b.Expires.Add(clocks))
	result, err := tx.ExecContext(ctx, s.say.settle, state, []byte(e.overruled), now.UnixMilli(), forget.UnixMilli(), s.cfg.Name, e.tx.String())
	if err != nil {
		return err
	}
	if rows, err := result.RowsAffected(); err != nil || rows != 1 {
		return errors.Join(err, errRaced)
	}
	return nil
}

// clocks is how long after its expiry, by this machine's clock, a prepare may still come.
const clocks = time.Minute

// keepOut leaves a row that refuses the prepare which this rollback has overtaken. When that expires is not known here, so the
// row stays for Config.Keep. A prepare that comes even later does no harm: its late yes has the rollback sent again.
func (s *Store) keepOut(ctx context.Context, tx *sql.Tx, id messages.ID) (keep bool, err error) {
	now := time.Now()
	result, err := tx.ExecContext(ctx, s.say.refuse, s.cfg.Name, id.String(), now.UnixMilli(), now.Add(s.cfg.Keep).UnixMilli())
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	if err == nil && rows != 1 {
		err = errRaced // its prepare came between
	}
	return true, err
}

// lost judges a commit of a branch that is not here: what is at most as old as what was reaped was finished, and is repeated. Of
// anything younger the row would be here, unless the database has lost it.
func (s *Store) lost(ctx context.Context, tx *sql.Tx, id messages.ID) error {
	reaped, err := s.reapedThrough(ctx, tx, id)
	if err != nil {
		return err
	}
	if reaped {
		s.log(id).Debug("a commit of what was finished long ago, and is forgotten")
		return nil
	}
	return participant.Heuristic(fmt.Errorf("sqlstore: transaction %s is committed, and this participant voted yes, but its database does not know "+
		"of it: was it restored from a backup, or does it not keep what it acknowledged? compare it by hand", id))
}

func latestOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
