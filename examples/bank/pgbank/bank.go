// SPDX-License-Identifier: Apache-2.0

package pgbank

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/postgres"
)

// Config says which bank to run.
type Config struct {
	// Name is the participant's, such as "bank-a".
	Name string
	// DSN names the database, as a URL or as keywords and values. Several banks may share one: their accounts are apart.
	DSN string
	// Prefix is the cluster's subject prefix; default "assent".
	Prefix string
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// Key is the key by which transactions lock an account; it goes with an entry as assent.Keys(pgbank.Key("alice")).
func Key(account string) string { return "account/" + account }

// Bank is the accounts of one bank.
type Bank struct {
	cfg   Config
	pool  *pgxpool.Pool
	store *postgres.Store
}

// places is how many branches are prepared at once.
const places = 32

// schema has the accounts of all banks in the database, and the rule.
var schema = fmt.Sprintf(`
	CREATE TABLE IF NOT EXISTS bank_accounts (
		bank    text NOT NULL,
		account text NOT NULL CHECK (account <> ''),
		balance bigint NOT NULL,
		PRIMARY KEY (bank, account),
		CONSTRAINT bank_accounts_overdrawn CHECK (balance >= 0),
		CONSTRAINT bank_accounts_full CHECK (balance <= %d)
	)`, int64(bank.MaxCents))

// Open opens a bank, and makes its table if it does not exist.
func Open(ctx context.Context, cfg Config) (*Bank, error) {
	settings, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	settings.MaxConns = max(settings.MaxConns, places+places/2)
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	b := &Bank{cfg: cfg, pool: pool}
	if err := b.open(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return b, nil
}

// schemaLock keeps two banks from making the table at once, which PostgreSQL does not bear.
const schemaLock = 0x62616e6b

func (b *Bank) open(ctx context.Context) (err error) {
	err = pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, schemaLock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema)
		return err
	})
	if err != nil {
		return fmt.Errorf("bank: the table of accounts: %w", err)
	}
	b.store, err = postgres.Open(ctx, b.pool, postgres.Config{Name: b.cfg.Name, Concurrency: places, Do: b.move, Log: b.cfg.Log})
	return err
}

// Close closes the connections. What is prepared stays so.
func (b *Bank) Close() { b.pool.Close() }

// Run lets the bank take part in transactions until ctx ends.
func (b *Bank) Run(ctx context.Context, nc *nats.Conn) error {
	p, err := participant.New(nc, participant.Config{
		Name: b.cfg.Name, Handler: b.store, Concurrency: places, Prefix: b.cfg.Prefix, Log: b.cfg.Log,
	})
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// move is a branch: its entries, one after the other. It runs in the transaction that is prepared.
func (b *Bank) move(ctx context.Context, tx pgx.Tx, branch *participant.Branch) error {
	for i := range branch.Operations {
		var e bank.Entry
		if err := branch.Decode(i, &e); err != nil {
			return err
		}
		if err := b.entry(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// entry moves cents, or, if there are none, only looks for the account.
func (b *Bank) entry(ctx context.Context, tx pgx.Tx, e bank.Entry) error {
	if e.Cents < -bank.MaxCents || e.Cents > bank.MaxCents {
		return participant.Refuse(fmt.Errorf("%d cents: an entry may move at most %d", e.Cents, int64(bank.MaxCents)))
	}
	statement := `UPDATE bank_accounts SET balance = balance + $3 WHERE bank = $1 AND account = $2`
	args := []any{b.cfg.Name, e.Account, e.Cents}
	if e.Cents == 0 {
		statement, args = `SELECT FROM bank_accounts WHERE bank = $1 AND account = $2`, args[:2]
	}
	tag, err := tx.Exec(ctx, statement, args...)
	if err == nil && tag.RowsAffected() == 0 {
		err = participant.Refuse(fmt.Errorf("no account %.80q", e.Account))
	}
	return err
}

// OpenAccounts opens accounts with a balance each, in cents. Accounts that exist stay as they are.
func (b *Bank) OpenAccounts(ctx context.Context, balance int64, names ...string) error {
	_, err := b.pool.Exec(ctx, `INSERT INTO bank_accounts SELECT $1, unnest($2::text[]), $3 ON CONFLICT DO NOTHING`, b.cfg.Name, names, balance)
	if err != nil {
		return fmt.Errorf("bank: %w", err)
	}
	return nil
}

// Accounts gives every account's balance, by name, as of one moment. What is prepared does not show.
func (b *Bank) Accounts(ctx context.Context) (map[string]int64, error) {
	rows, err := b.pool.Query(ctx, `SELECT account, balance FROM bank_accounts WHERE bank = $1`, b.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	all := make(map[string]int64)
	var name string
	var balance int64
	_, err = pgx.ForEachRow(rows, []any{&name, &balance}, func() error {
		all[name] = balance
		return nil
	})
	return all, err
}

// Prepared tells how many transactions hold something.
func (b *Bank) Prepared(ctx context.Context) (int, error) {
	stats, err := b.store.Stats(ctx)
	return stats.Prepared, err
}

// Run opens a bank, opens accounts with so many cents each, and lets it take part in transactions until ctx ends.
func Run(ctx context.Context, nc *nats.Conn, cfg Config, accounts map[string]int64) error {
	b, err := Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer b.Close()
	for name, cents := range accounts {
		err = errors.Join(err, b.OpenAccounts(ctx, cents, name))
	}
	if err != nil {
		return err
	}
	return b.Run(ctx, nc)
}
