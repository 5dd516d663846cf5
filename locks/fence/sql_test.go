// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"database/sql"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/assent-tx/assent/locks"
)

// openSQLite gives a database in a file, whose writers wait for each other.
func openSQLite(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(t.TempDir(), "test.db"))+"?_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	must(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

// check runs Check in a transaction of its own, which it commits if the token is accepted.
func check(t testing.TB, db *sql.DB, fences SQL, key string, token locks.Token) error {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	if err := fences.Check(t.Context(), tx, key, token); err != nil {
		must(t, tx.Rollback())
		return err
	}
	must(t, tx.Commit())
	return nil
}

func TestSQLRefusesOlderTokens(t *testing.T) {
	for _, table := range []string{"", "my_fences", "main.fences2"} {
		db, fences := openSQLite(t), SQL{Dialect: SQLite, Table: table}
		must(t, fences.Create(t.Context(), db))
		must(t, fences.Create(t.Context(), db)) // again does no harm
		must(t, check(t, db, fences, "a", token(0x1f)))
		must(t, check(t, db, fences, "a", token(0x1f)))
		must(t, check(t, db, fences, "A", token(1))) // another key
		must(t, check(t, db, fences, "a", token(0x100)))
		wantStale(t, check(t, db, fences, "a", token(0xff)), "a", token(0xff), token(0x100))
		newer := locks.Token{Incarnation: 8, Sequence: 1}
		must(t, check(t, db, fences, "a", newer))
		wantStale(t, check(t, db, fences, "a", token(0x1000)), "a", token(0x1000), newer)
		wantStale(t, check(t, db, fences, "A", locks.Token{Sequence: 9}), "A", locks.Token{Sequence: 9}, token(1))
	}
}

// A transaction that is rolled back has done nothing, also at the fence.
func TestSQLGoesWithItsTransaction(t *testing.T) {
	db, fences := openSQLite(t), SQL{Dialect: SQLite}
	must(t, fences.Create(t.Context(), db))
	must(t, check(t, db, fences, "a", token(1)))
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	must(t, fences.Check(t.Context(), tx, "a", token(3)))
	wantStale(t, fences.Check(t.Context(), tx, "a", token(2)), "a", token(2), token(3))
	must(t, tx.Rollback())
	must(t, check(t, db, fences, "a", token(2)))
}

