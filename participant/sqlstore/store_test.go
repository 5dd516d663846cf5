// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestCommit(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		b := take("widget", 3)
		for range 2 {
			s.wantYes(t, b)
			s.wantStock(t, "widget", 7, 3, 0)
			s.wantState(t, b.Tx, tried)
		}
		for range 2 {
			must(t, s.Commit(t.Context(), b.Tx))
			s.wantStock(t, "widget", 7, 0, 0)
			s.wantState(t, b.Tx, confirmed)
		}
		s.wantYes(t, b)                        // delivered again: the same answer, and nothing is reserved
		must(t, s.Rollback(t.Context(), b.Tx)) // of who has forgotten it
		s.wantYes(t, b)                        // still
		s.wantStock(t, "widget", 7, 0, 0)
		s.wantCalls(t, 1, 1, 0)
	})
}

// The settings of a connection make no difference.
func TestOtherSettings(t *testing.T) {
	on := onOtherMariaDB
	committed := func(cfg *Config) { cfg.Isolation = sql.LevelReadCommitted }
	one := openShop(t, on, committed)
	two := reopenShop(t, on, one.db, committed)
	b := take("widget", 3, "a")
	b.Operations = append(b.Operations, look("b", "c").Operations...)
	for range 2 {
		one.wantYes(t, b)
		two.wantYes(t, b)
	}
	two.wantConflict(t, take("widget", 3, "a"), "is held")
	two.wantConflict(t, take("widget", 3, "c"), "is held")
	shared := look("c")
	two.wantYes(t, shared)
	must(t, one.Commit(t.Context(), b.Tx))
	must(t, two.Commit(t.Context(), b.Tx))
	must(t, two.Rollback(t.Context(), shared.Tx))
	must(t, two.Rollback(t.Context(), shared.Tx))
	one.wantStock(t, "widget", 7, 0, 0)
	one.wantStock(t, "gadget", 9, 0, 0)
	if n := one.count(t, "assent_keys"); n != 0 {
		t.Errorf("%d keys are held when all is over", n)
	}
	for _, pieces := range []int64{100, 3} {
		vote, err := one.Prepare(t.Context(), take("widget", pieces))
		if (vote == participant.Yes) != (pieces == 3) || (err != nil) != (pieces == 100) {
			t.Errorf("%d pieces: %v, %v", pieces, vote, err)
		}
	}
	for range 2 {
		must(t, one.SetWatermark(t.Context(), "log-0", "x", 7))
	}
}

func TestRollback(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		b := take("widget", 3)
		s.wantYes(t, b)
		for range 2 {
			must(t, s.Rollback(t.Context(), b.Tx))
			s.wantStock(t, "widget", 10, 0, 0)
			s.wantState(t, b.Tx, cancelled)
		}
		_, err := s.Prepare(t.Context(), b)
		wantError(t, err, participant.ErrRefused, "rolled back")
		s.wantStock(t, "widget", 10, 0, 0)
		s.wantCalls(t, 1, 0, 1)
		err = s.Commit(t.Context(), b.Tx)
		wantError(t, err, participant.ErrHeuristic, "was rolled back here")
		s.wantStock(t, "widget", 10, 0, 0)
	})
}

// A rollback that overtakes its prepare: nothing is undone, and the prepare reserves nothing for ever after.
func TestRollbackBeforePrepare(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		b := take("widget", 3)
		for range 2 {
			must(t, s.Rollback(t.Context(), b.Tx))
		}
		for range 2 {
			_, err := s.Prepare(t.Context(), b)
			wantError(t, err, participant.ErrRefused, "rolled back")
		}
		s.wantStock(t, "widget", 10, 0, 0)
		s.wantCalls(t, 0, 0, 0)
		s.wantState(t, b.Tx, cancelled)
	})
}

func TestRefusal(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		for _, test := range []struct {
			b    *participant.Branch
			want string
		}{
			{take("widget", 11), "stock widget: 11 wanted, 10 available"},
			{take("nothing", 1), "stock: no sku nothing"},
			{take("widget", 0), "an amount of 0"},
			{take("widget", MaxQuantity+1), "at most"},
			{take("widget", -MaxQuantity), "room for 9007199254740982"},
			{&participant.Branch{Tx: messages.NewID(), Operations: []messages.Operation{{Payload: []byte(`{"x":1}`)}}}, "operation 0"},
			{&participant.Branch{Tx: messages.NewID(), Operations: []messages.Operation{{}}}, "no payload"},
		} {
			_, err := s.Prepare(t.Context(), test.b)
			wantError(t, err, participant.ErrRefused, test.want)
			s.wantState(t, test.b.Tx, "")
		}
		s.wantStock(t, "widget", 10, 0, 0)
		// An operation that fails takes those before it with it.
		b := take("widget", 3)
		b.Operations = append(b.Operations, take("gadget", 11).Operations...)
		_, err := s.Prepare(t.Context(), b)
		wantError(t, err, participant.ErrRefused, "gadget")
		s.wantStock(t, "widget", 10, 0, 0)
	})
}

