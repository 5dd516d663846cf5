// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// inDoubt wants exactly these to be in doubt.
func inDoubt(t testing.TB, s *Store, want ...messages.ID) {
	t.Helper()
	var found []participant.Prepared
	eventually(t, "the database answers", func() (ok bool) { // connections that were cut are found one by one
		var err error
		found, err = s.InDoubt(t.Context())
		return err == nil
	})
	got := make(map[messages.ID]bool)
	for _, p := range found {
		got[p.Tx] = true
	}
	for _, tx := range want {
		if !got[tx] {
			t.Fatalf("%v is not in doubt, of %v", tx, found)
		}
	}
	if len(found) != len(want) {
		t.Fatalf("in doubt: %v, want %v", found, want)
	}
}

// kill -9 of the database, before and after each durable step.
func TestDatabaseIsKilled(t *testing.T) {
	t.Parallel()
	server := databases.Postgres(t)
	d := newBank(t, server)
	var within func()
	s := d.store(func(cfg *Config) {
		cfg.Do = func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
			err := bank(ctx, tx, b)
			if within != nil {
				within()
			}
			return err
		}
	})
	b := branch(transfer{"a", -10})

	within = func() { must(t, server.Kill()) } // after the statements, before PREPARE TRANSACTION
	refuse(t, s, b, nil, participant.ErrRefused)
	within = nil
	refuse(t, s, b, nil, participant.ErrRefused) // it is down
	must(t, server.Start())
	inDoubt(t, s)
	prepare(t, s, b, participant.Yes)

	must(t, server.Kill()) // after PREPARE TRANSACTION, before COMMIT PREPARED
	if err := s.Commit(t.Context(), b.Tx); err == nil || errors.Is(err, participant.ErrHeuristic) {
		t.Fatalf("commit while the database is down: %v", err)
	}
	must(t, server.Start())
	inDoubt(t, s, b.Tx)
	must(t, s.Commit(t.Context(), b.Tx))

	must(t, server.Kill()) // after COMMIT PREPARED
	must(t, server.Start())
	inDoubt(t, s)
	must(t, s.Commit(t.Context(), b.Tx))
	if n := d.balance("a"); n != 90 {
		t.Fatalf("balance %d", n)
	}
	undone := branch(transfer{"a", -10})
	prepare(t, s, undone, participant.Yes)
	must(t, server.Kill())
	must(t, server.Start())
	eventually(t, "rolled back", func() bool { return s.Rollback(t.Context(), undone.Tx) == nil })
	inDoubt(t, s)
}

