// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// policiesLong is for the figures of docs/isolation.md:
// go test ./internal/keylock -run TestSimulatePolicies -keylock.long -v
var policiesLong = flag.Bool("keylock.long", false, "simulate the policies at length, and graces")

// TestSimulationProperty: in whatever world, with several shards, retries that keep their age, and hot keys, every transaction
// of every client commits, no two holders ever conflict, nothing commits without its keys, and no deadlock lasts until a
// transaction's time-out.
func TestSimulationProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := simConfig{
			policy: ours, participants: rapid.IntRange(1, 4).Draw(t, "participants"), shards: rapid.IntRange(1, 4).Draw(t, "shards"),
			clients: rapid.IntRange(1, 12).Draw(t, "clients"), keys: rapid.IntRange(4, 8).Draw(t, "keys"), each: rapid.IntRange(1, 4).Draw(t, "each"),
			shared: rapid.SampledFrom([]float64{0, 0.5, 0.9}).Draw(t, "shared"), each2: 4,
			grace: int64(rapid.SampledFrom([]int{0, 20, 100}).Draw(t, "grace")), timeout: 30_000_000, seed: rapid.Uint64().Draw(t, "seed"),
		}
		s := simulate(cfg)
		if s.broken != "" || s.committed != cfg.clients*cfg.each2 || s.timeouts != 0 {
			t.Fatalf("%q, %d of %d committed, %d timed out, at %d ms", s.broken, s.committed, cfg.clients*cfg.each2, s.timeouts, s.now/1000)
		}
		if cfg.shards == 1 && s.wounds > 0 && s.aborts == 0 {
			t.Fatal("wounds that end nothing")
		}
		for _, p := range s.parts {
			if _, waiting := p.table.Len(); waiting > 0 {
				t.Fatalf("%d wait at the end", waiting)
			}
		}
	})
}

// TestSimulationDeadlocks: with wounds before the vote only, a deadlock across shards lasts until a time-out; that the simulation has
// such deadlocks is what makes the property above one.
func TestSimulationDeadlocks(t *testing.T) {
	cfg := simConfig{policy: beforeVotes, participants: 2, shards: 4, clients: 16, keys: 4, each: 2, each2: 20, grace: 20, timeout: 1_000_000, seed: 1}
	if s := simulate(cfg); s.timeouts == 0 {
		t.Error("no deadlock needed a time-out")
	}
	cfg.policy = ours
	if s := simulate(cfg); s.timeouts != 0 || s.wounds == 0 {
		t.Errorf("%d timed out, %d wounded", s.timeouts, s.wounds)
	}
	cfg.shards = 1
	if s := simulate(cfg); s.timeouts != 0 || s.aborts != 0 {
		t.Errorf("on one shard nothing can deadlock, and %d aborted, %d timed out", s.aborts, s.timeouts)
	}
}

// TestSimulatePolicies shows what is done about deadlocks side by side.
func TestSimulatePolicies(t *testing.T) {
	each := 20
	if *policiesLong {
		each = 200
	}
	var out strings.Builder
	row := func(what string, s *sim) {
		fmt.Fprintf(&out, "%-28s %7d/s  %5.2f aborts  %4d wounds  %4d time-outs  p50 %5d ms  p99 %6d ms  max %6d ms\n", what,
			int64(s.committed)*1_000_000/s.now, float64(s.aborts)/float64(s.committed), s.wounds, s.timeouts,
			s.percentile(0.5)/1000, s.percentile(0.99)/1000, s.percentile(1)/1000)
	}
	for _, shards := range []int{1, 8} {
		for _, hot := range []struct {
			name string
			keys int
			zipf float64
		}{{"10 keys", 10, 0}, {"1000 keys, zipf 1.1", 1000, 1.1}, {"1000 keys", 1000, 0}} {
			base := simConfig{participants: 4, shards: shards, clients: 64, keys: hot.keys, zipf: hot.zipf, each: 2, each2: each, grace: 100, timeout: 5_000_000, seed: 7}
			fmt.Fprintf(&out, "\n%d shard(s), %s, 64 clients, 2 keys each\n", shards, hot.name)
			for _, p := range []policy{ours, beforeVotes, waitDie, noWait} {
				base.policy = p
				s := simulate(base)
				if s.broken != "" || s.committed != base.clients*each {
					t.Errorf("%v: %q, %d committed", base, s.broken, s.committed)
				}
				row(p.String(), s)
			}
			for _, grace := range []int64{0, 10, 25, 50, 100, 200, 400, 1000} {
				if base.policy, base.grace = ours, grace; *policiesLong && shards > 1 {
					row(fmt.Sprintf("ours, grace %d ms", grace), simulate(base))
				}
			}
		}
	}
	t.Log(out.String())
}
