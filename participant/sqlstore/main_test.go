// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestMain(m *testing.M) {
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // that a server was killed is no news
		panic(err)
	}
	goleak.VerifyTestMain(databases.Main(m), goleak.IgnoreCurrent())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Fatalf("got error %v; want %v with %q", err, want, text)
	}
}

// system is a database that the tests run on.
type system struct {
	name    string
	dialect Dialect
	driver  string
	// dsn gives a new, empty database.
	dsn func(t testing.TB) string
}

var (
	onSQLite   = &system{"sqlite", SQLite, "sqlite", sqliteDSN}
	onMariaDB  = &system{"mariadb", MySQL, "mysql", func(t testing.TB) string { return mariaDSN(t, databases.SharedMariaDB(t).Database(t)) }}
	onPostgres = &system{"postgres", Postgres, "pgx", postgresDSN}
	systems    = []*system{onSQLite, onMariaDB, onPostgres}
	// onOtherMariaDB counts rows that stay as they are, and puts arguments into the statements: settings of the connection.
	onOtherMariaDB = &system{"mariadb, other settings", MySQL, "mysql", func(t testing.TB) string {
		return onMariaDB.dsn(t) + "&clientFoundRows=true&interpolateParams=true"
	}}
)

// sqliteDSN does not sync: what a crash of the machine would leave is not what is tested.
func sqliteDSN(t testing.TB) string {
	return "file:" + filepath.ToSlash(filepath.Join(t.TempDir(), "test.db")) +
		"?_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)"
}

func mariaDSN(t testing.TB, dsn string) string {
	cfg, err := mysql.ParseDSN(dsn)
	must(t, err)
	cfg.Params = map[string]string{"innodb_lock_wait_timeout": "1"}
	return cfg.FormatDSN()
}

var schemas atomic.Int64

// postgresDSN gives a schema of its own in the server's database: making a database takes half a second.
func postgresDSN(t testing.TB) string {
	server := databases.SharedPostgres(t)
	name := fmt.Sprint("test", schemas.Add(1))
	db, err := sql.Open("pgx", server.DSN("postgres"))
	must(t, err)
	exec(t, db, "CREATE SCHEMA "+name)
	must(t, db.Close())
	return server.DSN("postgres") + "&search_path=" + name
}

// everywhere runs a test on every database.
func everywhere(t *testing.T, test func(t *testing.T, on *system)) {
	for _, on := range systems {
		t.Run(on.name, func(t *testing.T) { test(t, on) })
	}
}

// open opens a new database with a table of stock, in which there are 10 of each of some.
func (on *system) open(t testing.TB) *sql.DB {
	t.Helper()
	return on.openAt(t, on.dsn(t))
}

