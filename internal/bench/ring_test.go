// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/router/ring"
)

// shortRing is a run that takes a second or two.
func shortRing(t *testing.T) RingConfig {
	t.Helper()
	return RingConfig{Dir: t.TempDir(), Duration: 60 * time.Millisecond, Rounds: 2, Keys: 20_000, Followers: 3, Changes: 2}
}

func TestRunRing(t *testing.T) {
	cfg := shortRing(t)
	var steps []string
	last := 0.0
	cfg.Progress = func(step string, done float64) {
		if done < last || done > 1 {
			t.Errorf("progress went from %v to %v at %q", last, done, step)
		}
		last = done
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
	}
	report, err := RunRing(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Faults() != 0 {
		t.Errorf("%d errors (%s), rows %+v; want no faults", report.Errors, report.FirstError, report.Rows)
	}
	checkRingRows(t, report)
	checkRingRequests(t, report)
	checkRingOutput(t, report)
	told := strings.Join(steps, "; ")
	for _, want := range []string{
		"round 1 of 2: lookups, 10 nodes; round 1 of 2: lookups, 100 nodes; round 1 of 2: lookups, 1000 nodes; round 2 of 2: lookups, 1000 nodes;",
		"round 2 of 2: balance; movement, 10 nodes;", "round 1 of 2: changes heard by 3 followers; round 2 of 2: changes heard by 3 followers;", "; done",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("the steps have no %q: %s", want, told)
		}
	}
}

func checkRingRows(t *testing.T, report *RingReport) {
	t.Helper()
	if len(report.Rows) != 3 {
		t.Fatalf("%d rows, want 3", len(report.Rows))
	}
	for i, nodes := range []int{10, 100, 1000} {
		row := &report.Rows[i]
		if row.Nodes != nodes || row.LookupNS <= 0 || row.MaglevNS <= 0 || row.LookupRatio <= 0 || row.Allocations != 0 || row.NewMS <= 0 || row.NextMS <= 0 {
			t.Errorf("%+v: want times, and no allocations", row)
		}
		if row.CirclePeak < 1 || row.CirclePeak > 1.02 || row.Peak < 1 || row.JumpPeak < 1 || row.JoinMoved < 0.7 || row.JoinMoved > 1.3 || math.Abs(row.LeaveMoved-1) > 0.01 {
			t.Errorf("%+v: want an even ring, from which little moves", row)
		}
	}
}

func checkRingRequests(t *testing.T, report *RingReport) {
	t.Helper()
	r, c := &report.Route, &report.Changes
	if r.P50MS <= 0 || r.P99MS < r.P50MS || r.EchoP50MS <= 0 || r.EchoP99MS < r.EchoP50MS || len(r.Rounds) != 2 || r.Ratio != (r.Rounds[0]+r.Rounds[1])/2 || r.KeysPerS <= 0 {
		t.Errorf("requests: %+v", r)
	}
	if c.Changes != 4 || c.Followers != 3 || c.P50MS <= 0 || c.LastP50MS < c.P50MS || c.LastMaxMS < c.LastP50MS {
		t.Errorf("changes: %+v", c)
	}
}

func checkRingOutput(t *testing.T, report *RingReport) {
	t.Helper()
	var table, svg bytes.Buffer
	if err := errors.Join(report.WriteTable(&table), report.WritePlot(&svg)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"20000 keys", "× Maglev", "requests with 1000 keys: ", "4 changes heard by 3 followers", "1000 nodes: keys moved between other nodes: 0"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
	if lines := strings.Count(svg.String(), "<polyline"); lines != 3 {
		t.Errorf("the picture has %d lines, want 3", lines)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := []string{"changes", "errors", "machine", "missed", "route", "rows", "settings"}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		t.Errorf("the object has %q, want %q", keys, want)
	}
}

func TestRunRingIsInterrupted(t *testing.T) {
	for _, at := range []string{"round 1 of 2: lookups, 10 nodes", "movement", "round 1 of 2: requests with one key", "round 2 of 2: changes"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		cfg := shortRing(t)
		cfg.Progress = func(step string, _ float64) {
			if strings.HasPrefix(step, at) {
				cancel(cause)
			}
		}
		if report, err := RunRing(ctx, cfg); !errors.Is(err, cause) && !errors.Is(err, context.Canceled) || report != nil {
			t.Errorf("at %s: got %v, %v; want the cause", at, report, err)
		}
	}
}

func TestRingConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*RingConfig){
		"dir":       func(c *RingConfig) { c.Dir = "" },
		"rounds":    func(c *RingConfig) { c.Rounds = 1001 },
		"duration":  func(c *RingConfig) { c.Duration = time.Millisecond },
		"keys":      func(c *RingConfig) { c.Keys = 999 },
		"followers": func(c *RingConfig) { c.Followers = 1001 },
		"changes":   func(c *RingConfig) { c.Changes = -1 },
	} {
		cfg := shortRing(t)
		change(&cfg)
		if _, err := RunRing(t.Context(), cfg); err == nil || !strings.HasPrefix(err.Error(), "bench: "+field+": ") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	cfg, err := RingConfig{Dir: "somewhere"}.withDefaults()
	if err != nil || cfg.Duration != 5*time.Second || cfg.Rounds != 5 || cfg.Keys != 1_000_000 || cfg.Followers != 50 || cfg.Changes != 10 {
		t.Errorf("the defaults: %+v, %v", cfg, err)
	}
}

