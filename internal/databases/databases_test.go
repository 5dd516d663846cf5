// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		parent()
	}
	if err := mysql.SetLogger(&mysql.NopLogger{}); err != nil { // that a server was killed is no news
		panic(err)
	}
	goleak.VerifyTestMain(Main(m))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// both are the servers, and the drivers that speak to them.
var both = []struct {
	driver string
	own    func(TB, ...string) *Server
	shared func(TB) *Server
	start  func(string, ...string) (*Server, error)
}{
	{"pgx", Postgres, SharedPostgres, StartPostgres},
	{"mysql", MariaDB, SharedMariaDB, StartMariaDB},
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func do(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	must(t, err)
}

func count(t testing.TB, db *sql.DB, query string) (n int) {
	t.Helper()
	must(t, db.QueryRowContext(t.Context(), query).Scan(&n))
	return n
}

// A server that starts removes what looks like temporary tables, so it must not look where another one may have some.
func TestTemporaryTablesOfOthers(t *testing.T) {
	shared, err := os.MkdirTemp("", "assent-") //nolint:usetesting // its parent would be for this user only
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(shared)) })
	must(t, giveTo(shared))
	t.Setenv("TMPDIR", shared)
	others := filepath.Join(shared, "#sql-temptable-1-1-1.MAI")
	must(t, os.WriteFile(others, nil, 0o600))
	for _, kind := range both {
		kind.own(t)
		if _, err := os.Stat(others); err != nil {
			t.Errorf("%s: %v", kind.driver, err)
		}
	}
}

// What was committed survives every end, and the address stays.
func TestKillStopAndStart(t *testing.T) {
	for _, kind := range both {
		t.Run(kind.driver, func(t *testing.T) {
			t.Parallel()
			s := kind.own(t)
			dsn := s.Database(t)
			db := open(t, kind.driver, dsn)
			do(t, db, "CREATE TABLE t (n int)")
			do(t, db, "INSERT INTO t VALUES (1)")
			must(t, s.Kill())
			must(t, s.Kill()) // again is nothing
			if db.PingContext(t.Context()) == nil {
				t.Fatal("a killed server answers")
			}
			must(t, s.Start())
			if err := s.Start(); err == nil {
				t.Fatal("a server that runs was started again")
			}
			db = open(t, kind.driver, dsn)
			do(t, db, "INSERT INTO t VALUES (2)")
			must(t, s.Stop())
			must(t, s.Stop())
			must(t, s.Start())
			if n := count(t, open(t, kind.driver, dsn), "SELECT count(*) FROM t"); n != 2 {
				t.Fatalf("%d rows are left of 2", n)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := Postgres(t, "max_prepared_transactions=7", "fsync=off")
	if n := count(t, open(t, "pgx", s.DSN("postgres")), "SELECT setting::int FROM pg_settings WHERE name = 'max_prepared_transactions'"); n != 7 {
		t.Errorf("max_prepared_transactions is %d", n)
	}
	for _, kind := range both {
		if s, err := kind.start("", "no_such_setting=1"); err == nil {
			t.Errorf("%s started with a setting that does not exist", kind.driver)
			must(t, s.Close())
		} else if !strings.Contains(err.Error(), "no_such_setting") {
			t.Errorf("the error does not say why: %v", err)
		}
	}
}

// The data of a folder that the caller chose stays, and a later server takes it up.
func TestAFolderOfTheCaller(t *testing.T) {
	for _, kind := range both {
		t.Run(kind.driver, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "assent-test-") //nolint:usetesting // within reach of the user nobody, which t.TempDir is not
			must(t, err)
			t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
			for n := range 2 {
				s, err := kind.start(dir)
				must(t, err)
				if n == 0 {
					must(t, s.CreateDatabase(t.Context(), "kept"))
				}
				db := open(t, kind.driver, s.DSN("kept"))
				do(t, db, "CREATE TABLE t"+[]string{"a", "b"}[n]+" (n int)")
				if n == 1 {
					count(t, db, "SELECT count(*) FROM ta")
				}
				must(t, db.Close())
				sockets := s.sockets
				must(t, s.Close())
				if _, err := os.Stat(sockets); !os.IsNotExist(err) {
					t.Errorf("the socket's folder is left: %v", err)
				}
			}
		})
	}
}

// Tests of one binary share a server, and have databases of their own.
func TestShared(t *testing.T) {
	for _, kind := range both {
		s := kind.shared(t)
		if kind.shared(t) != s {
			t.Errorf("%s: two servers", kind.driver)
		}
		for range 2 {
			do(t, open(t, kind.driver, s.Database(t)), "CREATE TABLE t (n int)")
		}
		if err := s.CreateDatabase(t.Context(), "test1"); err == nil {
			t.Errorf("%s: a database that is there was made again", kind.driver)
		}
	}
}

// talker is a TB that notes what a test would end with.
type talker struct {
	testing.TB
	skipped, failed string
}

func (t *talker) Skipf(format string, _ ...any)  { t.skipped = format; panic(t) }
func (t *talker) Fatalf(format string, _ ...any) { t.failed = format; panic(t) }

func TestWithoutPrograms(t *testing.T) {
	_, err := find("no-such-database", postgresMissing)
	if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Fatalf("the error does not say what to do: %v", err)
	}
	for _, required := range []string{"", "required"} {
		t.Setenv("ASSENT_DATABASES", required)
		to := &talker{TB: t}
		func() {
			defer func() { _ = recover() }()
			missing(to, err)
		}()
		if required == "" && to.skipped == "" || required != "" && to.failed == "" {
			t.Errorf("ASSENT_DATABASES=%q: skipped %q, failed %q", required, to.skipped, to.failed)
		}
	}
}

// Where a version of a system is chosen, it is the newest.
func TestVersion(t *testing.T) {
	if v := version("/usr/lib/postgresql/15/bin/initdb"); v != 15 {
		t.Errorf("version %d", v)
	}
	if v := version("/usr/sbin/mariadbd"); v != 0 {
		t.Errorf("version %d", v)
	}
}
