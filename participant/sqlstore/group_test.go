// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/assent-tx/assent/participant"
)

// together prepares branches in one transaction, on SQLite: a first one keeps it waiting until they have all come. It gives their
// errors, and the steps that the database has seen.
func together(ctx context.Context, t *testing.T, s *shop, tap *tap, try Func, branches ...*participant.Branch) ([]error, []string) {
	t.Helper()
	first := take("gadget", 1)
	begun, end := make(chan struct{}), make(chan struct{})
	original := s.cfg.Try
	s.cfg.Try = func(ctx context.Context, tx *sql.Tx, b *participant.Branch) error {
		if b.Tx == first.Tx {
			close(begun)
			<-end
		}
		if err := original(ctx, tx, b); err != nil {
			return err
		}
		return try(ctx, tx, b)
	}
	defer func() { s.cfg.Try = original }()
	tap.set(nil)
	var running sync.WaitGroup
	running.Go(func() { s.wantYes(t, first) })
	<-begun
	errs := make([]error, len(branches))
	for i, b := range branches {
		running.Go(func() { _, errs[i] = s.Prepare(ctx, b) })
		waiting := func() int {
			s.group.mu.Lock()
			defer s.group.mu.Unlock()
			return len(s.group.waiting)
		}
		for waiting() <= i && ctx.Err() == nil {
			runtime.Gosched()
		}
	}
	close(end)
	running.Wait()
	return errs, tap.taken()
}

func commits(steps []string) (n int) {
	for _, step := range steps {
		if step == "after COMMIT" {
			n++
		}
	}
	return n
}

func openGroup(t *testing.T) (*shop, *tap) {
	t.Helper()
	dsn := onSQLite.dsn(t)
	makeStock(t, onSQLite.openAt(t, dsn), "widget", "gadget")
	db, tap := onSQLite.openTapped(t, dsn)
	return reopenShop(t, onSQLite, db), tap
}

func nothing(context.Context, *sql.Tx, *participant.Branch) error { return nil }

// Many branches share one commit, and with it one sync.
func TestGroupCommit(t *testing.T) {
	s, tap := openGroup(t)
	exec(t, s.db, `UPDATE stock SET available = 1000`)
	var branches []*participant.Branch
	for range 40 {
		branches = append(branches, take("widget", 1))
	}
	errs, steps := together(t.Context(), t, s, tap, nothing, branches...)
	must(t, errors.Join(errs...))
	if n := commits(steps); n != 2 {
		t.Errorf("%d commits for %d branches and the first, want 2", n, len(branches))
	}
	s.wantStock(t, "widget", 960, 40, 0)
}

// One that is refused, one that panics, one that was there before: each fails alone, and leaves nothing.
func TestFailsAlone(t *testing.T) {
	s, tap := openGroup(t)
	again := take("widget", 1)
	s.wantYes(t, again)
	branches := []*participant.Branch{take("widget", 1), take("widget", 100), take("widget", 2), again, take("widget", 3)}
	errs, steps := together(t.Context(), t, s, tap, func(_ context.Context, _ *sql.Tx, b *participant.Branch) error {
		if b == branches[2] {
			panic("oh no")
		}
		return nil
	}, branches...)
	wantError(t, errs[1], participant.ErrRefused, "100 wanted")
	wantFailure(t, errs[2])
	must(t, errors.Join(errs[0], errs[3], errs[4]))
	if n := commits(steps); n != 2 {
		t.Errorf("%d commits, want 2", n)
	}
	s.wantStock(t, "widget", 5, 5, 0)
}

// A transaction that is broken by one of those who share it is repeated, alone for each.
func TestBrokenTransaction(t *testing.T) {
	s, tap := openGroup(t)
	branches := []*participant.Branch{take("widget", 1), take("widget", 2), take("widget", 3)}
	errs, steps := together(t.Context(), t, s, tap, func(_ context.Context, tx *sql.Tx, b *participant.Branch) error {
		if b == branches[1] {
			return tx.Rollback() // which it must not
		}
		return nil
	}, branches...)
	wantFailure(t, errs[1])
	must(t, errors.Join(errs[0], errs[2]))
	if n := commits(steps); n != 3 {
		t.Errorf("%d commits, want the first's and two", n)
	}
	s.wantStock(t, "widget", 6, 4, 0)
	s.wantState(t, branches[1].Tx, "")
}

// The commit itself fails: nobody is told yes, and everybody gets another chance alone.
func TestCommitFails(t *testing.T) {
	s, tap := openGroup(t)
	failed := false
	branches := []*participant.Branch{take("widget", 1), take("widget", 2)}
	tapped := func(ctx context.Context, tx *sql.Tx, b *participant.Branch) error {
		if b == branches[1] && !failed {
			failed = true
			tap.set(func(step string) error {
				if step == "before COMMIT" {
					tap.set(nil)
					return errors.New("the disk is gone")
				}
				return nil
			})
		}
		return nil
	}
	errs, _ := together(t.Context(), t, s, tap, tapped, branches...)
	must(t, errors.Join(errs...))
	if !failed {
		t.Fatal("nothing has failed")
	}
	s.wantStock(t, "widget", 7, 3, 0)
}

// Who waits for the others does so no longer than its context lasts.
func TestWithdraw(t *testing.T) {
	s, tap := openGroup(t)
	ctx, cancel := context.WithCancel(t.Context())
	first := take("widget", 1)
	begun, end := make(chan struct{}), make(chan struct{})
	s.duringTry = func(context.Context, *sql.Tx) error {
		close(begun)
		<-end
		return nil
	}
	var running sync.WaitGroup
	running.Go(func() { s.wantYes(t, first) })
	<-begun
	cancel()
	late := take("widget", 2)
	_, err := s.Prepare(ctx, late)
	wantError(t, err, context.Canceled, "")
	close(end)
	running.Wait()
	s.duringTry = nil
	s.wantState(t, late.Tx, "")
	// One whose context ends in its turn takes no other with it.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	branches := []*participant.Branch{take("widget", 1), take("widget", 2)}
	errs, _ := together(ctx, t, s, tap, func(_ context.Context, _ *sql.Tx, b *participant.Branch) error {
		if b == branches[0] {
			cancel()
		}
		return nil
	}, branches...)
	for i, b := range branches {
		if (errs[i] == nil) != (s.state(t, b.Tx) == tried) {
			t.Errorf("branch %d: error %v, state %q", i, errs[i], s.state(t, b.Tx))
		}
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) }) {
		t.Errorf("nobody noticed: %v", errs)
	}
}
