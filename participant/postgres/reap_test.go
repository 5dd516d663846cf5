// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Only time in which outcomes arrive makes markers old, and a long pause is not such a time.
func TestReaperCountsActiveTime(t *testing.T) {
	t.Parallel()
	r, now, keep := &reaper{}, time.Unix(1e9, 0), 10*time.Minute
	taken := 0
	// pass lets a minute go by, with a look every second.
	pass := func(minutes int, outcomes bool) (ripe string) {
		for range minutes * 60 {
			now = now.Add(time.Second)
			if outcomes {
				r.committed.Add(1)
			}
			var take bool
			if take, ripe = r.tick(now, keep); take {
				taken++
				r.took(fmt.Sprint("snapshot ", taken))
			}
		}
		return ripe
	}
	if ripe := pass(100, false); ripe != "" || taken != 1 {
		t.Fatalf("nothing arrived: %q is ripe, %d snapshots", ripe, taken)
	}
	if ripe := pass(9, true); ripe != "" {
		t.Fatalf("after 9 of 10 minutes: %q is ripe", ripe)
	}
	if ripe := pass(100, false); ripe != "" {
		t.Fatalf("after 9 minutes and a long pause: %q is ripe", ripe)
	}
	if ripe := pass(2, true); ripe != "snapshot 1" {
		t.Fatalf("after 11 minutes: %q is ripe", ripe)
	}
	r.done("another")
	if r.done(r.ripe); r.ripe != "" {
		t.Fatalf("%q is not done", r.ripe)
	}
	if _, ripe := r.tick(now, keep); ripe != "" {
		t.Fatalf("%q is ripe again", ripe)
	}
	now = now.Add(24 * time.Hour) // no look for a day
	r.committed.Add(1)
	if _, ripe := r.tick(now, keep); ripe != "" {
		t.Fatalf("after a day without a look: %q is ripe", ripe)
	}
	if ripe := pass(30, true); ripe == "" || len(r.snapshots) != parts {
		t.Fatalf("after half an hour: %q is ripe, %d snapshots kept", ripe, len(r.snapshots))
	}
}

// What is removed was to be seen when the snapshot was taken, is expired, and is this participant's.
func TestReap(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s, other := d.store(nil), d.store(func(cfg *Config) { cfg.Name = "other" })
	past := func(b *participant.Branch) *participant.Branch {
		b.Expires = time.Now().Add(-time.Hour)
		return b
	}
	commit := func(s *Store, b *participant.Branch) messages.ID {
		t.Helper()
		prepare(t, s, b, participant.Yes)
		must(t, s.Commit(t.Context(), b.Tx))
		return b.Tx
	}
	inDoubt := past(branch(transfer{"b", 1})) // its marker is old, and is seen late
	prepare(t, s, inDoubt, participant.Yes)
	old, alive, theirs := commit(s, past(branch(transfer{"a", 1}))), commit(s, branch(transfer{"a", 1})), commit(other, past(branch(transfer{"a", 1})))
	var snapshot string
	must(t, d.pool.QueryRow(t.Context(), "SELECT pg_current_snapshot()::text").Scan(&snapshot))
	must(t, s.Commit(t.Context(), inDoubt.Tx))
	after := commit(s, past(branch(transfer{"a", 1})))
	for range parts + 1 {
		s.reaper.took(snapshot)
	}
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 1))
	for tx, there := range map[messages.ID]int{old: 0, alive: 1, theirs: 1, inDoubt.Tx: 1, after: 1} {
		if n := d.number("SELECT count(*) FROM assent_markers WHERE tx = $1", tx.String()); n != there {
			t.Errorf("%v: %d markers, want %d", tx, n, there)
		}
	}
	must(t, s.Commit(t.Context(), inDoubt.Tx)) // comes again
	if n := d.balance("a") + d.balance("b"); n != 205 {
		t.Errorf("the reaper touched something else: %d", n)
	}
}

// A great many are removed in pieces.
func TestReapMany(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	const many = 2*maxReap + 1
	d.exec("INSERT INTO assent_markers SELECT 'bank', gen_random_uuid(), pg_current_xact_id(), now() - interval '1 hour', true FROM generate_series(1, $1)", many)
	var snapshot string
	must(t, d.pool.QueryRow(t.Context(), "SELECT pg_current_snapshot()::text").Scan(&snapshot))
	for range parts + 1 {
		s.reaper.took(snapshot)
	}
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 1))
	if n := d.number("SELECT count(*) FROM assent_markers"); n != 0 {
		t.Errorf("%d of %d are left", n, many)
	}
	if s.reaper.ripe != "" {
		t.Error("it looks for more")
	}
}
