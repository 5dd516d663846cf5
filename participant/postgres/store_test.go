// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// A branch is not to be seen before its outcome, and both outcomes may come again.
func TestPrepareCommitRollback(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	committed, undone := branch(transfer{"a", -30}), branch(transfer{"b", 5})
	prepare(t, s, committed, participant.Yes)
	prepare(t, s, undone, participant.Yes)
	if a, b, held := d.balance("a"), d.balance("b"), d.held(); a != 100 || b != 100 || held != 2 {
		t.Fatalf("in doubt: balances %d and %d, %d prepared", a, b, held)
	}
	for range 2 {
		must(t, s.Commit(t.Context(), committed.Tx))
		must(t, s.Rollback(t.Context(), undone.Tx))
	}
	if a, b, held := d.balance("a"), d.balance("b"), d.held(); a != 70 || b != 100 || held != 0 {
		t.Fatalf("after: balances %d and %d, %d prepared", a, b, held)
	}
	must(t, s.Rollback(t.Context(), messages.NewID())) // never heard of
	prepare(t, s, committed, participant.Yes)          // once more: the same answer, and nothing is done
	if a, held := d.balance("a"), d.held(); a != 70 || held != 0 {
		t.Fatalf("a repeated prepare did something: balance %d, %d prepared", a, held)
	}
}

// A branch that changes nothing holds nothing, and one that only locks does.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	query := "SELECT balance FROM accounts WHERE id = 'a'"
	s := d.store(func(cfg *Config) {
		cfg.Do = func(ctx context.Context, tx pgx.Tx, _ *participant.Branch) error {
			_, err := tx.Exec(ctx, query)
			return err
		}
	})
	for range 3 { // the first guesses wrong
		prepare(t, s, branch(transfer{}), participant.ReadOnly)
	}
	if n := d.held() + d.number("SELECT count(*) FROM assent_markers"); n != 0 {
		t.Fatalf("%d prepared or marked", n)
	}
	// Its keys have to be held until the outcome, unless there is nobody else in the transaction.
	isolated := keyed(branch(transfer{}), nil, []string{"a"})
	prepare(t, s, isolated, participant.Yes)
	must(t, s.Commit(t.Context(), isolated.Tx))
	sole := keyed(branch(transfer{}), []string{"a"}, nil)
	sole.Sole = true
	prepare(t, s, sole, participant.ReadOnly)
	query += " FOR UPDATE"
	locking := branch(transfer{})
	prepare(t, s, locking, participant.Yes)
	must(t, s.Rollback(t.Context(), locking.Tx))
	prepare(t, s, branch(transfer{}), participant.Yes)
}

// Errors of the database are refusals with their SQLSTATE, or not.
func TestRefusals(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	var statement string
	s := d.store(func(cfg *Config) {
		cfg.Do = func(ctx context.Context, tx pgx.Tx, _ *participant.Branch) error {
			_, err := tx.Exec(ctx, statement)
			return err
		}
	})
	for _, c := range []struct {
		state, statement string
		is, not          error
	}{
		{"23514", "UPDATE accounts SET balance = balance - 101", participant.ErrRefused, participant.ErrConflict},
		{"23505", "INSERT INTO accounts VALUES ('a', 1)", participant.ErrRefused, participant.ErrConflict},
		{"42P01", "SELECT * FROM nowhere", participant.ErrRefused, participant.ErrConflict},
		{"22012", "SELECT 1/0", participant.ErrRefused, participant.ErrConflict},
		{"P0001", "DO $$ BEGIN RAISE 'no'; END $$", participant.ErrRefused, participant.ErrConflict},
		{"BK001", "DO $$ BEGIN RAISE 'no' USING ERRCODE = 'BK001'; END $$", participant.ErrRefused, participant.ErrConflict},
		{"0A000", "CREATE TEMPORARY TABLE t (n int)", participant.ErrRefused, participant.ErrConflict},
		{"0A000", "LISTEN x", participant.ErrRefused, participant.ErrConflict},
		{"53100", "DO $$ BEGIN RAISE 'disk full' USING ERRCODE = '53100'; END $$", nil, participant.ErrRefused},
		{"57014", "DO $$ BEGIN RAISE 'cancelled' USING ERRCODE = '57014'; END $$", nil, participant.ErrRefused},
		{"XX001", "DO $$ BEGIN RAISE 'corrupt' USING ERRCODE = 'XX001'; END $$", nil, participant.ErrRefused},
		{"25006", "SET TRANSACTION READ ONLY; CREATE TABLE t (n int)", nil, participant.ErrRefused},
		{"55P03", "DO $$ BEGIN RAISE 'locked' USING ERRCODE = '55P03'; END $$", participant.ErrConflict, nil},
		{"40001", "DO $$ BEGIN RAISE 'not serializable' USING ERRCODE = '40001'; END $$", participant.ErrConflict, nil},
	} {
		statement = c.statement
		text := refuse(t, s, branch(transfer{}), c.is, c.not)
		if !strings.Contains(text, "SQLSTATE "+c.state) {
			t.Errorf("%s: the error does not say %s: %s", c.statement, c.state, text)
		}
	}
	if n := d.held(); n != 0 {
		t.Fatalf("%d prepared", n)
	}
}

