// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// That there is a cycle does not depend on how long was looked for the shortest.
func TestWhatIsCertainNeedsNoLuck(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	truncated := 0
	for seed := range uint64(400) {
		level := []isolation{snapshot, committedRC, perPart, dirty, noUpdates}[r.IntN(5)]
		h := simulate(t, seed, level, 40)
		whole, brief := Check(h, Options{}), Check(h, Options{Work: 1})
		if brief.Truncated {
			truncated++
		}
		if whole.OK() != brief.OK() {
			t.Fatalf("level %d, seed %d: %v, but %v when the search is cut short", level, seed, whole.Counts, brief.Counts)
		}
		for i, v := range whole.Levels {
			if v.Level != SnapshotIsolation && v.Holds != brief.Levels[i].Holds {
				t.Fatalf("level %d, seed %d: %s holds: %v, but %v when the search is cut short: %v, %v", level, seed, v.Level, v.Holds, brief.Levels[i].Holds, whole.Counts, brief.Counts)
			}
		}
		for i := range brief.Anomalies {
			if a := &brief.Anomalies[i]; len(a.Edges) > 0 {
				checkShape(t, a)
			}
		}
	}
	if truncated < 100 {
		t.Errorf("%d searches were cut short: there was nothing to check", truncated)
	}
}

// Names of lists may be long, and lists empty.
func TestCycleOfEmptyListsWithLongNames(t *testing.T) {
	x, y := strings.Repeat("x", 60), strings.Repeat("y", 60)
	one := int64(1)
	b := NewBuilder()
	for _, typ := range []EventType{Invoke, OK} {
		for process, keys := range [][2]string{{x, y}, {y, x}} {
			e := &Event{Type: typ, Process: int32(process), Operations: []Operation{{Op: Read, Key: keys[0]}, {Op: Append, Key: keys[1], Value: &one}}}
			if typ == OK {
				e.Operations[0].Values = []int64{}
			}
			if err := b.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	h, err := b.History()
	if err != nil {
		t.Fatal(err)
	}
	r := Check(h, Options{})
	if r.Counts[G2Item] != 1 {
		t.Fatalf("found %v", r.Counts)
	}
	var svg bytes.Buffer
	if err := r.Anomalies[0].WriteSVG(&svg); err != nil || !strings.Contains(svg.String(), "read xxx") {
		t.Errorf("%v: %s", err, svg.String())
	}
}
