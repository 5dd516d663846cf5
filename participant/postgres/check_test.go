// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tx/assent/participant"
)

// A configuration that cannot work is refused before anything is done.
func TestConfig(t *testing.T) {
	t.Parallel()
	good := Config{Name: "bank", Do: bank}
	for field, change := range map[string]func(*Config){
		"Name":        func(c *Config) { c.Name = "a:b" },
		"Do":          func(c *Config) { c.Do = nil },
		"Isolation":   func(c *Config) { c.Isolation = "snapshot; DROP TABLE accounts" },
		"LockTimeout": func(c *Config) { c.LockTimeout = time.Nanosecond },
		"Schema":      func(c *Config) { c.Schema = `x"y` },
		"Keep":        func(c *Config) { c.Keep = time.Second },
		"Concurrency": func(c *Config) { c.Concurrency = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := cfg.withDefaults(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	cfg, err := good.withDefaults()
	must(t, err)
	if cfg.LockTimeout != 2*time.Second || cfg.Keep != 30*time.Minute || cfg.Concurrency != 64 || cfg.Log == nil {
		t.Errorf("defaults: %+v", cfg)
	}
}

// Settings of the server that cannot do are told with what to change.
func TestFacts(t *testing.T) {
	t.Parallel()
	good := facts{User: "app", Version: 150018, Places: 256, Fsync: "on", Level: "read committed", Strings: "on", MaxConnections: 100}
	cfg, err := (Config{Name: "bank", Do: bank}).withDefaults()
	must(t, err)
	must(t, good.check(&cfg, 16))
	for want, change := range map[string]func(*facts){
		"want 13": func(f *facts) { f.Version = 120022 },
		"ALTER SYSTEM SET max_prepared_transactions = 256; and restart": func(f *facts) { f.Places = 0 },
		"less than the 64":            func(f *facts) { f.Places = 63 },
		"standby":                     func(f *facts) { f.Recovering = true },
		"pool_max_conns":              func(f *facts) { f.MaxConnections = 15 },
		"standard_conforming_strings": func(f *facts) { f.Strings = "off" },
	} {
		f := good
		change(&f)
		if err := f.check(&cfg, 16); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// Several instances may open at once, for the first time.
func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	d.exec("CREATE SCHEMA other")
	for _, schema := range []string{"", "other"} {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := Open(context.Background(), d.pool, Config{Name: "bank", Do: bank, Schema: schema}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	s := d.store(func(cfg *Config) { cfg.Schema = "other" })
	b := branch(transfer{"a", 1})
	prepare(t, s, b, participant.Yes)
	must(t, s.Commit(t.Context(), b.Tx))
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 1))
	if n := d.number("SELECT count(*) FROM other.assent_markers"); n != 1 {
		t.Errorf("%d markers in the schema", n)
	}
}

// A role without rights is told which ones it lacks, and needs no others than those.
func TestPermissions(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	name := d.pool.Config().ConnConfig.Database
	role := name + "_app"
	d.exec("CREATE ROLE " + role + " LOGIN")
	config := d.pool.Config()
	config.ConnConfig.User = role
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	open := func(noCreate bool) (*Store, error) {
		return Open(t.Context(), pool, Config{Name: "bank", Do: bank, NoCreate: noCreate})
	}
	want := func(noCreate bool, text string) {
		t.Helper()
		if _, err := open(noCreate); err == nil || !strings.Contains(err.Error(), text) {
			t.Fatalf("want %q: %v", text, err)
		}
	}
	want(false, "GRANT CREATE ON SCHEMA public TO "+role)
	want(true, "there is no table assent_markers")
	d.store(nil) // the owner makes them
	want(true, "GRANT SELECT, INSERT, UPDATE, DELETE ON assent_markers TO "+role)
	d.exec("GRANT SELECT, INSERT, UPDATE, DELETE ON assent_markers TO " + role)
	d.exec("GRANT SELECT, INSERT ON assent_watermarks TO " + role)
	want(true, "GRANT UPDATE, DELETE ON assent_watermarks TO "+role)
	d.exec("GRANT ALL ON assent_watermarks, assent_fences, accounts TO " + role)
	s, err := open(true)
	must(t, err)
	b, undone := branch(transfer{"a", 1}), branch(transfer{"b", 1})
	prepare(t, s, b, participant.Yes)
	prepare(t, s, undone, participant.Yes)
	must(t, s.Commit(t.Context(), b.Tx))
	must(t, s.Rollback(t.Context(), undone.Tx))
}

// One connection cannot both prepare and commit.
func TestPoolOfOne(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	if _, err := Open(t.Context(), d.connect("&pool_max_conns=1"), Config{Name: "bank", Do: bank}); err == nil || !strings.Contains(err.Error(), "pool_max_conns=2") {
		t.Fatal(err)
	}
}

// wire notes the messages of a connection.
type wire struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// take gives what was sent since the last time: the statements' texts, the names of prepared ones, and a "|" for each time that an answer was
// waited for.
func (w *wire) take() (sent []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.text.String()) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if fields[0] == "B" && fields[1] == "ReadyForQuery" {
			sent = append(sent, "|")
		}
		if fields[0] != "F" {
			continue
		}
		switch fields[1] {
		case "Query":
			sent = append(sent, strings.Trim(fields[3], " \"\x00"))
		case "Bind": // "" "name" …
			sent = append(sent, strings.Trim(strings.Split(fields[3], `" "`)[1], `"`))
		case "Parse":
			sent = append(sent, "PARSE "+fields[3])
		}
	}
	w.text.Reset()
	return sent
}

// What a branch costs: the application's statements, and beside them as many as a loop by hand sends, and the marker (and the
// transaction's lock_timeout, which goes with BEGIN, unless the session has it); and no round trip more than the loop.
func TestStatementsOfABranch(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	log := &wire{}
	config := d.connect("&lock_timeout=100").Config()
	config.MinConns, config.MaxConns, config.HealthCheckPeriod = 0, 2, time.Hour
	config.PrepareConn, config.ShouldPing = nil, func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.PgConn().Frontend().Trace(log, pgproto3.TracerOptions{SuppressTimestamps: true})
		return nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	d.pool = pool
	s := d.store(nil)
	for range 2 {
		warm := branch(transfer{"a", 1}, transfer{"b", 1})
		prepare(t, s, warm, participant.Yes)
		must(t, s.Commit(t.Context(), warm.Tx))
	}
	want := func(what string, prefixes ...string) {
		t.Helper()
		got := log.take()
		if !slices.EqualFunc(got, prefixes, strings.HasPrefix) {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(prefixes, "\n"))
		}
	}
	log.take()
	b := branch(transfer{"a", 1}, transfer{"b", 1})
	prepare(t, s, b, participant.Yes)
	gid := "assent:bank:" + b.Tx.String()
	want("prepare", "stmtcache_", "stmtcache_", "|", "stmtcache_", "|", "assent_marker:bank:", `PARSE  "" "PREPARE TRANSACTION '`+gid, "", "|")
	must(t, s.Commit(t.Context(), b.Tx))
	want("commit", "COMMIT PREPARED '"+gid, "|")
	b = keyed(branch(transfer{"a", 1}), []string{"k"}, []string{"l"})
	prepare(t, s, b, participant.Yes)
	want("with keys", "BEGIN READ WRITE; SELECT count(*) FROM (SELECT CASE", "|", "stmtcache_", "|", "assent_marker:bank:", "PARSE ", "", "|")
	must(t, s.Rollback(t.Context(), b.Tx))
	want("rollback", "ROLLBACK PREPARED 'assent:bank:"+b.Tx.String(), "|")
	s.cfg.Do = func(context.Context, pgx.Tx, *participant.Branch) error { return nil }
	prepare(t, s, branch(transfer{}), participant.ReadOnly)
	want("read-only, for the first time", "BEGIN", "|", "assent_marker:", "PARSE ", "", "|", "ROLLBACK PREPARED", "|")
	prepare(t, s, branch(transfer{}), participant.ReadOnly)
	want("read-only", "BEGIN", "|", "assent_marker:", "|", "ROLLBACK", "|")

	s.cfg.LockTimeout = time.Second // which the session does not have
	other, err := Open(t.Context(), pool, s.cfg)
	must(t, err)
	log.take()
	prepare(t, other, branch(transfer{}), participant.ReadOnly)
	if got := log.take(); got[0] != "BEGIN READ WRITE; SET LOCAL lock_timeout = 1000" {
		t.Errorf("the timeout is not set: %s", got[0])
	}
}

// Behind a proxy that mixes sessions there are no prepared statements, and all else is the same.
func TestWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	d.pool = d.connect("&default_query_exec_mode=exec")
	s := d.store(nil)
	if !s.unnamed {
		t.Fatal("the mode was not seen")
	}
	b, undone := branch(transfer{"a", 1}), branch(transfer{"b", 1})
	for range 2 {
		prepare(t, s, b, participant.Yes)
		prepare(t, s, undone, participant.Yes)
	}
	must(t, s.Commit(t.Context(), b.Tx))
	prepare(t, s, b, participant.Yes)
	must(t, s.Rollback(t.Context(), undone.Tx))
	refuse(t, s, branch(transfer{"a", -1000}), participant.ErrRefused, nil)
	s.cfg.Do = func(context.Context, pgx.Tx, *participant.Branch) error { return nil }
	for range 2 {
		prepare(t, s, branch(transfer{}), participant.ReadOnly)
	}
	if n := d.balance("a") + d.held() + d.number("SELECT count(*) FROM pg_prepared_statements"); n != 101 {
		t.Fatalf("%d: want a balance of 101 and nothing else", n)
	}
}
