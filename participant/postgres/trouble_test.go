// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/participant"
)

// An instance died after it had sent its last message, which the database is still working on: neither a rollback nor a
// refusal may pass by it, for nobody would roll back what comes of it.
func TestPrepareThatIsUnderWay(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	b := branch(transfer{"a", 1})
	zombie, err := pgx.Connect(t.Context(), d.dsn)
	must(t, err)
	defer zombie.Close(context.Background())
	_, err = zombie.Exec(t.Context(), "BEGIN; UPDATE accounts SET balance = 1 WHERE id = 'b'; "+s.sql.markerOf(b))
	must(t, err)
	if err := s.Rollback(t.Context(), b.Tx); err == nil || errors.Is(err, participant.ErrHeuristic) {
		t.Fatalf("a rollback passed by: %v", err)
	}
	s.cfg.Do = func(context.Context, pgx.Tx, *participant.Branch) error { return participant.Refuse(errors.New("no")) }
	refuse(t, s, b, nil, participant.ErrRefused)
	_, err = zombie.Exec(t.Context(), s.sql.prepare(b.Tx))
	must(t, err)
	prepare(t, s, b, participant.Yes)
	must(t, s.Rollback(t.Context(), b.Tx))
	refuse(t, s, b, participant.ErrRefused, nil)
	if n := d.held(); n != 0 {
		t.Fatalf("%d prepared", n)
	}
}

// A database that is restored from an old backup: what it votes for again, and what is told.
func TestRestoredFromABackup(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "assent-test-") //nolint:usetesting // within reach of the user nobody, which t.TempDir is not
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	now, backup := filepath.Join(dir, "now"), filepath.Join(dir, "backup")
	databases.SharedPostgres(t) // or the test is skipped
	server, err := databases.StartPostgres(now)
	must(t, err)
	defer func() { must(t, server.Close()) }()
	d := newBank(t, server)
	s := d.store(nil)
	before := branch(transfer{"a", 10})
	prepare(t, s, before, participant.Yes)
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 5))
	must(t, server.Stop())
	out, err := exec.CommandContext(t.Context(), "cp", "-a", now, backup).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, server.Start())
	inDoubt(t, s, before.Tx)
	must(t, s.Commit(t.Context(), before.Tx))
	after, doubt := branch(transfer{"b", 10}), branch(transfer{"a", 10})
	prepare(t, s, after, participant.Yes)
	must(t, s.Commit(t.Context(), after.Tx))
	prepare(t, s, doubt, participant.Yes)
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 9))
	remembers(t, s, true, before, after, doubt)

	must(t, server.Stop())
	must(t, os.RemoveAll(now))
	must(t, os.Rename(backup, now))
	must(t, server.Start())
	// What was prepared at the backup is in doubt again, and the SDK repeats its vote.
	inDoubt(t, s, before.Tx)
	// The newest that was committed is not there, which the SDK asks for.
	remembers(t, s, true, before)
	remembers(t, s, false, after, doubt)
	// What was prepared since is gone, and its commit is told as heuristic: also one that was applied, if it comes again.
	for _, gone := range []*participant.Branch{doubt, after} {
		if err := s.Commit(t.Context(), gone.Tx); !errors.Is(err, participant.ErrHeuristic) {
			t.Errorf("commit of what is gone: %v", err)
		}
	}
	// The watermark is older than the log: that is what it is after a crash, too.
	if _, sequence, err := s.Watermark(t.Context(), "log-0"); err != nil || sequence != 5 {
		t.Errorf("watermark %d, %v", sequence, err)
	}
	must(t, s.Commit(t.Context(), before.Tx))
	if a, b := d.balance("a"), d.balance("b"); a != 110 || b != 100 {
		t.Errorf("balances %d and %d", a, b)
	}
}

// remembers asks the Store for branches.
func remembers(t *testing.T, s *Store, want bool, branches ...*participant.Branch) {
	t.Helper()
	for _, b := range branches {
		if got, err := s.Remembers(t.Context(), b.Tx); got != want || err != nil {
			t.Errorf("remembers %s: %v, %v; want %v", b.Tx, got, err, want)
		}
	}
}