// What only the application can do wrong.
func TestWhatDoMustNot(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	var do func(ctx context.Context, tx pgx.Tx) error
	s := d.store(func(cfg *Config) {
		cfg.Do = func(ctx context.Context, tx pgx.Tx, _ *participant.Branch) error { return do(ctx, tx) }
	})
	do = func(ctx context.Context, tx pgx.Tx) error {
		if tx.Commit(ctx) == nil || tx.Rollback(ctx) == nil {
			return errors.New("the transaction could be ended")
		}
		_, err := tx.Exec(ctx, "UPDATE accounts SET balance = 1")
		return err
	}
	ended := branch(transfer{})
	prepare(t, s, ended, participant.Yes)
	must(t, s.Rollback(t.Context(), ended.Tx))
	do = func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Conn().Exec(ctx, "COMMIT")
		return err
	}
	refuse(t, s, branch(transfer{}), participant.ErrRefused, nil)
	do = func(ctx context.Context, tx pgx.Tx) error {
		_, _ = tx.Exec(ctx, "SELECT 1/0")
		return nil
	}
	refuse(t, s, branch(transfer{}), nil, participant.ErrRefused)
	do = func(context.Context, pgx.Tx) error { return errors.New("the weather") }
	refuse(t, s, branch(transfer{}), nil, participant.ErrRefused)
	do = func(context.Context, pgx.Tx) error { panic("oops") }
	func() {
		defer func() { _ = recover() }()
		_, _ = s.Prepare(t.Context(), branch(transfer{}))
	}()
	do = func(ctx context.Context, tx pgx.Tx) error { // savepoints are its own
		sub, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := sub.Exec(ctx, "SELECT 1/0"); err == nil {
			return errors.New("no error")
		}
		if err := sub.Rollback(ctx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE accounts SET balance = 2")
		return err
	}
	saved := branch(transfer{})
	prepare(t, s, saved, participant.Yes)
	must(t, s.Commit(t.Context(), saved.Tx))
	if n := d.balance("a"); n != 2 {
		t.Fatalf("balance %d", n)
	}
	calls := 0
	do = func(ctx context.Context, tx pgx.Tx) error { // the first statement is never sent, and the application goes on
		calls++
		if _, err := tx.Exec(ctx, "UPDATE accounts SET balance = $1", struct{}{}); err == nil {
			return errors.New("no error")
		}
		_, err := tx.Exec(ctx, "UPDATE accounts SET balance = $1", 3)
		return err
	}
	refuse(t, s, branch(transfer{}), nil, participant.ErrRefused)
	if n := d.balance("a"); n != 2 || calls != 1 {
		t.Fatalf("balance %d after %d calls: a statement ran outside of the transaction", n, calls)
	}
	// A broken one is closed by a goroutine of the pool's.
	eventually(t, "all connections were given back", func() bool { return s.pool.Stat().AcquiredConns() == 0 })
}

// What somebody decided by hand is told, and never as success.
func TestHeuristics(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	undone, done := branch(transfer{"a", 1}), branch(transfer{"b", 1})
	prepare(t, s, undone, participant.Yes)
	prepare(t, s, done, participant.Yes)
	d.exec(s.sql.rollback(undone.Tx))
	d.exec(s.sql.commit(done.Tx))
	for range 2 {
		if err := s.Commit(t.Context(), undone.Tx); !errors.Is(err, participant.ErrHeuristic) {
			t.Errorf("commit of what was rolled back by hand: %v", err)
		}
		if err := s.Rollback(t.Context(), done.Tx); !errors.Is(err, participant.ErrHeuristic) {
			t.Errorf("rollback of what was committed by hand: %v", err)
		}
	}
	must(t, s.Commit(t.Context(), done.Tx)) // by hand, and as it should
}