func (on *system) openAt(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(on.driver, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxIdleConns(16)
	return db
}

func exec(t testing.TB, db *sql.DB, text string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(context.Background(), text, args...)
	must(t, err)
}

func makeStock(t testing.TB, db *sql.DB, skus ...string) {
	t.Helper()
	exec(t, db, `CREATE TABLE IF NOT EXISTS stock (sku VARCHAR(50) NOT NULL PRIMARY KEY, available BIGINT NOT NULL, reserved BIGINT NOT NULL,`+
		` incoming BIGINT NOT NULL)`)
	for _, sku := range skus {
		exec(t, db, `INSERT INTO stock VALUES ('`+sku+`', 10, 0, 0)`)
	}
}

// order is the payload of the tests' operations.
type order struct {
	SKU    string `json:"sku"`
	Pieces int64  `json:"pieces"`
}

func (on *system) quantity() Quantity {
	return Quantity{Dialect: on.dialect, Table: "stock", ID: "sku", Available: "available", Reserved: "reserved", Incoming: "incoming"}
}

// calls counts the application's functions that ran to their end in a transaction; who rolls back later counts too.
type calls struct {
	mu                     sync.Mutex
	try, confirm, cancel   int
	failTry, failConfirm   error
	seen                   *participant.Branch
	duringTry, duringOther func(ctx context.Context, tx *sql.Tx) error
}

// config is that of a shop which sells by orders.
func (on *system) config(c *calls) Config {
	q := on.quantity()
	counted := func(count *int, during *func(context.Context, *sql.Tx) error, fail *error, do Func) Func {
		return func(ctx context.Context, tx *sql.Tx, b *participant.Branch) error {
			if err := do(ctx, tx, b); err != nil {
				return err
			}
			if *during != nil {
				if err := (*during)(ctx, tx); err != nil {
					return err
				}
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.seen = b
			*count++
			return *fail
		}
	}
	var none error
	return Config{
		Name: "shop", Dialect: on.dialect, Patience: 100 * time.Millisecond,
		Try:     counted(&c.try, &c.duringTry, &c.failTry, Each(func(ctx context.Context, tx *sql.Tx, o order) error { return q.Try(ctx, tx, o.SKU, o.Pieces) })),
		Confirm: counted(&c.confirm, &c.duringOther, &c.failConfirm, Each(func(ctx context.Context, tx *sql.Tx, o order) error { return q.Confirm(ctx, tx, o.SKU, o.Pieces) })),
		Cancel:  counted(&c.cancel, &c.duringOther, &none, Each(func(ctx context.Context, tx *sql.Tx, o order) error { return q.Cancel(ctx, tx, o.SKU, o.Pieces) })),
	}
}

// shop is a store on a database of its own.
type shop struct {
	*Store
	*calls
	on *system
	db *sql.DB
}

func openShop(t testing.TB, on *system, change ...func(*Config)) *shop {
	t.Helper()
	db := on.open(t)
	makeStock(t, db, "widget", "gadget")
	return reopenShop(t, on, db, change...)
}

// reopenShop opens another instance on a database.
func reopenShop(t testing.TB, on *system, db *sql.DB, change ...func(*Config)) *shop {
	t.Helper()
	s := &shop{calls: &calls{}, on: on, db: db}
	cfg := on.config(s.calls)
	for _, change := range change {
		change(&cfg)
	}
	var err error
	s.Store, err = Open(context.Background(), db, cfg)
	must(t, err)
	return s
}

// take is a branch of one order, with keys.
func take(sku string, pieces int64, keys ...string) *participant.Branch {
	return &participant.Branch{
		Tx: messages.NewID(), Expires: time.Now().Add(time.Hour).Truncate(time.Millisecond), Trace: "00-trace",
		Operations: []messages.Operation{{Keys: keys, Payload: fmt.Appendf(nil, `{"sku":%q,"pieces":%d}`, sku, pieces)}},
	}
}

// minted is an id of a time.
func minted(at time.Time) messages.ID {
	id := messages.NewID()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())<<16)
	copy(id[:6], ms[:6])
	return id
}

func (s *shop) wantYes(t testing.TB, b *participant.Branch) {
	t.Helper()
	if vote, err := s.Prepare(context.Background(), b); vote != participant.Yes || err != nil {
		t.Fatalf("prepare: %v, %v; want yes", vote, err)
	}
}

func (s *shop) wantStock(t testing.TB, sku string, available, reserved, incoming int64) {
	t.Helper()
	var a, r, i int64
	must(t, s.db.QueryRowContext(context.Background(), `SELECT available, reserved, incoming FROM stock WHERE sku = '`+sku+`'`).Scan(&a, &r, &i))
	if a != available || r != reserved || i != incoming {
		t.Fatalf("%s: available %d, reserved %d, incoming %d; want %d, %d, %d", sku, a, r, i, available, reserved, incoming)
	}
}

// state is what the row of a transaction says, "" if there is none.
func (s *shop) state(t testing.TB, id messages.ID) (state string) {
	t.Helper()
	err := s.db.QueryRowContext(context.Background(), `SELECT state FROM assent_branches WHERE tx = '`+id.String()+`'`).Scan(&state)
	if !errors.Is(err, sql.ErrNoRows) {
		must(t, err)
	}
	return state
}

func (s *shop) wantState(t testing.TB, id messages.ID, want string) {
	t.Helper()
	if got := s.state(t, id); got != want {
		t.Fatalf("the state is %q, want %q", got, want)
	}
}

func (s *shop) wantCalls(t testing.TB, try, confirm, cancel int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.try != try || s.confirm != confirm || s.cancel != cancel {
		t.Fatalf("Try, Confirm, Cancel were called %d, %d, %d times; want %d, %d, %d", s.try, s.confirm, s.cancel, try, confirm, cancel)
	}
}

func (s *shop) count(t testing.TB, table string) (n int) {
	t.Helper()
	must(t, s.db.QueryRowContext(context.Background(), `SELECT COUNT(*) FROM `+table).Scan(&n))
	return n
}
