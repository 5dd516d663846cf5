// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-tx/assent/participant"
)

// onServers are the systems that have several writers.
var onServers = []*system{onMariaDB, onPostgres}

// A deadlock of the database is tried again inside Prepare. Two Trys that lock two rows crosswise, when both have their first.
func TestDeadlock(t *testing.T) {
	for _, on := range onServers {
		t.Run(on.name, func(t *testing.T) {
			s := openShop(t, on, func(cfg *Config) { cfg.Patience = time.Minute })
			var deadlocked sync.WaitGroup
			deadlocked.Add(2)
			q := on.quantity()
			attempts := 0
			var mu sync.Mutex
			s.cfg.Try = func(ctx context.Context, tx *sql.Tx, b *participant.Branch) error {
				var o order
				if err := b.Decode(0, &o); err != nil {
					return err
				}
				second := map[string]string{"widget": "gadget", "gadget": "widget"}[o.SKU]
				if err := q.Try(ctx, tx, o.SKU, 1); err != nil {
					return err
				}
				mu.Lock()
				attempts++
				first := attempts <= 2
				mu.Unlock()
				if first {
					deadlocked.Done()
					deadlocked.Wait()
				}
				return q.Try(ctx, tx, second, 1)
			}
			var running sync.WaitGroup
			for _, sku := range []string{"widget", "gadget"} {
				running.Go(func() {
					if vote, err := s.Prepare(t.Context(), take(sku, 1)); vote != participant.Yes || err != nil {
						t.Errorf("got %v, %v", vote, err)
					}
				})
			}
			running.Wait()
			s.wantStock(t, "widget", 8, 2, 0)
			s.wantStock(t, "gadget", 8, 2, 0)
			if attempts < 3 {
				t.Errorf("there was no deadlock: %d attempts", attempts)
			}
		})
	}
}

// Somebody else holds a row that Try wants for longer than anybody waits: the client hears of a conflict, and why.
func TestLongLock(t *testing.T) {
	for _, on := range onServers {
		t.Run(on.name, func(t *testing.T) {
			s := openShop(t, on)
			other, err := s.db.BeginTx(t.Context(), nil)
			must(t, err)
			_, err = other.ExecContext(t.Context(), `UPDATE stock SET available = 1 WHERE sku = 'widget'`)
			must(t, err)
			_, err = s.Prepare(t.Context(), take("widget", 3))
			wantError(t, err, participant.ErrConflict, map[*system]string{onMariaDB: "1205", onPostgres: "55P03"}[on])
			s.wantYes(t, take("gadget", 1)) // others go on
			must(t, other.Rollback())
			s.wantYes(t, take("widget", 3))
		})
	}
}

// The barrier row itself is locked: another instance may be preparing the same branch, so this one does not say no.
func TestLockedBarrier(t *testing.T) {
	for _, on := range onServers {
		t.Run(on.name, func(t *testing.T) {
			one := openShop(t, on)
			two := reopenShop(t, on, one.db)
			inTry, goOn := make(chan struct{}), make(chan struct{})
			one.duringTry = func(context.Context, *sql.Tx) error {
				close(inTry)
				<-goOn
				return nil
			}
			b := take("widget", 3)
			var running sync.WaitGroup
			running.Go(func() { one.wantYes(t, b) })
			<-inTry
			_, err := two.Prepare(t.Context(), b)
			wantFailure(t, err)
			close(goOn)
			running.Wait()
			two.wantYes(t, b)
			two.wantCalls(t, 0, 0, 0)
			one.wantStock(t, "widget", 7, 3, 0)
		})
	}
}

// SQLite is one writer's: while it is another process's, nothing fails for good, and nothing is refused.
func TestBusySQLite(t *testing.T) {
	dsn := onSQLite.dsn(t)
	db := onSQLite.openAt(t, dsn)
	makeStock(t, db, "widget")
	s := reopenShop(t, onSQLite, onSQLite.openAt(t, strings.Replace(dsn, "busy_timeout(60000)", "busy_timeout(1)", 1)))
	other, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	_, err = other.ExecContext(t.Context(), `UPDATE stock SET available = 9`)
	must(t, err)
	var running sync.WaitGroup
	for range 3 { // together, and alone
		running.Go(func() {
			_, err := s.Prepare(t.Context(), take("widget", 3))
			if err == nil || errors.Is(err, participant.ErrRefused) || errors.Is(err, participant.ErrConflict) {
				t.Errorf("got %v", err)
			}
		})
	}
	running.Wait()
	must(t, other.Commit())
	s.wantYes(t, take("widget", 3))
	s.wantStock(t, "widget", 6, 3, 0)
}

// Who begins has the right to write at once: what it reads then is not old when it comes to writing.
func TestBeginOnSQLite(t *testing.T) {
	dsn := strings.Replace(onSQLite.dsn(t), "busy_timeout(60000)", "busy_timeout(1)", 1)
	db := onSQLite.openAt(t, dsn)
	makeStock(t, db, "widget")
	s := reopenShop(t, onSQLite, db)
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	_, err = tx.ExecContext(t.Context(), s.say.begin)
	must(t, err)
	if _, err := db.ExecContext(t.Context(), `UPDATE stock SET available = 1`); s.judge(err) != inTheWay {
		t.Errorf("another one can write: %v", err)
	}
	must(t, tx.Rollback())
}

