// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Rows that a branch in doubt holds are waited for, for as long as LockTimeout; then it is a conflict.
func TestLongLocks(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	holder, other := branch(transfer{"a", 1}), branch(transfer{"a", 1})
	prepare(t, s, holder, participant.Yes)
	refuse(t, s, other, participant.ErrConflict, nil)
	must(t, s.Rollback(t.Context(), other.Tx))
	must(t, s.Commit(t.Context(), holder.Tx))
	prepare(t, s, other, participant.Yes)
	must(t, s.Commit(t.Context(), other.Tx))
}

// Two branches that wait for each other inside the database: it ends one, which is executed again.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	d.exec("ALTER DATABASE " + d.pool.Config().ConnConfig.Database + " SET deadlock_timeout = '10ms'")
	d.pool = d.connect("")
	var met sync.WaitGroup // both have their first row
	met.Add(2)
	var executions, waits atomic.Int32
	s := d.store(func(cfg *Config) {
		cfg.LockTimeout = time.Hour
		cfg.Do = func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
			executions.Add(1)
			first := *b
			first.Operations = b.Operations[:1]
			if err := bank(ctx, tx, &first); err != nil {
				return err
			}
			if waits.Add(1) <= 2 {
				met.Done()
				met.Wait()
			}
			second := *b
			second.Operations = b.Operations[1:]
			return bank(ctx, tx, &second)
		}
	})
	var both sync.WaitGroup
	for _, b := range []*participant.Branch{branch(transfer{"a", 1}, transfer{"b", 1}), branch(transfer{"b", 1}, transfer{"a", 1})} {
		both.Go(func() {
			vote, err := s.Prepare(context.Background(), b)
			if vote != participant.Yes || err != nil {
				t.Errorf("Prepare: %v, %v", vote, err)
			}
			if err := s.Commit(context.Background(), b.Tx); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if a, b, n := d.balance("a"), d.balance("b"), executions.Load(); a != 102 || b != 102 || n < 3 {
		t.Fatalf("balances %d and %d after %d executions", a, b, n)
	}
}

// What PostgreSQL cannot serialize is executed again inside Prepare, and is a conflict when that does not help.
func TestSerializationFailures(t *testing.T) {
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			d := newBank(t, nil)
			var executions int
			disturb := 1
			s := d.store(func(cfg *Config) {
				cfg.Isolation = level
				cfg.Do = func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
					executions++
					var balance int
					if err := tx.QueryRow(ctx, "SELECT balance FROM accounts WHERE id = 'a'").Scan(&balance); err != nil {
						return err
					}
					if executions <= disturb {
						d.exec("UPDATE accounts SET balance = balance + 10 WHERE id = 'a'")
					}
					_, err := tx.Exec(ctx, "UPDATE accounts SET balance = $1 WHERE id = 'a'", balance+1)
					return err
				}
			})
			b := branch(transfer{})
			prepare(t, s, b, participant.Yes)
			must(t, s.Commit(t.Context(), b.Tx))
			if n := d.balance("a"); n != 111 || executions != 2 {
				t.Fatalf("balance %d after %d executions: want 111 after 2", n, executions)
			}
			executions, disturb = 0, 1000
			refuse(t, s, branch(transfer{}), participant.ErrConflict, nil)
			if executions != maxAttempts {
				t.Fatalf("%d executions", executions)
			}
		})
	}
}

// Write skew against a branch in doubt: SERIALIZABLE sees it through the prepared transaction.
func TestWriteSkew(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(func(cfg *Config) {
		cfg.Isolation = pgx.Serializable
		cfg.Do = func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
			var total int
			if err := tx.QueryRow(ctx, "SELECT sum(balance) FROM accounts").Scan(&total); err != nil {
				return err
			}
			if total < 150 {
				return participant.Refuse(errors.New("the total would be too low"))
			}
			return bank(ctx, tx, b)
		}
	})
	first, second := branch(transfer{"a", -100}), branch(transfer{"b", -100})
	prepare(t, s, first, participant.Yes)
	refuse(t, s, second, participant.ErrConflict, nil) // both cannot be, and the first one may still be
	must(t, s.Commit(t.Context(), first.Tx))
	refuse(t, s, second, participant.ErrRefused, participant.ErrConflict)
}

