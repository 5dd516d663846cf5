// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/participant"
)

// scene is a call of the handler, the state before and after it, and the stock.
type scene struct {
	name          string
	before, after string
	stock         map[string][2]int64 // available and reserved of the 10 widgets in each state
	// lead brings the branch into the state before.
	lead func(t *testing.T, s *shop, b *participant.Branch)
	call func(ctx context.Context, s *shop, b *participant.Branch) error
}

func prepare(ctx context.Context, s *shop, b *participant.Branch) error {
	_, err := s.Prepare(ctx, b)
	return err
}

func commit(ctx context.Context, s *shop, b *participant.Branch) error { return s.Commit(ctx, b.Tx) }
func rollback(ctx context.Context, s *shop, b *participant.Branch) error {
	return s.Rollback(ctx, b.Tx)
}

var scenes = []scene{
	{
		"prepare", "", tried, map[string][2]int64{"": {10, 0}, tried: {7, 3}},
		func(*testing.T, *shop, *participant.Branch) {}, prepare,
	},
	{
		"commit", tried, confirmed, map[string][2]int64{tried: {7, 3}, confirmed: {7, 0}},
		func(t *testing.T, s *shop, b *participant.Branch) { s.wantYes(t, b) }, commit,
	},
	{
		"rollback", tried, cancelled, map[string][2]int64{tried: {7, 3}, cancelled: {10, 0}},
		func(t *testing.T, s *shop, b *participant.Branch) { s.wantYes(t, b) }, rollback,
	},
	{
		"rollback of nothing", "", cancelled, map[string][2]int64{"": {10, 0}, cancelled: {10, 0}},
		func(*testing.T, *shop, *participant.Branch) {}, rollback,
	},
}

// A crash before and after everything that goes to the database, in each call: what is left is the state before or the state
// after, with the stock and the keys that belong to it, and the call repeated brings the state after.
func TestCrashAtEachStep(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		dsn := on.dsn(t)
		db := on.openAt(t, dsn)
		makeStock(t, db, "widget")
		s := reopenShop(t, on, db)
		tapped, tap := on.openTapped(t, dsn)
		crashing := reopenShop(t, on, tapped)
		for _, scene := range scenes {
			steps := 0
			for crash := 0; crash <= steps; crash++ { // the first has no crash, and counts
				exec(t, db, `UPDATE stock SET available = 10, reserved = 0`)
				b := take("widget", 3, "a")
				scene.lead(t, s, b)
				if crash == 0 {
					tap.set(nil)
				} else {
					tap.set(crashAt(crash - 1))
				}
				err := scene.call(t.Context(), crashing, b)
				taken := tap.taken()
				if crash == 0 {
					steps = len(taken)
					must(t, err)
				} else if err == nil {
					t.Fatalf("%s did not notice a crash at %q", scene.name, taken[crash-1])
				}
				scene.wantLeft(t, s, b)
				scene.again(t, s, b)
				must(t, s.Rollback(t.Context(), b.Tx))
				if n := s.count(t, "assent_keys"); n != 0 {
					t.Fatalf("%s, crash %d: %d keys are held when all is over", scene.name, crash, n)
				}
			}
			if steps < 8 { // BEGIN, look, write, COMMIT
				t.Errorf("%s has %d steps only: %v", scene.name, steps, tap.taken())
			}
		}
	})
}

// again repeats the call, as the SDK does, until it succeeds: the database may take a moment to see that a connection is gone.
func (c *scene) again(t *testing.T, s *shop, b *participant.Branch) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := c.call(ctx, s, b)
		if err == nil {
			break
		}
		if ctx.Err() != nil || errors.Is(err, participant.ErrRefused) || errors.Is(err, participant.ErrHeuristic) {
			t.Fatalf("%s again: %v", c.name, err)
		}
	}
	s.wantState(t, b.Tx, c.after)
	c.wantLeft(t, s, b)
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// wantLeft checks that the stock and the keys are what the state says.
func (c *scene) wantLeft(t *testing.T, s *shop, b *participant.Branch) {
	t.Helper()
	state := s.state(t, b.Tx)
	stock, ok := c.stock[state]
	if !ok {
		t.Fatalf("%s left the state %q", c.name, state)
	}
	s.wantStock(t, "widget", stock[0], stock[1], 0)
	if n := s.count(t, "assent_keys"); (n == 1) != (state == tried) {
		t.Fatalf("%s left the state %q with %d keys", c.name, state, n)
	}
}

