// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/assent-tx/assent/internal/databases"
)

func TestOpenRefusesBadInput(t *testing.T) {
	db := onSQLite.open(t)
	good := onSQLite.config(&calls{})
	for _, test := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Name = "" }, "Name"},
		{func(c *Config) { c.Name = "a.b" }, "Name"},
		{func(c *Config) { c.Try = nil }, "Try"},
		{func(c *Config) { c.Dialect = 0 }, "Dialect 0"},
		{func(c *Config) { c.Dialect = 9 }, "Dialect 9"},
		{func(c *Config) { c.Isolation = sql.LevelReadCommitted }, "SQLite is always serializable"},
		{func(c *Config) { c.Patience = -1 }, "Patience"},
		{func(c *Config) { c.Keep = 100 * 365 * 24 * time.Hour }, "Keep"},
		{func(c *Config) { c.NoSchema = true }, "table assent_branches"},
		{func(c *Config) { c.Dialect = MySQL }, "sqlstore"},
	} {
		cfg := good
		test.change(&cfg)
		if _, err := Open(t.Context(), db, cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
	for _, d := range []Dialect{Postgres, MySQL} { // another database than it is said to be
		cfg := good
		cfg.Dialect = d
		_, err := Open(t.Context(), reopenShop(t, onSQLite, onSQLite.open(t)).db, cfg)
		if err == nil || !strings.Contains(err.Error(), "is this") {
			t.Errorf("got %v", err)
		}
	}
	if Schema(0) != nil {
		t.Error("there is a schema for no dialect")
	}
}

// Tables that an administrator made are used as they are; several instances that begin at once make them once.
func TestSchema(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		db := on.open(t)
		for range 2 {
			for _, statement := range Schema(on.dialect) {
				exec(t, db, statement)
			}
		}
		makeStock(t, db, "widget")
		s := reopenShop(t, on, db, func(cfg *Config) { cfg.NoSchema = true })
		s.wantYes(t, take("widget", 1, "a"))

		db = on.open(t)
		errs := make(chan error)
		for range 4 {
			go func() {
				_, err := Open(context.Background(), db, on.config(&calls{}))
				errs <- err
			}()
		}
		for range 4 {
			must(t, <-errs)
		}
	})
}

// What is only unwise is said.
func TestWarnings(t *testing.T) {
	open := func(driver, dsn string, on *system) (string, error) {
		db, err := sql.Open(driver, dsn)
		must(t, err)
		defer db.Close()
		var logged logs
		cfg := on.config(&calls{})
		cfg.Log = logged.logger()
		_, err = Open(t.Context(), db, cfg)
		return logged.String(), err
	}
	want := func(logged string, err error, warnings ...string) {
		t.Helper()
		must(t, err)
		if len(warnings) == 0 && logged != "" {
			t.Errorf("logged: %s", logged)
		}
		for _, text := range warnings {
			if !strings.Contains(logged, text) {
				t.Errorf("not logged: %q, but %s", text, logged)
			}
		}
	}
	file := func() string { return "file:" + filepath.ToSlash(filepath.Join(t.TempDir(), "test.db")) }
	logged, err := open("sqlite", file()+"?_pragma=busy_timeout(1000)&_pragma=journal_mode(wal)", onSQLite)
	want(logged, err)
	logged, err = open("sqlite", file()+"?_pragma=synchronous(normal)", onSQLite)
	want(logged, err, "synchronous is NORMAL", "journal_mode is delete", "busy_timeout is 0")
	logged, err = open("sqlite", file()+"?_pragma=synchronous(off)", onSQLite)
	want(logged, err, "synchronous is OFF")
	logged, err = open("sqlite", "file::memory:", onSQLite)
	want(logged, err, "in memory")
	if _, err = open("sqlite", file()+"?_pragma=journal_mode(off)", onSQLite); err == nil || !strings.Contains(err.Error(), "journal_mode is off") {
		t.Errorf("got %v; logged %s", err, logged)
	}

	cfg, err := mysql.ParseDSN(databases.SharedMariaDB(t).Database(t))
	must(t, err)
	cfg.Params = map[string]string{"innodb_lock_wait_timeout": "1"}
	logged, err = open("mysql", cfg.FormatDSN(), onMariaDB)
	want(logged, err)
	cfg.Params = map[string]string{"sql_mode": "''"}
	logged, err = open("mysql", cfg.FormatDSN(), onMariaDB)
	want(logged, err, "is not strict", "innodb_lock_wait_timeout is 50 s")

	dsn := postgresDSN(t)
	logged, err = open("pgx", dsn, onPostgres)
	want(logged, err)
	logged, err = open("pgx", dsn+"&synchronous_commit=off", onPostgres)
	want(logged, err, "synchronous_commit is off")
	if _, err = open("pgx", dsn+"&default_transaction_read_only=on", onPostgres); err == nil || !strings.Contains(err.Error(), "takes no writes") {
		t.Errorf("got %v", err)
	}
}

// A table that is not InnoDB's takes part in no transaction.
func TestEngine(t *testing.T) {
	db := onMariaDB.open(t)
	reopenShop(t, onMariaDB, db)
	exec(t, db, `ALTER TABLE assent_keys ENGINE=Aria`)
	if _, err := Open(t.Context(), db, onMariaDB.config(&calls{})); err == nil || !strings.Contains(err.Error(), "ALTER TABLE assent_keys ENGINE=InnoDB") {
		t.Errorf("got %v", err)
	}
}

// Rows that a newer version or a hand wrote are not guessed at.
func TestDamagedRows(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		b, other := take("widget", 1), take("widget", 1)
		s.wantYes(t, b)
		exec(t, s.db, `UPDATE assent_branches SET state = 'undecided'`)
		for _, err := range []error{s.Commit(t.Context(), b.Tx), s.Rollback(t.Context(), b.Tx), prepare(t.Context(), s, b)} {
			wantFailure(t, err)
		}
		for _, text := range []string{`{}`, string(s.record(other))} {
			exec(t, s.db, numbered(on.dialect, `UPDATE assent_branches SET state = 'tried', branch = ?`), []byte(text))
			wantFailure(t, s.Commit(t.Context(), b.Tx))
			_, err := s.InDoubt(t.Context())
			wantFailure(t, err)
		}
		exec(t, s.db, `UPDATE assent_branches SET tx = 'x'`)
		_, err := s.InDoubt(t.Context())
		wantFailure(t, err)
		s.wantStock(t, "widget", 9, 1, 0)
	})
}
