// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestMain(m *testing.M) {
	if os.Getenv(asParticipant) != "" {
		if err := runParticipant(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	ats.Register() // the server's clock of access times, which it never ends
	goleak.VerifyTestMain(databases.Main(m), goleak.IgnoreCurrent())
}

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// transfer is the operation of the tests' bank: it adds to an account, which must not become negative.
type transfer struct {
	Account string `json:"account"`
	Add     int    `json:"add"`
}

// bank executes transfers; the table refuses what overdraws.
func bank(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
	for i := range b.Operations {
		var t transfer
		if err := b.Decode(i, &t); err != nil {
			return err
		}
		changed, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + $2 WHERE id = $1", t.Account, t.Add)
		if err != nil {
			return err
		}
		if changed.RowsAffected() == 0 {
			return participant.Refuse(fmt.Errorf("no account %q", t.Account))
		}
	}
	return nil
}

// db is a database with a bank.
type db struct {
	testing.TB
	pool *pgxpool.Pool
	dsn  string
}

// newBank makes a database with a bank on the shared server, or on one that a test brings.
func newBank(t testing.TB, server *databases.Server) *db {
	t.Helper()
	if server == nil {
		server = databases.SharedPostgres(t)
	}
	d := &db{TB: t, dsn: server.Database(t)}
	d.pool = d.connect("")
	d.exec("CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0))")
	d.exec("INSERT INTO accounts VALUES ('a', 100), ('b', 100)")
	return d
}

// connect gives a pool with settings beside the DSN's.
func (d *db) connect(settings string) *pgxpool.Pool {
	d.Helper()
	pool, err := pgxpool.New(context.Background(), d.dsn+"&pool_max_conns=16"+settings)
	must(d, err)
	d.Cleanup(pool.Close)
	return pool
}

func (d *db) exec(statement string, arguments ...any) {
	d.Helper()
	_, err := d.pool.Exec(d.Context(), statement, arguments...)
	must(d, err)
}

// number gives a query's only value.
func (d *db) number(query string, arguments ...any) (n int) {
	d.Helper()
	must(d, d.pool.QueryRow(d.Context(), query, arguments...).Scan(&n))
	return n
}

func (d *db) balance(account string) int {
	d.Helper()
	return d.number("SELECT balance FROM accounts WHERE id = $1", account)
}

// held counts what is prepared.
func (d *db) held() int {
	d.Helper()
	return d.number("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
}

// store opens a Store of the bank; change may set it up otherwise.
func (d *db) store(change func(*Config)) *Store {
	d.Helper()
	cfg := Config{Name: "bank", Do: bank, LockTimeout: 100 * time.Millisecond, Log: testLog()}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(d.Context(), d.pool, cfg)
	must(d, err)
	return s
}

func testLog() *logrus.Logger {
	log := logrus.New()
	log.SetLevel(logrus.ErrorLevel)
	log.SetOutput(os.Stderr)
	return log
}

// branch is one with an operation for each transfer.
func branch(transfers ...transfer) *participant.Branch {
	b := &participant.Branch{Tx: messages.NewID(), Expires: time.Now().Add(time.Minute)}
	for _, t := range transfers {
		payload, err := json.Marshal(t)
		if err != nil {
			panic(err)
		}
		b.Operations = append(b.Operations, messages.Operation{Payload: payload})
	}
	return b
}

func keyed(b *participant.Branch, exclusive, shared []string) *participant.Branch {
	b.Operations[0].Keys, b.Operations[0].Shared = exclusive, shared
	return b
}

// prepare wants a vote.
func prepare(t testing.TB, s *Store, b *participant.Branch, want participant.Vote) {
	t.Helper()
	vote, err := s.Prepare(t.Context(), b)
	if err != nil || vote != want {
		t.Fatalf("Prepare: %v, %v: want %v", vote, err, want)
	}
}

// refuse wants an error that is one, and not another, and gives its text.
func refuse(t testing.TB, s *Store, b *participant.Branch, is, not error) string {
	t.Helper()
	vote, err := s.Prepare(t.Context(), b)
	if err == nil || is != nil && !errors.Is(err, is) || not != nil && errors.Is(err, not) {
		t.Fatalf("Prepare: %v, %v: want an error that is %v and not %v", vote, err, is, not)
	}
	return err.Error()
}
