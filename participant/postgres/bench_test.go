// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tx/assent/internal/databases"
)

// accounts of the benchmark, so that clients do not wait for each other's rows.
const manyAccounts = 10000

// BenchmarkTwoDatabases moves money between two databases: by a loop of the same statements without a coordinator and without anything
// that would survive a crash of it, which is the limit; and by transactions.
func BenchmarkTwoDatabases(b *testing.B) {
	one, two := benchBank(b), benchBank(b)
	w := newWorld(b)
	for name, d := range map[string]*db{"one": one, "two": two} {
		w.join(name, d.store(func(cfg *Config) { cfg.Name, cfg.LockTimeout = name, 10*time.Second }), 0)
	}
	client := w.client()
	for _, clients := range []int{16, 64} {
		var n atomic.Int64
		debit := func() (transfer, transfer) {
			account := strconv.FormatInt(n.Add(1)%manyAccounts, 10)
			return transfer{account, -1}, transfer{account, 1}
		}
		b.Run(fmt.Sprintf("by-hand/clients=%d", clients), func(b *testing.B) {
			each(b, clients, func() error {
				out, in := debit()
				return byHand(b.Context(), one.pool, two.pool, out, in)
			})
		})
		b.Run(fmt.Sprintf("assent/clients=%d", clients), func(b *testing.B) {
			each(b, clients, func() error {
				out, in := debit()
				return transferBetween(b.Context(), client, "one", "two", out, in)
			})
		})
	}
}

func benchBank(b *testing.B) *db {
	b.Helper()
	d := newBank(b, databases.Postgres(b))
	d.exec("INSERT INTO accounts SELECT n::text, 1000000 FROM generate_series(0, $1) AS n", manyAccounts-1)
	d.pool = d.connect("&pool_max_conns=96&lock_timeout=10000")
	return d
}

// each runs an action b.N times by many at once.
func each(b *testing.B, clients int, action func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	ended := make(chan error, clients)
	b.ResetTimer()
	for range clients {
		go func() {
			for left.Add(-1) >= 0 {
				if err := action(); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	for range clients {
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
}

var handGID atomic.Int64

// byHand does what one would write without knowing better: both prepared, then both committed.
func byHand(ctx context.Context, one, two *pgxpool.Pool, out, in transfer) error {
	gid := "hand:" + strconv.FormatInt(handGID.Add(1), 10)
	branches := []struct {
		pool *pgxpool.Pool
		t    transfer
	}{{one, out}, {two, in}}
	both := func(do func(pool *pgxpool.Pool, t transfer) error) error {
		first := make(chan error, 1)
		go func() { first <- do(branches[0].pool, branches[0].t) }()
		err := do(branches[1].pool, branches[1].t)
		if e := <-first; e != nil {
			err = e
		}
		return err
	}
	err := both(func(pool *pgxpool.Pool, t transfer) error {
		return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{CommitQuery: "PREPARE TRANSACTION '" + gid + "'"}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + $2 WHERE id = $1", t.Account, t.Add)
			return err
		})
	})
	if err != nil {
		return err
	}
	return both(func(pool *pgxpool.Pool, _ transfer) error {
		_, err := pool.Exec(ctx, "COMMIT PREPARED '"+gid+"'")
		return err
	})
}