// Confirm and Cancel get the branch as Prepare got it, from another instance, too.
func TestTheBranchIsKept(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		for _, commit := range []bool{true, false} {
			s := openShop(t, on)
			b := take("widget", 3, "a", "lock:b")
			b.Operations = append(b.Operations, messages.Operation{
				Route: &messages.Route{Group: "g", Key: "k", Incarnation: 1, Epoch: 2}, Shared: []string{"c\x00\xc3\xa9"}, Payload: []byte(`{"sku":"gadget","pieces":-1}`),
			})
			b.Locks = []messages.Lock{{Key: "d", Token: "0000000000000001-0000000000000002"}}
			b.Sole = commit
			s.wantYes(t, b)
			again := reopenShop(t, on, s.db)
			doubts, err := again.InDoubt(t.Context())
			must(t, err)
			if want := []participant.Prepared{{Tx: b.Tx, Keys: b.Keys()}}; !reflect.DeepEqual(doubts, want) || len(b.Keys()) != 4 {
				t.Fatalf("in doubt are %v, want %v", doubts, want)
			}
			stats, err := again.Stats(t.Context())
			must(t, err)
			if stats.InDoubt != 1 || stats.Oldest > time.Hour {
				t.Errorf("%+v", stats)
			}
			if commit {
				must(t, again.Commit(t.Context(), b.Tx))
			} else {
				must(t, again.Rollback(t.Context(), b.Tx))
			}
			if got := again.seen; got.Tx != b.Tx || !got.Expires.Equal(b.Expires) || got.Trace != b.Trace || got.Sole != b.Sole ||
				!reflect.DeepEqual(got.Operations, b.Operations) || !reflect.DeepEqual(got.Locks, b.Locks) {
				t.Fatalf("got  %+v\nwant %+v", got, b)
			}
			if n := s.count(t, "assent_keys"); n != 0 {
				t.Errorf("%d keys are still held", n)
			}
			doubts, err = again.InDoubt(t.Context())
			must(t, err)
			if stats, err := again.Stats(t.Context()); len(doubts) != 0 || err != nil || stats != (Stats{}) {
				t.Errorf("in doubt are %v; %+v, %v", doubts, stats, err)
			}
		}
	})
}

// A branch that changes nothing leaves nothing, unless its keys are to be held.
func TestNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		s.failTry = ErrNothing
		b := take("widget", 3)
		if vote, err := s.Prepare(t.Context(), b); vote != participant.ReadOnly || err != nil {
			t.Fatalf("got %v, %v; want read-only", vote, err)
		}
		s.wantState(t, b.Tx, "")
		s.wantStock(t, "widget", 10, 0, 0)
		sole := take("widget", 3, "a")
		sole.Sole = true
		if vote, err := s.Prepare(t.Context(), sole); vote != participant.ReadOnly || err != nil {
			t.Fatalf("got %v, %v; want read-only", vote, err)
		}
		if n := s.count(t, "assent_keys"); n != 0 {
			t.Errorf("%d keys are held", n)
		}
		s.duringTry = func(ctx context.Context, tx *sql.Tx) error { // it has written nothing, in truth
			_, err := tx.ExecContext(ctx, `UPDATE stock SET available = 10, reserved = 0`)
			return err
		}
		for _, commit := range []bool{true, false} {
			isolated := take("widget", 3, "a")
			s.wantYes(t, isolated)
			s.wantState(t, isolated.Tx, held)
			doubts, err := s.InDoubt(t.Context())
			if err != nil || len(doubts) != 1 || len(doubts[0].Keys) != 1 {
				t.Fatalf("in doubt are %v, %v", doubts, err)
			}
			_, err = s.Prepare(t.Context(), take("widget", 3, "a"))
			wantError(t, err, participant.ErrConflict, `key "a" is held by transaction `+isolated.Tx.String())
			s.wantYes(t, isolated)
			if commit {
				must(t, s.Commit(t.Context(), isolated.Tx))
			} else {
				must(t, s.Rollback(t.Context(), isolated.Tx))
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.confirm != 0 || s.cancel != 0 {
			t.Error("there was nothing to confirm or to cancel")
		}
	})
}

// A commit of what was never tried here is no success.
func TestCommitWithoutTry(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		for range 2 {
			wantError(t, s.Commit(t.Context(), messages.NewID()), participant.ErrHeuristic, "does not know of it")
		}
		s.wantCalls(t, 0, 0, 0)
	})
}