// Keys exclude branches of other instances, until the outcome.
func TestKeys(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{"", pgx.Serializable} {
		d := newBank(t, nil)
		nothing := func(cfg *Config) {
			cfg.Isolation = level
			cfg.Do = func(context.Context, pgx.Tx, *participant.Branch) error { return nil }
		}
		one, two := d.store(nothing), d.store(nothing)
		exclusive := keyed(branch(transfer{}), []string{"k", "l"}, []string{"m"})
		prepare(t, one, exclusive, participant.Yes)
		prepare(t, two, exclusive, participant.Yes) // it is that one
		for _, conflicting := range []*participant.Branch{
			keyed(branch(transfer{}), []string{"k"}, nil), keyed(branch(transfer{}), nil, []string{"k"}), keyed(branch(transfer{}), []string{"x", "m"}, nil),
		} {
			refuse(t, two, conflicting, participant.ErrConflict, nil)
		}
		shared := keyed(branch(transfer{}), []string{"x"}, []string{"m"}) // x is free again
		prepare(t, two, shared, participant.Yes)
		must(t, two.Commit(t.Context(), exclusive.Tx))
		after := keyed(branch(transfer{}), []string{"k"}, nil)
		prepare(t, one, after, participant.Yes)
		must(t, one.Rollback(t.Context(), after.Tx))
		must(t, one.Rollback(t.Context(), shared.Tx))
		if n := d.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"); n != 0 {
			t.Errorf("%q: %d advisory locks are left", level, n)
		}
	}
}

// A branch that waited for a key sees what its last holder did, at every level; and keys outlive a crash of the database.
func TestKeysAreTakenBeforeTheSnapshot(t *testing.T) {
	t.Parallel()
	server := databases.Postgres(t)
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		d := newBank(t, server)
		var seen int
		s := d.store(func(cfg *Config) {
			cfg.Isolation, cfg.LockTimeout = level, time.Hour
			cfg.Do = func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
				if err := tx.QueryRow(ctx, "SELECT balance FROM accounts WHERE id = 'b'").Scan(&seen); err != nil {
					return err
				}
				return bank(ctx, tx, b)
			}
		})
		holder, waiter := keyed(branch(transfer{"b", 11}), []string{"b"}, nil), keyed(branch(transfer{"a", 1}), nil, []string{"b"})
		prepare(t, s, holder, participant.Yes)
		must(t, server.Kill())
		must(t, server.Start())
		done := make(chan error, 1)
		go func() {
			vote, err := s.Prepare(context.Background(), waiter)
			if err == nil && vote != participant.Yes {
				err = errors.New("no yes")
			}
			done <- err
		}()
		eventually(t, "it waits for the key", func() bool {
			var n int
			err := d.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").Scan(&n)
			return err == nil && n == 1
		})
		must(t, s.Commit(t.Context(), holder.Tx))
		must(t, <-done)
		must(t, s.Commit(t.Context(), waiter.Tx))
		if seen != 111 {
			t.Errorf("%s: it read %d, from before it had the key", level, seen)
		}
	}
}

// Locks of keys that share a number, or are named in both modes, are one, and exclusive.
func TestKeyLocks(t *testing.T) {
	t.Parallel()
	keys := keyLocks("bank", []participant.Key{{Name: "z"}, {Name: "a", Shared: true}, {Name: "lock:z"}, {Name: "a"}, {Name: "\x00ü"}})
	if len(keys) != 4 {
		t.Fatalf("%v", keys)
	}
	shared := 0
	for i, key := range keys {
		if i > 0 && keys[i-1].number >= key.number {
			t.Errorf("not in order: %v", keys)
		}
		if key.shared {
			shared++
		}
	}
	if shared != 0 {
		t.Errorf("the shared mode won: %v", keys)
	}
}

// A client that lost its lock is refused, once a later holder's branch has been committed.
func TestFencing(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	locked := func(sequence uint64) *participant.Branch {
		b := branch(transfer{"a", 1})
		b.Locks = []messages.Lock{{Key: "door", Token: locks.Token{Incarnation: 1, Sequence: sequence}.String()}}
		return b
	}
	late, later := locked(7), locked(8)
	prepare(t, s, later, participant.Yes)
	must(t, s.Commit(t.Context(), later.Tx))
	refuse(t, s, late, participant.ErrConflict, nil)
	again := locked(8)
	prepare(t, s, again, participant.Yes)
	must(t, s.Commit(t.Context(), again.Tx))
	if n := d.balance("a"); n != 102 {
		t.Fatalf("balance %d", n)
	}
	bad := locked(9)
	bad.Locks[0].Token = "nonsense"
	refuse(t, s, bad, participant.ErrRefused, participant.ErrConflict)
}
