// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/postgres"
)

const (
	postgresAccounts = 10_000
	postgresAtLeast  = 0.7
	// postgresConns is the size of each pool: of connections enough for every client of the yardstick, and for every call of a participant.
	postgresConns = 64
	// postgresLockTimeout, in milliseconds, is the Store's: connections that have it save a statement a branch (docs/stores.md). Nothing here waits so long.
	postgresLockTimeout = "2000"
)

// postgresTables are what both contenders work on. A transfer changes an account and adds an entry, in each of two databases.
const postgresTables = `
DROP TABLE IF EXISTS assent_bench_accounts, assent_bench_entries;
CREATE TABLE assent_bench_accounts (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE assent_bench_entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL, cents bigint NOT NULL);`

// pgEntry is an operation's payload.
type pgEntry struct {
	Account int   `json:"account"`
	Cents   int64 `json:"cents"`
}

// run changes the account and adds the entry: the same statements for both contenders.
func (e pgEntry) run(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "UPDATE assent_bench_accounts SET balance = balance + $2 WHERE id = $1", e.Account, e.Cents); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO assent_bench_entries (account, cents) VALUES ($1, $2)", e.Account, e.Cents)
	return err
}

// transferOf are the two entries of a random transfer.
func transferOf() [2]pgEntry {
	return [2]pgEntry{{rand.IntN(postgresAccounts), -1}, {rand.IntN(postgresAccounts), 1}}
}

// postgres gives transfers between two databases, and beside them a two-phase commit written by hand, which nothing puts right after a crash; then,
// beside that too, the same by hand with as much more as somebody would need who wants to put it right.
func (b *storesBench) postgres(ctx context.Context, c *cluster) (*stored, error) {
	dsns, err := b.postgresServers(ctx, c)
	if err != nil {
		return nil, err
	}
	var names []string
	var pools [2]*pgxpool.Pool
	for i, dsn := range dsns {
		if pools[i], err = openPool(ctx, c, dsn); err != nil {
			return nil, err
		}
		if err := b.postgresTables(ctx, c, pools[i]); err != nil {
			return nil, err
		}
		names = append(names, "postgres-"+strconv.Itoa(i+1))
		if err := b.postgresParticipant(ctx, c, names[i], dsn); err != nil {
			return nil, err
		}
	}
	s := &stored{}
	hand, remote := &hand{pools: pools}, &remoteHand{}
	if err := remote.start(ctx, c, hand); err != nil {
		return nil, err
	}
	s.audit = func(ctx context.Context) error {
		return errors.Join(remote.settle(), auditPostgres(ctx, pools))
	}
	const yardstick = "two-phase commit by hand"
	for _, clients := range b.clients(16, 64) {
		r := newStoreRow("transfers", yardstick, clients, postgresAtLeast)
		r.theirs.do = hand.transfer
		r.ours.do = func(ctx context.Context, _ int) error {
			tx := c.client.Begin()
			for i, entry := range transferOf() {
				tx.Enlist(names[i], entry)
			}
			return tx.Commit(ctx)
		}
		least := newStoreRow("by hand over NATS, decisions kept", yardstick, clients, 0)
		least.ours.do, least.theirs.do = remote.transfer, hand.transfer
		s.rows = append(s.rows, r, least)
	}
	return s, nil
}

// postgresServers gives two databases, on two servers of the run's own if none are configured.
func (b *storesBench) postgresServers(ctx context.Context, c *cluster) ([]string, error) {
	if len(b.cfg.Postgres) > 0 {
		return b.cfg.Postgres, nil
	}
	if err := os.Chmod(b.cfg.Dir, 0o711); err != nil { //nolint:gosec // PostgreSQL, started by root, runs as another user, and has folders of its own below
		return nil, err
	}
	var dsns []string
	for i := range 2 {
		server, err := databases.StartPostgres(filepath.Join(b.cfg.Dir, "postgres-"+strconv.Itoa(i+1))) //nolint:contextcheck // the server lives until close, not until ctx ends
		if err != nil {
			return nil, err
		}
		c.closers = append(c.closers, server.Close)
		if err := server.CreateDatabase(ctx, "bench"); err != nil {
			return nil, err
		}
		dsns = append(dsns, server.DSN("bench"))
	}
	return dsns, nil
}

func openPool(ctx context.Context, c *cluster, dsn string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns = postgresConns
	config.ConnConfig.RuntimeParams["lock_timeout"] = postgresLockTimeout
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, func() error { pool.Close(); return nil })
	return pool, nil
}

// postgresTables makes the tables, and drops them at the end.
func (b *storesBench) postgresTables(ctx context.Context, c *cluster, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, postgresTables); err != nil {
		return err
	}
	c.closers = append(c.closers, func() error {
		_, err := pool.Exec(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS assent_bench_accounts, assent_bench_entries")
		return err
	})
	_, err := pool.Exec(ctx, "INSERT INTO assent_bench_accounts SELECT n, 0 FROM generate_series(0, $1::int) AS n", postgresAccounts-1)
	return err
}

func (b *storesBench) postgresParticipant(ctx context.Context, c *cluster, name, dsn string) error {
	pool, err := openPool(ctx, c, dsn)
	if err != nil {
		return err
	}
	store, err := postgres.Open(ctx, pool, postgres.Config{Name: name, Log: b.cfg.Log, Do: func(ctx context.Context, tx pgx.Tx, branch *participant.Branch) error {
		var entry pgEntry
		if err := branch.Decode(0, &entry); err != nil {
			return err
		}
		return entry.run(ctx, tx)
	}})
	if err != nil {
		return err
	}
	return b.participate(ctx, c, participant.Config{Name: name, Handler: store, Log: b.cfg.Log})
}

// auditPostgres counts the money, and what is in the entries.
func auditPostgres(ctx context.Context, pools [2]*pgxpool.Pool) error {
	var sums [2]int64
	for _, pool := range pools {
		for i, table := range []string{"SELECT sum(balance) FROM assent_bench_accounts", "SELECT coalesce(sum(cents), 0) FROM assent_bench_entries"} {
			var sum int64
			if err := pool.QueryRow(ctx, table).Scan(&sum); err != nil {
				return fmt.Errorf("counting: %w", err)
			}
			sums[i] += sum
		}
	}
	return errors.Join(sameSum(sums[0], 0), sameSum(sums[1], 0))
}
