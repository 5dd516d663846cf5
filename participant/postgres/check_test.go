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
	if n := d.number("SELECT count(*) FROM other.assent_branches"); n != 1 {
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
	want(true, "there is no table assent_branches")
	d.store(nil) // the owner makes them
	want(true, "GRANT SELECT, INSERT, UPDATE, DELETE ON assent_branches TO "+role)
	d.exec("GRANT SELECT, INSERT, UPDATE, DELETE ON assent_branches TO " + role)
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

// traced notes the statements of a connection.
type traced struct {
	mu         sync.Mutex
	statements []string
}

func (l *traced) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statements = append(l.statements, data.SQL)
	return ctx
}

func (*traced) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (l *traced) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.statements
	l.statements = nil
	return taken
}

// What a branch costs: no more messages than a loop by hand would send, and no more statements than that and the marker (and the
// transaction's lock_timeout, which goes with BEGIN).
func TestStatementsOfABranch(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	log := &traced{}
	config := d.pool.Config()
	config.ConnConfig.Tracer = log
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	d.pool = pool
	s := d.store(nil)
	want := func(what string, prefixes ...string) {
		t.Helper()
		got := log.take()
		if !slices.EqualFunc(got, prefixes, strings.HasPrefix) {
			t.Errorf("%s: %d messages\n%s\nwant\n%s", what, len(got), strings.Join(got, "\n"), strings.Join(prefixes, "\n"))
		}
	}
	log.take()
	b := branch(transfer{"a", 1}, transfer{"b", 1})
	prepare(t, s, b, participant.Yes)
	sent := log.take()
	if statements := strings.Count(strings.Join(sent, ";"), ";") + 1; statements != 6 {
		t.Errorf("%d statements: want BEGIN, SET LOCAL, two of the application, the marker, PREPARE TRANSACTION:\n%s", statements, strings.Join(sent, "\n"))
	}
	if len(sent) != 4 || !strings.HasSuffix(sent[3], "PREPARE TRANSACTION 'assent:bank:"+b.Tx.String()+"'") {
		t.Errorf("%d messages: want BEGIN, two of the application, and the marker with PREPARE TRANSACTION:\n%s", len(sent), strings.Join(sent, "\n"))
	}
	must(t, s.Commit(t.Context(), b.Tx))
	want("commit", "COMMIT PREPARED 'assent:bank:"+b.Tx.String()+"'")
	b = keyed(branch(transfer{"a", 1}), []string{"k"}, []string{"l"})
	prepare(t, s, b, participant.Yes)
	want("with keys", "BEGIN", "SELECT count(*) FROM (SELECT CASE", "UPDATE accounts", "WITH b AS")
	must(t, s.Rollback(t.Context(), b.Tx))
	want("rollback", "ROLLBACK PREPARED 'assent:bank:"+b.Tx.String()+"'")
	s.cfg.Do = func(context.Context, pgx.Tx, *participant.Branch) error { return nil }
	prepare(t, s, branch(transfer{}), participant.ReadOnly)
	want("read-only, for the first time", "BEGIN", "WITH b AS", "ROLLBACK PREPARED")
	prepare(t, s, branch(transfer{}), participant.ReadOnly)
	want("read-only", "BEGIN", "WITH b AS", "ROLLBACK")
}