// Holders that write concurrently, some late: what took effect, in the order of the database, has tokens that never decrease.
// The first transactions of a key meet too.
func TestSQLConcurrently(t *testing.T) {
	db, fences := openSQLite(t), SQL{Dialect: SQLite}
	must(t, fences.Create(t.Context(), db))
	_, err := db.ExecContext(t.Context(), `CREATE TABLE effects (id INTEGER PRIMARY KEY AUTOINCREMENT, token INTEGER)`)
	must(t, err)
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 50 {
				if err := writeEffect(t, db, fences, 1+rand.IntN(200)); err != nil && !errors.Is(err, ErrStale) {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	rows, err := db.QueryContext(t.Context(), `SELECT token FROM effects ORDER BY id`)
	must(t, err)
	defer rows.Close()
	var accepted []int
	for rows.Next() {
		var n int
		must(t, rows.Scan(&n))
		accepted = append(accepted, n)
	}
	must(t, rows.Err())
	wantAscending(t, accepted)
}

// writeEffect is what an application does: check, act, commit.
func writeEffect(t testing.TB, db *sql.DB, fences SQL, n int) error {
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		return err
	}
	err = fences.Check(t.Context(), tx, "a", token(n))
	if err == nil {
		_, err = tx.ExecContext(t.Context(), `INSERT INTO effects (token) VALUES (?)`, n)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func TestSQLRefusesBadInput(t *testing.T) {
	db, fences := openSQLite(t), SQL{Dialect: SQLite}
	must(t, fences.Create(t.Context(), db))
	for _, key := range []string{"", "a\x00b", "\xff", strings.Repeat("k", maxSQLKey+1)} {
		wantError(t, check(t, db, fences, key, token(1)), ErrInvalid)
	}
	must(t, check(t, db, fences, strings.Repeat("k", maxSQLKey), token(1)))
	must(t, check(t, db, fences, "'; DROP TABLE assent_fences; --", token(1)))
	wantError(t, check(t, db, fences, "a", locks.Token{}), ErrInvalid)
	for _, bad := range []SQL{{}, {Dialect: 4}, {Dialect: SQLite, Table: "a b"}, {Dialect: MySQL, Table: "x;"}, {Dialect: Postgres, Table: "a.b.c"}} {
		wantError(t, bad.Create(t.Context(), db), ErrInvalid)
		wantError(t, check(t, db, bad, "a", token(1)), ErrInvalid)
	}
	// A table that somebody else has written into is not taken for an answer.
	_, err := db.ExecContext(t.Context(), `INSERT INTO assent_fences VALUES ('a', 'zzz')`)
	must(t, err)
	if err := check(t, db, fences, "a", token(1)); err == nil || errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "something else than a token") {
		t.Errorf("got %v", err)
	}
	// Nor is a table that is not there.
	if err := check(t, db, SQL{Dialect: SQLite, Table: "nowhere"}, "a", token(1)); err == nil || errors.Is(err, ErrStale) {
		t.Errorf("got %v", err)
	}
}

// The statements for the other databases, which CI does not run; doc.go says which of them were run by hand.
func TestSQLOfOtherDialects(t *testing.T) {
	for _, test := range []struct {
		fences SQL
		want   sqlText
	}{
		{SQL{Dialect: Postgres, Table: "app.fences"}, sqlText{
			create: `CREATE TABLE IF NOT EXISTS app.fences (name text COLLATE "C" NOT NULL PRIMARY KEY, token text COLLATE "C" NOT NULL)`,
			raise:  `INSERT INTO app.fences AS f (name, token) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE f.token COLLATE "C" <= excluded.token COLLATE "C"`,
			read:   `SELECT token FROM app.fences WHERE name = $1`,
		}},
		{SQL{Dialect: MySQL}, sqlText{
			create: `CREATE TABLE IF NOT EXISTS assent_fences (name VARBINARY(1024) NOT NULL PRIMARY KEY, token CHAR(33) CHARACTER SET ascii COLLATE ascii_bin NOT NULL) ENGINE=InnoDB`,
			raise:  `INSERT INTO assent_fences (name, token) VALUES (?, ?) ON DUPLICATE KEY UPDATE token = IF(token < ?, ?, token)`,
			read:   `SELECT token FROM assent_fences WHERE name = ? FOR UPDATE`,
		}},
	} {
		got, err := test.fences.statements()
		must(t, err)
		if *got != test.want {
			t.Errorf("got %+v\nwant %+v", *got, test.want)
		}
	}
}

// A driver that is not database/sql's runs the statements itself, and gets the same answers.
func TestSQLCheckBy(t *testing.T) {
	db, fences := openSQLite(t), SQL{Dialect: SQLite}
	statement, err := fences.CreateStatement()
	must(t, err)
	_, err = db.ExecContext(t.Context(), statement)
	must(t, err)
	query := func(statement string, arguments ...any) (values []string, err error) {
		rows, err := db.QueryContext(t.Context(), statement, arguments...)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var value string
			if err := rows.Scan(&value); err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		return values, rows.Err()
	}
	must(t, fences.CheckBy(query, "a", token(0x1f)))
	must(t, fences.CheckBy(query, "a", token(0x1f)))
	must(t, check(t, db, fences, "a", token(0x100)))
	wantStale(t, fences.CheckBy(query, "a", token(0xff)), "a", token(0xff), token(0x100))
	for _, bad := range []struct {
		fences SQL
		key    string
		token  locks.Token
	}{{fences, "", token(1)}, {fences, "a", locks.Token{}}, {SQL{Dialect: MySQL}, "a", token(1)}, {SQL{}, "a", token(1)}} {
		if err := bad.fences.CheckBy(query, bad.key, bad.token); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