// The yardstick is a Maglev table: full, even to a hundredth, and the same for the same names.
func TestMaglev(t *testing.T) {
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprintf("node-%d", i)
	}
	m := newMaglev(names)
	places := make(map[uint16]int)
	for _, node := range m {
		places[node]++
	}
	for node := range names {
		if n := places[uint16(node)]; n < maglevSize/100 || n > maglevSize/100+1 {
			t.Errorf("node %d has %d places of %d", node, n, maglevSize)
		}
	}
	if again := newMaglev(names); *again != *m {
		t.Error("another table for the same names")
	}
}

// The yardstick is jump hash: even, and a key moves only to the node that comes.
func TestJump(t *testing.T) {
	const keys = 100_000
	for _, nodes := range []int{1, 2, 10, 37} {
		counts := make([]int, nodes)
		for i := range keys {
			hash := ring.Hash(fmt.Sprint(i))
			at := jump(hash, nodes)
			counts[at]++
			if next := jump(hash, nodes+1); next != at && next != nodes {
				t.Fatalf("key %d went from %d to %d when node %d came", i, at, next, nodes)
			}
		}
		if average := keys / nodes; slices.Min(counts) < average*9/10 || slices.Max(counts) > average*11/10 {
			t.Errorf("%d nodes: %d keys", nodes, counts)
		}
	}
}

// What is counted as moved, and as stray.
func TestMovementCounts(t *testing.T) {
	plan := ring.Plan{Moves: []ring.Move{{Partition: 0, From: "a", To: "new"}, {Partition: 2, From: "a", To: "b"}, {Partition: 3, From: "b", To: "new"}}}
	m := movement{optimal: 10}
	m.add(plan, []int{5, 100, 3, 2}, func(move ring.Move) bool { return move.To == "new" })
	if m.moved != 10 || m.stray != 3 || m.ratio() != 1 {
		t.Errorf("%+v: want 10 keys moved, 3 of them stray", m)
	}
}

// ringAtTargets is a report that reaches each target, and nothing more.
func ringAtTargets() *RingReport {
	row := func(nodes int, peak float64) RingRow {
		return RingRow{Nodes: nodes, LookupRatio: 1.5, Peak: peak, JumpPeak: 1.01, JoinMoved: 1.03, LeaveMoved: 1.03, NewMS: 50}
	}
	return &RingReport{
		Rows:  []RingRow{row(10, 1.02), row(100, 1.04), row(1000, 1.10)},
		Route: RingRoute{Ratio: 1.3, KeysPerS: 100_000}, Changes: RingChanges{Followers: 50, LastMaxMS: 1000},
	}
}

func TestRingTargets(t *testing.T) {
	if missed := missed(ringAtTargets().targets()); len(missed) != 0 || missed == nil {
		t.Errorf("missed %q, want an empty list", missed)
	}
	for name, change := range map[string]func(*RingReport){
		"10 nodes: lookup, ×":                       func(r *RingReport) { r.Rows[0].LookupRatio = 1.51 },
		"100 nodes: allocations":                    func(r *RingReport) { r.Rows[1].Allocations = 1 },
		"10 nodes: most keys":                       func(r *RingReport) { r.Rows[0].Peak = 1.021 },
		"100 nodes: most keys":                      func(r *RingReport) { r.Rows[1].Peak = 1.041 },
		"1000 nodes: most keys":                     func(r *RingReport) { r.Rows[2].Peak, r.Rows[2].JumpPeak = 1.111, 1.10 },
		"1000 nodes: keys moved when nodes join":    func(r *RingReport) { r.Rows[2].JoinMoved = 1.04 },
		"1000 nodes: keys moved when nodes leave":   func(r *RingReport) { r.Rows[2].LeaveMoved = 1.04 },
		"100 nodes: keys moved between":             func(r *RingReport) { r.Rows[1].Stray = 1 },
		"1000 nodes: ms":                            func(r *RingReport) { r.Rows[2].NewMS = 51 },
		"p50 of a request":                          func(r *RingReport) { r.Route.Ratio = 1.31 },
		"thousand keys/s":                           func(r *RingReport) { r.Route.KeysPerS = 99_000 },
		"s until the last of 50 followers knows a ": func(r *RingReport) { r.Changes.LastMaxMS = 1001 },
	} {
		report := ringAtTargets()
		change(report)
		if missed := missed(report.targets()); len(missed) != 1 || !strings.HasPrefix(missed[0], name) {
			t.Errorf("%s: missed %q", name, missed)
		}
		var table bytes.Buffer
		if err := report.WriteTable(&table); err != nil || strings.Count(table.String(), "MISSED") != 1 {
			t.Errorf("%s: %v\n%s", name, err, table.String())
		}
	}
	report := ringAtTargets()
	report.Rows[2].Peak, report.Rows[2].JumpPeak = 1.109, 1.10
	if missed := missed(report.targets()); len(missed) != 0 {
		t.Errorf("missed %q, though jump hash is as uneven", missed)
	}
}

func TestRingFaults(t *testing.T) {
	report := ringAtTargets()
	if report.Faults() != 0 {
		t.Errorf("%d faults, want none", report.Faults())
	}
	report.Errors, report.FirstError, report.Rows[0].Stray = 2, "too bad", 3
	var table bytes.Buffer
	if err := report.WriteTable(&table); err != nil || report.Faults() != 5 || !strings.Contains(table.String(), "2 errors, the first: too bad") {
		t.Errorf("%d faults, %v\n%s", report.Faults(), err, table.String())
	}
}

func TestMedianOfValues(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{3, 1, 100}, 3}, {[]float64{3, 1, 100, 5}, 4}} {
		before := slices.Clone(test.values)
		if got := median(test.values); got != test.want || !slices.Equal(before, test.values) {
			t.Errorf("%v: %v, want %v", before, got, test.want)
		}
	}
}