// The application may decide otherwise: what it had changed is undone, its keys are free, and the branch is over.
func TestHeuristic(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		b := take("widget", 3, "a")
		s.wantYes(t, b)
		s.failConfirm = participant.Heuristic(errors.New("sold by hand"))
		wantError(t, s.Commit(t.Context(), b.Tx), participant.ErrHeuristic, "sold by hand")
		s.wantStock(t, "widget", 7, 3, 0)
		s.wantState(t, b.Tx, heuristic)
		s.failConfirm = nil
		wantError(t, s.Commit(t.Context(), b.Tx), participant.ErrHeuristic, "sold by hand")
		s.wantYes(t, take("widget", 1, "a"))
		if doubts, err := s.InDoubt(t.Context()); err != nil || len(doubts) != 1 {
			t.Fatalf("in doubt are %v, %v", doubts, err)
		}
	})
}

// A Confirm that fails is asked again, and nothing of it stays.
func TestConfirmFails(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		b := take("widget", 3, "a")
		s.wantYes(t, b)
		for _, fail := range []error{errors.New("no power"), participant.Refuse(errors.New("too late for that"))} {
			s.failConfirm = fail
			err := s.Commit(t.Context(), b.Tx)
			wantError(t, err, fail, fail.Error())
			if errors.Is(err, participant.ErrHeuristic) {
				t.Error("it is not heuristic")
			}
			s.wantState(t, b.Tx, tried)
			s.wantStock(t, "widget", 7, 3, 0)
		}
		s.failConfirm = nil
		// Somebody has changed the reserved row.
		exec(t, s.db, `UPDATE stock SET reserved = 2 WHERE sku = 'widget'`)
		if err := s.Commit(t.Context(), b.Tx); err == nil || !strings.Contains(err.Error(), "put it back") {
			t.Fatalf("got %v", err)
		}
		exec(t, s.db, `UPDATE stock SET reserved = 3 WHERE sku = 'widget'`)
		must(t, s.Commit(t.Context(), b.Tx))
	})
}

// A panic in the application's code is an error, and rolls back.
func TestPanic(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		s.duringTry = func(context.Context, *sql.Tx) error { panic("oh no") }
		b := take("widget", 3)
		if _, err := s.Prepare(t.Context(), b); err == nil || errors.Is(err, participant.ErrRefused) {
			t.Fatalf("got %v", err)
		}
		s.duringTry = nil
		s.wantStock(t, "widget", 10, 0, 0)
		s.wantYes(t, b)
	})
}

func TestWatermarks(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		if incarnation, sequence, err := s.Watermark(t.Context(), "log-0"); incarnation != "" || sequence != 0 || err != nil {
			t.Fatalf("got %q, %d, %v", incarnation, sequence, err)
		}
		for n := range uint64(3) {
			must(t, s.SetWatermark(t.Context(), "log-0", "2025-11-28T00:00:00.123456789Z", n+1<<40))
			must(t, s.SetWatermark(t.Context(), "log-1", "other", 7))
		}
		incarnation, sequence, err := reopenShop(t, on, s.db).Watermark(t.Context(), "log-0")
		if incarnation != "2025-11-28T00:00:00.123456789Z" || sequence != 2+1<<40 || err != nil {
			t.Fatalf("got %q, %d, %v", incarnation, sequence, err)
		}
		// Another instance's is older; a log that was made anew begins at the beginning.
		must(t, s.SetWatermark(t.Context(), "log-0", "2025-11-28T00:00:00.123456789Z", 5))
		if _, sequence, err := s.Watermark(t.Context(), "log-0"); sequence != 2+1<<40 || err != nil {
			t.Fatalf("got %d, %v", sequence, err)
		}
		must(t, s.SetWatermark(t.Context(), "log-0", "2025-11-29T00:00:00Z", 5))
		if incarnation, sequence, err := s.Watermark(t.Context(), "log-0"); incarnation != "2025-11-29T00:00:00Z" || sequence != 5 || err != nil {
			t.Fatalf("got %q, %d, %v", incarnation, sequence, err)
		}
		other := reopenShop(t, on, s.db, func(cfg *Config) { cfg.Name = "other" })
		if incarnation, _, err := other.Watermark(t.Context(), "log-0"); incarnation != "" || err != nil {
			t.Fatalf("got %q, %v", incarnation, err)
		}
	})
}

// Participants that share a database do not see each other's branches and keys.
func TestTwoParticipants(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		other := reopenShop(t, on, s.db, func(cfg *Config) { cfg.Name = "-" })
		b := take("widget", 3, "a")
		s.wantYes(t, b)
		other.wantYes(t, b)
		s.wantStock(t, "widget", 4, 6, 0)
		must(t, s.Commit(t.Context(), b.Tx))
		must(t, other.Rollback(t.Context(), b.Tx))
		s.wantStock(t, "widget", 7, 0, 0)
	})
}