// A serialization failure goes away when it is tried again.
func TestSerializationFailure(t *testing.T) {
	s := openShop(t, onPostgres, func(cfg *Config) { cfg.Isolation, cfg.Patience = sql.LevelSerializable, time.Minute })
	met := 0
	s.duringTry = func(ctx context.Context, tx *sql.Tx) error { // somebody else sells a gadget after this one has looked
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT available FROM stock WHERE sku = 'gadget'`).Scan(&n); err != nil {
			return err
		}
		if met++; met == 1 {
			exec(t, s.db, `UPDATE stock SET available = available - 1 WHERE sku = 'gadget'`)
		}
		_, err := tx.ExecContext(ctx, `UPDATE stock SET available = available - 1 WHERE sku = 'gadget'`)
		return err
	}
	s.wantYes(t, take("widget", 3))
	if met != 2 {
		t.Errorf("%d attempts, want 2", met)
	}
	s.wantStock(t, "gadget", 8, 0, 0)
	// One that does not go away is a conflict.
	s.cfg.Patience = 10 * time.Millisecond
	s.duringTry = func(ctx context.Context, tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT available FROM stock WHERE sku = 'gadget'`).Scan(&n); err != nil {
			return err
		}
		exec(t, s.db, `UPDATE stock SET available = available - 1 WHERE sku = 'gadget'`)
		_, err := tx.ExecContext(ctx, `UPDATE stock SET available = available - 1 WHERE sku = 'gadget'`)
		return err
	}
	_, err := s.Prepare(t.Context(), take("widget", 3))
	wantError(t, err, participant.ErrConflict, "40001")
}

// The database is full: that is no refusal, and says what it is; when there is room again all goes on.
func TestFullSQLite(t *testing.T) {
	dsn := onSQLite.dsn(t)
	db := onSQLite.openAt(t, dsn)
	makeStock(t, db, "widget")
	db.SetMaxOpenConns(1) // the limit is the connection's
	s := reopenShop(t, onSQLite, db)
	b := take("widget", 3)
	s.wantYes(t, b)
	exec(t, db, `PRAGMA max_page_count = 1`) // as small as it is
	var full error
	for n := 0; full == nil; n++ {
		if n > 10000 {
			t.Fatal("the database does not fill up")
		}
		big := take("widget", -1)
		big.Trace = string(make([]byte, 100))
		for range 20 {
			big.Operations = append(big.Operations, big.Operations[0])
		}
		_, full = s.Prepare(t.Context(), big)
	}
	wantFailure(t, full)
	wantError(t, full, full, "full (13)")
	exec(t, db, `PRAGMA max_page_count = 1000000`)
	must(t, s.Commit(t.Context(), b.Tx))
	s.wantYes(t, take("widget", 1))
}

// Two instances get everything at once, in any order: each branch is tried at most once, ended at most once, and the stock is
// what the states say.
func TestTwoInstancesAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		one := openShop(t, on)
		instances := []*shop{one, reopenShop(t, on, one.db)}
		exec(t, one.db, `UPDATE stock SET available = 1000`)
		type deed func(s *shop, b *participant.Branch) error
		var deeds []func()
		branches := make([]*participant.Branch, 12)
		for i := range branches {
			b := take("widget", 1+int64(i))
			branches[i] = b
			end := deed(func(s *shop, b *participant.Branch) error { return s.Rollback(t.Context(), b.Tx) })
			if i%2 == 0 { // as the protocol has it, a commit comes after a yes
				one.wantYes(t, b)
				end = func(s *shop, b *participant.Branch) error { return s.Commit(t.Context(), b.Tx) }
			}
			for n := range 6 {
				do := end
				if n%2 == 0 {
					do = func(s *shop, b *participant.Branch) error {
						if _, err := s.Prepare(t.Context(), b); !errors.Is(err, participant.ErrRefused) {
							return err
						}
						return nil
					}
				}
				s := instances[rand.IntN(2)]
				deeds = append(deeds, func() {
					for do(s, b) != nil { // as the SDK does
						if t.Context().Err() != nil {
							t.Error("it does not end")
							return
						}
					}
				})
			}
		}
		rand.Shuffle(len(deeds), func(i, j int) { deeds[i], deeds[j] = deeds[j], deeds[i] })
		var running sync.WaitGroup
		for _, do := range deeds {
			running.Go(do)
		}
		running.Wait()
		sold := int64(0)
		for i, b := range branches {
			want := cancelled
			if i%2 == 0 {
				want = confirmed
				sold += 1 + int64(i)
			}
			one.wantState(t, b.Tx, want)
		}
		one.wantStock(t, "widget", 1000-sold, 0, 0)
	})
}