// Outcomes that are being applied when the database is killed are all applied in the end, once.
func TestDatabaseIsKilledWhileCommitting(t *testing.T) {
	t.Parallel()
	server := databases.Postgres(t)
	d := newBank(t, server)
	s := d.store(func(cfg *Config) {
		cfg.Do = func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
			_, err := tx.Exec(ctx, "INSERT INTO accounts VALUES ($1, 1)", b.Tx.String())
			return err
		}
	})
	const many = 24
	var branches []*participant.Branch
	for range many {
		b := branch(transfer{})
		prepare(t, s, b, participant.Yes)
		branches = append(branches, b)
	}
	var some, all sync.WaitGroup
	some.Add(many / 4)
	var failed atomic.Int32
	var count atomic.Int32
	for _, b := range branches {
		all.Go(func() {
			if s.Commit(t.Context(), b.Tx) != nil {
				failed.Add(1)
			}
			if count.Add(1) <= many/4 {
				some.Done()
			}
		})
	}
	some.Wait()
	must(t, server.Kill())
	all.Wait()
	must(t, server.Start())
	t.Logf("%d of %d commits met the kill", failed.Load(), many)
	for _, b := range branches {
		eventually(t, "committed", func() bool {
			err := s.Commit(t.Context(), b.Tx)
			if errors.Is(err, participant.ErrHeuristic) {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	if n := d.number("SELECT count(*) FROM accounts"); n != 2+many {
		t.Fatalf("%d accounts, want %d", n, 2+many)
	}
}

// A pool whose connections were all cut goes on at once, when the database is back.
func TestConnectionsAreCut(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	b := branch(transfer{"a", 1})
	for range 2 {
		conns := d.pool.AcquireAllIdle(t.Context())
		for _, conn := range conns {
			conn.Release()
		}
		prepare(t, s, b, participant.Yes)
		admin, err := pgx.Connect(t.Context(), d.dsn)
		must(t, err)
		_, err = admin.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		must(t, err)
		must(t, admin.Close(t.Context()))
		must(t, s.Commit(t.Context(), b.Tx))
		b = branch(transfer{"a", 1})
	}
	if n := d.balance("a"); n != 102 {
		t.Fatalf("balance %d", n)
	}
}

// A call whose time is over leaves nothing open, and its connection is not used again as it is.
func TestContextEndsInAStatement(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	sleeping := make(chan struct{}, 1)
	s := d.store(func(cfg *Config) {
		cfg.Do = func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
			if err := bank(ctx, tx, b); err != nil {
				return err
			}
			sleeping <- struct{}{}
			_, err := tx.Exec(ctx, "SELECT pg_sleep(600)")
			return err
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-sleeping
		eventually(t, "it sleeps", func() bool {
			return d.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()") == 1
		})
		cancel()
	}()
	if _, err := s.Prepare(ctx, branch(transfer{"a", 1})); err == nil || errors.Is(err, participant.ErrRefused) {
		t.Fatalf("Prepare: %v", err)
	}
	eventually(t, "no transaction is open", func() bool {
		return d.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()") == 0
	})
	s.cfg.Do = bank
	b := branch(transfer{"a", 1}) // the row is free
	prepare(t, s, b, participant.Yes)
	must(t, s.Rollback(t.Context(), b.Tx))
}

// No place for a prepared transaction, no connection, no room for a sort: that is no refusal, says what to do, and passes.
func TestResourcesAreExhausted(t *testing.T) {
	t.Parallel()
	server := databases.Postgres(t, "max_prepared_transactions=1", "max_connections=10", "superuser_reserved_connections=0")
	d := &db{TB: t, dsn: server.Database(t)}
	pool, err := pgx.Connect(t.Context(), d.dsn)
	must(t, err)
	_, err = pool.Exec(t.Context(), "CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)); INSERT INTO accounts VALUES ('a', 100), ('b', 100)")
	must(t, err)
	must(t, pool.Close(t.Context()))
	d.pool = d.connect("&pool_max_conns=3&pool_max_conn_idle_time=1ms&pool_health_check_period=1ms")
	s := d.store(func(cfg *Config) { cfg.Concurrency = 1 })

	first, second := branch(transfer{"a", 1}), branch(transfer{"b", 1})
	prepare(t, s, first, participant.Yes)
	text := refuse(t, s, second, nil, participant.ErrRefused)
	if !strings.Contains(text, "max_prepared_transactions") {
		t.Errorf("the error does not say what to change: %s", text)
	}
	must(t, s.Commit(t.Context(), first.Tx))
	prepare(t, s, second, participant.Yes)

	eventually(t, "the pool is empty", func() bool { return d.pool.Stat().TotalConns() == 0 })
	var hogs []*pgx.Conn
	for {
		hog, err := pgx.Connect(t.Context(), d.dsn)
		if sqlState(err) == "53300" {
			break
		}
		must(t, err)
		hogs = append(hogs, hog)
	}
	text = refuse(t, s, branch(transfer{"a", 1}), nil, participant.ErrRefused)
	if !strings.Contains(text, "53300") {
		t.Errorf("not too many connections: %s", text)
	}
	if err := s.Commit(t.Context(), second.Tx); err == nil || errors.Is(err, participant.ErrHeuristic) {
		t.Errorf("a commit without a connection: %v", err)
	}
	for _, hog := range hogs {
		must(t, hog.Close(t.Context()))
	}
	eventually(t, "committed", func() bool { return s.Commit(t.Context(), second.Tx) == nil })

	s.cfg.Do = func(ctx context.Context, tx pgx.Tx, _ *participant.Branch) error {
		_, err := tx.Exec(ctx, "SET LOCAL temp_file_limit = 0; SET LOCAL work_mem = '64kB'; CREATE TABLE sorted AS SELECT n FROM generate_series(1, 100000) AS n ORDER BY n DESC")
		return err
	}
	text = refuse(t, s, branch(transfer{}), nil, participant.ErrRefused)
	if !strings.Contains(text, "SQLSTATE 53") {
		t.Errorf("not a full disk: %s", text)
	}
	inDoubt(t, s)
}

// More prepares than there are connections, all waiting for what is in doubt: the outcome that frees them finds a connection.
func TestOutcomesDoNotWaitForPrepares(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	d.pool = d.connect("&pool_max_conns=2")
	s := d.store(func(cfg *Config) { cfg.LockTimeout = time.Hour })
	holder := branch(transfer{"a", 1})
	prepare(t, s, holder, participant.Yes)
	var waiting sync.WaitGroup
	for range 8 {
		waiting.Go(func() {
			b := branch(transfer{"a", 1})
			if vote, err := s.Prepare(context.Background(), b); vote != participant.Yes {
				t.Errorf("Prepare: %v, %v", vote, err)
			}
			if err := s.Commit(context.Background(), b.Tx); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "one waits for the row", func() bool {
		return d.number("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'") > 0
	})
	must(t, s.Commit(t.Context(), holder.Tx))
	waiting.Wait()
	if n := d.balance("a"); n != 109 {
		t.Fatalf("balance %d", n)
	}
}