// The database itself is killed, with SIGKILL, at each step of a prepare and of a commit, and started again.
func TestKillMariaDB(t *testing.T) { killAtEachStep(t, onMariaDB, databases.MariaDB(t)) }

// PostgreSQL does not sync, which is what most of its recovery would do: what a crash of the machine would leave is not what is tested.
func TestKillPostgres(t *testing.T) {
	killAtEachStep(t, onPostgres, databases.Postgres(t, "fsync=off"))
}

// killAtEachStep kills the server before what is sent at each step. In short mode it does so before each COMMIT and after it.
func killAtEachStep(t *testing.T, on *system, server *databases.Server) {
	dsn := server.Database(t)
	if on == onMariaDB {
		dsn = mariaDSN(t, dsn)
	}
	tapped, tap := on.openTapped(t, dsn)
	makeStock(t, tapped, "widget")
	s := reopenShop(t, on, tapped)
	kills := 0
	for _, scene := range scenes[:2] {
		var steps []string
		for n := -1; n < len(steps); n++ {
			// After a statement is the same as before the next one.
			if n >= 0 && !strings.Contains(steps[n], "COMMIT") && (testing.Short() || strings.HasPrefix(steps[n], "after")) {
				continue
			}
			exec(t, tapped, `UPDATE stock SET available = 10, reserved = 0`)
			b := take("widget", 3, "a")
			scene.lead(t, s, b)
			passed := 0
			tap.set(func(string) error {
				if passed++; passed == n+1 {
					return server.Kill()
				}
				return nil
			})
			err := scene.call(t.Context(), s, b)
			if n < 0 {
				must(t, err)
				steps = tap.taken()
			}
			tap.set(nil)
			if n >= 0 {
				kills++
				must(t, server.Start())
			}
			scene.wantLeft(t, s, b)
			scene.again(t, s, b)
			must(t, s.Rollback(t.Context(), b.Tx))
		}
	}
	if kills < 4 {
		t.Errorf("the server was killed %d times only", kills)
	}
}

// A backup is put back: what was in doubt when it was taken is in doubt again, and is finished by its outcome as often as it
// takes. Of what came later the database knows nothing: a commit of that is reported, not taken for a repeated one.
func TestOldBackup(t *testing.T) {
	on := onSQLite
	s := openShop(t, on)
	b, later := take("widget", 3, "a"), take("widget", 1, "b")
	forgotten := take("widget", 1)
	forgotten.Tx = minted(time.Now().Add(-time.Hour))
	s.wantYes(t, forgotten)
	must(t, s.Commit(t.Context(), forgotten.Tx))
	exec(t, s.db, `UPDATE assent_branches SET forget = 1 WHERE tx = '`+forgotten.Tx.String()+`'`)
	if n, err := s.Reap(t.Context()); n != 1 || err != nil {
		t.Fatalf("reaped %d, %v", n, err)
	}
	s.wantYes(t, b)
	backup := t.TempDir() + "/backup.db"
	exec(t, s.db, `VACUUM INTO '`+backup+`'`)
	s.wantYes(t, later)
	must(t, s.Commit(t.Context(), b.Tx))
	must(t, s.Commit(t.Context(), later.Tx))
	remembers(t, s, true, forgotten, b, later)

	db, err := sql.Open("sqlite", "file:"+backup)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	s = reopenShop(t, on, db)
	doubts, err := s.InDoubt(t.Context())
	if err != nil || len(doubts) != 1 || doubts[0].Tx != b.Tx {
		t.Fatalf("in doubt are %v, %v", doubts, err)
	}
	remembers(t, s, true, forgotten, b)
	remembers(t, s, false, later)
	must(t, s.Commit(t.Context(), forgotten.Tx))
	must(t, s.Commit(t.Context(), b.Tx))
	s.wantStock(t, "widget", 6, 0, 0)
	wantError(t, s.Commit(t.Context(), later.Tx), participant.ErrHeuristic, "restored from a backup")
	s.wantStock(t, "widget", 6, 0, 0)
}

// remembers asks the store for branches.
func remembers(t *testing.T, s *shop, want bool, branches ...*participant.Branch) {
	t.Helper()
	for _, b := range branches {
		if got, err := s.Remembers(t.Context(), b.Tx); got != want || err != nil {
			t.Errorf("remembers %s: %v, %v; want %v", b.Tx, got, err, want)
		}
	}
}
