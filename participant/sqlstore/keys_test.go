// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// look is a branch that shares keys.
func look(keys ...string) *participant.Branch {
	b := take("gadget", 1)
	b.Operations[0].Shared = keys
	return b
}

func (s *shop) wantConflict(t *testing.T, b *participant.Branch, text string) {
	t.Helper()
	_, err := s.Prepare(t.Context(), b)
	wantError(t, err, participant.ErrConflict, text)
	s.wantState(t, b.Tx, "")
}

// Keys keep other instances out from Try until the outcome: exclusive ones everybody, shared ones whoever wants them alone.
func TestKeys(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		one := openShop(t, on)
		two := reopenShop(t, on, one.db)
		alone := take("widget", 1, "a", "b")
		one.wantYes(t, alone)
		two.wantConflict(t, take("widget", 1, "b"), `key "b" is held by transaction `+alone.Tx.String())
		two.wantConflict(t, look("z", "a"), `key "a" is held by transaction `+alone.Tx.String())
		other := take("widget", 1, "c")
		two.wantYes(t, other)
		must(t, two.Commit(t.Context(), alone.Tx))

		shared := []*participant.Branch{look("a"), look("a", "b"), look("a")}
		for i, b := range shared {
			[]*shop{one, two}[i%2].wantYes(t, b)
		}
		one.wantConflict(t, take("widget", 1, "a"), `key "a" is held by others in shared mode`)
		must(t, one.Rollback(t.Context(), shared[0].Tx))
		must(t, two.Commit(t.Context(), shared[1].Tx))
		one.wantConflict(t, take("widget", 1, "a"), "shared")
		must(t, one.Commit(t.Context(), shared[2].Tx))
		again := take("widget", 1, "a", "b")
		one.wantYes(t, again)
		must(t, two.Rollback(t.Context(), again.Tx))
		must(t, two.Rollback(t.Context(), other.Tx))
		if n := one.count(t, "assent_keys"); n != 0 {
			t.Errorf("%d keys are held when all is over", n)
		}
	})
}

// As many keys as a branch can have, as long as they can be, of any bytes.
func TestManyKeys(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		b := take("widget", 1)
		b.Operations[0].Keys = []string{"lock:" + strings.Repeat("k", messages.MaxKey-5), "A", "a", "a ", "\x00", "\xc3\xa9", `\'"?$1`}
		b.Locks = []messages.Lock{{Key: strings.Repeat("k", messages.MaxKey), Token: locks.Token{Sequence: 1}.String()}}
		shared := take("gadget", 1).Operations[0]
		for i := range 2*maxNames + 3 {
			b.Operations[0].Keys = append(b.Operations[0].Keys, fmt.Sprint("key/", i))
			shared.Shared = append(shared.Shared, fmt.Sprint("shared/", i))
		}
		b.Operations = append(b.Operations, shared)
		s.wantYes(t, b)
		if n, want := s.count(t, "assent_keys"), len(b.Keys()); n != want || want != 4*maxNames+6+8 {
			t.Fatalf("%d keys are held, want %d", n, want)
		}
		for _, key := range []string{"A", "a", "a ", "\x00", fmt.Sprint("key/", 2*maxNames+2), fmt.Sprint("shared/", 2*maxNames+2)} {
			s.wantConflict(t, take("widget", 1, key), "is held by")
		}
		must(t, s.Commit(t.Context(), b.Tx))
		if n := s.count(t, "assent_keys"); n != 0 {
			t.Errorf("%d keys are held when all is over", n)
		}
	})
}

// Rows of keys that somebody deleted keep no outcome from being applied.
func TestKeysDeletedByHand(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		var logged logs
		s := openShop(t, on, func(cfg *Config) { cfg.Log = logged.logger() })
		b := take("widget", 1, "a", "b")
		s.wantYes(t, b)
		exec(t, s.db, `DELETE FROM assent_keys`)
		must(t, s.Commit(t.Context(), b.Tx))
		s.wantStock(t, "widget", 9, 0, 0)
		logged.want(t, "2 of the 2 keys of the branch were not held any more")
	})
}

// Whose locks have passed to another is told of a conflict, and has changed nothing.
func TestFences(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		locked := func(sequence uint64) *participant.Branch {
			b := take("widget", 1)
			b.Locks = []messages.Lock{{Key: "stock", Token: locks.Token{Incarnation: 7, Sequence: sequence}.String()}}
			return b
		}
		b := locked(5)
		s.wantYes(t, b)
		s.wantConflict(t, locked(6), `key "lock:stock" is held`)
		must(t, s.Commit(t.Context(), b.Tx))
		s.wantConflict(t, locked(4), "the lock has passed to another")
		b = locked(6)
		s.wantYes(t, b)
		must(t, s.Commit(t.Context(), b.Tx))
		s.wantConflict(t, locked(5), "the lock has passed to another")
		s.wantStock(t, "widget", 8, 0, 0)
		for _, bad := range []messages.Lock{{Key: "stock", Token: "x"}, {Key: "stock", Token: locks.Token{}.String()}, {Key: "a\x00", Token: locks.Token{Sequence: 1}.String()}} {
			b := take("widget", 1)
			b.Locks = []messages.Lock{bad}
			_, err := s.Prepare(t.Context(), b)
			wantError(t, err, participant.ErrRefused, "")
		}
	})
}