// Only what is exactly ours is in doubt here.
func TestGidsOfOthers(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	d.exec("CREATE TABLE t (n int)")
	s := d.store(func(cfg *Config) { cfg.Name = "ba_k" })
	longer := d.store(func(cfg *Config) { cfg.Name = "ba_k-2" })
	other := newBank(t, nil) // of the same server
	elsewhere := other.store(func(cfg *Config) { cfg.Name = "ba_k" })
	ours, theirs, far := branch(transfer{"a", 1}), branch(transfer{"b", 1}), branch(transfer{"a", 1})
	prepare(t, s, ours, participant.Yes)
	prepare(t, longer, theirs, participant.Yes)
	prepare(t, elsewhere, far, participant.Yes)
	id := messages.NewID().String()
	strangers := []string{"x", "assent:ba_k:", "assent:ba_k:nonsense", "assent:ba_k:" + strings.ToUpper(id), "assent:ba_k:" + id + ":1", "assent:baXk:" + id,
		"assent:ba_k-2", "assent:%:" + id, "Assent:ba_k:" + id, "assent:ba_k:ümläut''\\\"", " assent:ba_k:" + id}
	for i, gid := range strangers {
		conn, err := d.pool.Acquire(t.Context())
		must(t, err)
		_, err = conn.Exec(t.Context(), fmt.Sprintf("BEGIN; INSERT INTO t VALUES (%d); PREPARE TRANSACTION '%s'", i, gid))
		must(t, err)
		conn.Release()
	}
	found, err := s.InDoubt(t.Context())
	must(t, err)
	if len(found) != 1 || found[0].Tx != ours.Tx {
		t.Errorf("in doubt: %v, want %v alone", found, ours.Tx)
	}
	stats, err := longer.Stats(t.Context())
	must(t, err)
	if stats.Prepared != 1 || stats.Oldest <= 0 || stats.Oldest > time.Hour {
		t.Errorf("stats: %+v", stats)
	}
	if err := s.Commit(t.Context(), theirs.Tx); !errors.Is(err, participant.ErrHeuristic) { // its own it is not
		t.Errorf("commit of another's: %v", err)
	}
	must(t, s.Rollback(t.Context(), theirs.Tx))
	if err := s.Commit(t.Context(), far.Tx); err == nil || errors.Is(err, participant.ErrHeuristic) {
		t.Errorf("commit of what is in another database: %v", err)
	}
	must(t, s.Commit(t.Context(), ours.Tx))
	if n := d.held(); n != len(strangers)+1 {
		t.Errorf("%d are prepared: want the %d strangers and the other participant's", n, len(strangers))
	}
	rows, err := d.pool.Query(t.Context(), "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
	must(t, err)
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	for _, gid := range gids { // the server is shared, and its places are few
		d.exec("ROLLBACK PREPARED '" + strings.ReplaceAll(gid, "'", "''") + "'")
	}
	must(t, elsewhere.Rollback(t.Context(), far.Tx))
}

// A second instance that is given what the first one prepared does not wait for long, and does nothing anew.
func TestPreparedByAnotherInstance(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	first, second := d.store(nil), d.store(nil)
	waiting := branch(transfer{"a", -100}) // its repetition waits for the row
	prepare(t, first, waiting, participant.Yes)
	prepare(t, second, waiting, participant.Yes)
	missing := branch(transfer{"a", 1})
	first.cfg.Do = func(ctx context.Context, tx pgx.Tx, _ *participant.Branch) error {
		_, err := tx.Exec(ctx, "INSERT INTO accounts VALUES ('c', 1)")
		return err
	}
	prepare(t, first, missing, participant.Yes)
	// The second one would refuse, or find nothing to change; the first has answered already.
	second.cfg.Do = func(context.Context, pgx.Tx, *participant.Branch) error {
		return participant.Refuse(errors.New("it is different now"))
	}
	prepare(t, second, missing, participant.Yes)
	second.cfg.Do = func(context.Context, pgx.Tx, *participant.Branch) error { return nil }
	prepare(t, second, missing, participant.Yes)
	must(t, second.Commit(t.Context(), waiting.Tx))
	must(t, first.Commit(t.Context(), waiting.Tx))
	must(t, second.Rollback(t.Context(), missing.Tx))
	if a, held := d.balance("a"), d.held(); a != 0 || held != 0 {
		t.Fatalf("balance %d, %d prepared", a, held)
	}
}

// What the store keeps for the SDK never goes back, but with a log that is another.
func TestWatermark(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s, other := d.store(nil), d.store(func(cfg *Config) { cfg.Name = "other" })
	want := func(incarnation string, sequence uint64) {
		t.Helper()
		gotIncarnation, gotSequence, err := s.Watermark(t.Context(), "log-0")
		must(t, err)
		if gotIncarnation != incarnation || gotSequence != sequence {
			t.Fatalf("%q %d: want %q %d", gotIncarnation, gotSequence, incarnation, sequence)
		}
	}
	want("", 0)
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 7))
	must(t, other.SetWatermark(t.Context(), "log-0", "y", 9))
	must(t, s.SetWatermark(t.Context(), "log-1", "x", 8))
	want("x", 7)
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 5)) // of an instance that is behind
	want("x", 7)
	must(t, s.SetWatermark(t.Context(), "log-0", "z", 5))
	want("z", 5)
	if err := s.SetWatermark(t.Context(), "log-0", "z", 1<<63); err == nil {
		t.Fatal("a sequence that a bigint cannot hold was kept")
	}
}

