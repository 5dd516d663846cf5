// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/participant"
)

// ledger is two banks, and what their clients heard. Each branch leaves its transaction's id in its database, so that the two can be
// compared.
type ledger struct {
	testing.TB
	banks map[string]*db

	mu        sync.Mutex
	heard     map[assent.ID]error // what a client heard of its transaction
	committed int
}

// noted is bank, and the transaction's id in a table.
func noted(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
	if err := bank(ctx, tx, b); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO entries VALUES ($1)", b.Tx.String())
	return err
}

func newLedger(t testing.TB, one, two *db) *ledger {
	t.Helper()
	for _, d := range []*db{one, two} {
		d.exec("CREATE TABLE entries (tx text PRIMARY KEY)")
		d.exec("INSERT INTO accounts SELECT 'x' || n, 100 FROM generate_series(1, 8) AS n")
	}
	return &ledger{TB: t, banks: map[string]*db{"one": one, "two": two}, heard: make(map[assent.ID]error)}
}

// store opens a Store of a bank.
func (l *ledger) store(name string, change func(*Config)) *Store {
	l.Helper()
	return l.banks[name].store(func(cfg *Config) {
		cfg.Name, cfg.Do = name, noted
		if change != nil {
			change(cfg)
		}
	})
}

// load submits transfers by several clients until the context ends or each has had its number, and waits for their outcomes, whatever happens.
func (l *ledger) load(ctx context.Context, client *assent.Client, clients, each int) (wait func()) {
	var all sync.WaitGroup
	for n := range clients {
		random := rand.New(rand.NewPCG(uint64(n), 1))
		all.Go(func() {
			for i := 0; i < each && ctx.Err() == nil; i++ {
				l.transfer(client, random)
			}
		})
	}
	return all.Wait
}

// transfer moves money between the banks, sometimes more than there is, sometimes with keys.
func (l *ledger) transfer(client *assent.Client, random *rand.Rand) {
	from, to := "one", "two"
	if random.IntN(2) == 0 {
		from, to = to, from
	}
	debit, credit := fmt.Sprint("x", 1+random.IntN(8)), fmt.Sprint("x", 1+random.IntN(8))
	amount := 1 + random.IntN(30)
	var debitKeys, creditKeys []assent.OpOption
	if random.IntN(2) == 0 {
		debitKeys, creditKeys = []assent.OpOption{assent.Keys(debit)}, []assent.OpOption{assent.Keys(credit)}
	}
	tx := client.Begin()
	tx.Enlist(from, transfer{debit, -amount}, debitKeys...)
	tx.Enlist(to, transfer{credit, amount}, creditKeys...)
	err := tx.Commit(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard[tx.ID()] = err
	if err == nil {
		l.committed++
	}
}

// done counts the transactions that were committed.
func (l *ledger) done() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed
}

// check waits until nothing is in doubt, and compares the databases with each other and with what the clients heard.
func (l *ledger) check() {
	l.Helper()
	eventually(l, "nothing is in doubt", func() bool {
		for _, d := range l.banks {
			var n int
			if err := d.pool.QueryRow(l.Context(), "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()").Scan(&n); err != nil || n > 0 {
				return false
			}
		}
		return true
	})
	total, entries := 0, make(map[string]map[string]bool)
	for name, d := range l.banks {
		total += d.number("SELECT sum(balance) FROM accounts")
		rows, err := d.pool.Query(l.Context(), "SELECT tx FROM entries")
		must(l, err)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(l, err)
		entries[name] = make(map[string]bool)
		for _, id := range ids {
			entries[name][id] = true
		}
	}
	if total != 2*(8+2)*100 {
		l.Errorf("the total is %d", total)
	}
	for id, err := range l.heard {
		one, two := entries["one"][id.String()], entries["two"][id.String()]
		switch {
		case err == nil && (!one || !two):
			l.Errorf("%v is committed, and applied at one: %t, two: %t", id, one, two)
		case errors.Is(err, assent.ErrAborted) && (one || two):
			l.Errorf("%v is aborted, and applied at one: %t, two: %t", id, one, two)
		case one != two:
			l.Errorf("%v (%v) is applied at one: %t, two: %t", id, err, one, two)
		case err != nil && !errors.Is(err, assent.ErrAborted):
			l.Errorf("%v: its client heard no outcome: %v", id, err)
		}
	}
	if len(entries["one"]) != l.committed || l.committed == 0 {
		l.Errorf("%d entries, %d committed of %d", len(entries["one"]), l.committed, len(l.heard))
	}
}