// Whatever the first statement is, it is in the transaction, and so is everything that pgx's own can do.
func TestTheTransactionOfDo(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	for name, do := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"Exec": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE accounts SET balance = $1", 1)
			return err
		},
		"Exec of several": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SELECT 1; UPDATE accounts SET balance = 1")
			return err
		},
		"Exec with a mode": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE accounts SET balance = $1", pgx.QueryExecModeExec, 1)
			return err
		},
		"Exec with names": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE accounts SET balance = @n", pgx.NamedArgs{"n": 1})
			return err
		},
		"Query": func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "UPDATE accounts SET balance = $1 RETURNING id", 1)
			if err != nil {
				return err
			}
			_, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		},
		"QueryRow": func(ctx context.Context, tx pgx.Tx) error {
			var id string
			return tx.QueryRow(ctx, "UPDATE accounts SET balance = $1 WHERE id = 'a' RETURNING id", 1).Scan(&id)
		},
		"SendBatch": func(ctx context.Context, tx pgx.Tx) error {
			batch := &pgx.Batch{}
			batch.Queue("UPDATE accounts SET balance = $1", 1)
			return tx.SendBatch(ctx, batch).Close()
		},
		"CopyFrom": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"accounts"}, []string{"id", "balance"}, pgx.CopyFromRows([][]any{{"copied", 1}}))
			return err
		},
		"Prepare": func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Prepare(ctx, "mine", "UPDATE accounts SET balance = $1"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "mine", 1)
			return err
		},
		"Begin": func(ctx context.Context, tx pgx.Tx) error {
			sub, err := tx.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := sub.Exec(ctx, "UPDATE accounts SET balance = 1"); err != nil {
				return err
			}
			return sub.Commit(ctx)
		},
		"Conn": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Conn().Exec(ctx, "UPDATE accounts SET balance = 1")
			return err
		},
		"LargeObjects": func(ctx context.Context, tx pgx.Tx) error {
			objects := tx.LargeObjects()
			_, err := objects.Create(ctx, 0)
			return err
		},
	} {
		s := d.store(func(cfg *Config) {
			cfg.Do = func(ctx context.Context, tx pgx.Tx, _ *participant.Branch) error { return do(ctx, tx) }
		})
		b := branch(transfer{})
		if vote, err := s.Prepare(t.Context(), b); vote != participant.Yes || err != nil {
			t.Errorf("%s: %v, %v", name, vote, err)
			continue
		}
		must(t, s.Rollback(t.Context(), b.Tx))
		if n := d.balance("a") + d.number("SELECT count(*) FROM accounts") + d.number("SELECT count(*) FROM pg_largeobject_metadata"); n != 102 {
			t.Errorf("%s was not in the transaction", name)
		}
	}
}
