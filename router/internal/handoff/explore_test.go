// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"flag"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"
)

// exploreStates is for the long run: go test -run "TestExplore$" -explore.states=1000000 -timeout 0 -v ./router/internal/handoff
var exploreStates = flag.Int("explore.states", 0, "explore up to this many states a scope, instead of a default that is quick")

var scopes = []scope{
	{name: "alone", nodes: 1, partitions: 1, kind: HandOff, batch: 1, crashes: 1, losses: 2, failures: 1, work: true, past: 1, epochs: 9, states: 5_000},
	{name: "crash", nodes: 2, partitions: 1, kind: HandOff, batch: 1, warm: 2, crashes: 1, zombies: true, work: true, past: 1, epochs: 9, states: 10_000},
	{name: "crash data", nodes: 2, partitions: 2, kind: Data, batch: 2, warm: 1, crashes: 1, past: 1, epochs: 9, states: 10_000},
	{name: "lost session", nodes: 2, partitions: 1, kind: HandOff, batch: 1, warm: 1, losses: 1, zombies: true, work: true, past: 1, epochs: 9, states: 8_000},
	{
		name: "operators", nodes: 2, partitions: 1, kind: HandOff, batch: 1, warm: 2, failures: 1, work: true, past: 0, epochs: 12, states: 12_000,
		changes: []Change{{Action: Pin, Node: "a"}, {Action: Pin, Node: "b"}, {Action: Unpin}, {Action: Remove, Node: "b"}},
	},
	{
		name: "lost while moving", nodes: 1, partitions: 1, kind: HandOff, batch: 1, warm: 1, losses: 1, past: 0, epochs: 9, states: 6_000,
		changes: []Change{{Action: Add, Node: "z"}, {Action: Pin, Node: "z"}},
	},
	{
		name: "operators data", nodes: 2, partitions: 2, kind: Data, batch: 2, warm: 2, crashes: 1, past: 0, epochs: 10, states: 6_000,
		changes: []Change{{Action: Remove, Node: "a", Force: true}, {Action: Drain, Node: "b", Force: true}, {Action: Weigh, Node: "b", Weight: 1}},
	},
	{
		name: "targets", nodes: 3, partitions: 1, kind: HandOff, batch: 1, warm: 3, past: 0, epochs: 9, states: 8_000,
		changes: []Change{{Action: Pin, Node: "a"}, {Action: Pin, Node: "b"}, {Action: Pin, Node: "c"}},
	},
	{name: "leave", nodes: 2, partitions: 2, kind: HandOff, batch: 2, warm: 2, leaves: 2, work: true, past: 0, epochs: 10, states: 6_000},
	{name: "leave and crash", nodes: 2, partitions: 1, kind: HandOff, batch: 2, warm: 2, leaves: 1, crashes: 1, past: 0, epochs: 10, states: 5_000},
	{name: "made again", nodes: 2, partitions: 1, kind: HandOff, batch: 1, warm: 2, recreations: 1, leaves: 1, work: true, past: 0, epochs: 4, states: 12_000},
	{name: "made again and lost", nodes: 2, partitions: 1, kind: HandOff, batch: 1, warm: 2, recreations: 1, losses: 1, work: true, past: 1, epochs: 6, states: 5_000},
	{
		name: "recall", nodes: 1, partitions: 1, kind: Data, batch: 1, warm: 1, crashes: 1, recall: true, work: true, past: 0, epochs: 8, states: 6_000,
		changes: []Change{{Action: Add, Node: "z"}, {Action: Pin, Node: "z"}},
	},
	{name: "instant", nodes: 2, partitions: 2, kind: Instant, batch: 1, warm: 2, crashes: 1, leaves: 1, past: 1, epochs: 8, states: 4_000},
	{
		name: "static", nodes: 2, partitions: 2, kind: HandOff, batch: 1, warm: 1, past: 0, epochs: 10, states: 6_000,
		changes: []Change{{Action: Add, Node: "c"}, {Action: Remove, Node: "c"}, {Action: Add, Node: "b"}},
	},
	{
		name: "three nodes", nodes: 3, partitions: 1, kind: HandOff, batch: 1, warm: 3, crashes: 1, past: 0, epochs: 9, states: 4_000,
		changes: []Change{{Action: Pin, Node: "a"}, {Action: Pin, Node: "c"}, {Action: Remove, Node: "b"}},
	},
	{
		name: "three nodes data", nodes: 3, partitions: 2, kind: Data, batch: 1, warm: 2, crashes: 1, past: 0, epochs: 9, states: 3_000,
		changes: []Change{{Action: Remove, Node: "a", Force: true}},
	},
}

func (s *scope) limit() int {
	switch {
	case *exploreStates > 0:
		return *exploreStates
	case testing.Short():
		return s.states / 8
	default:
		return s.states
	}
}

// exploration is a walk through all worlds that can come about, nearest first.
type exploration struct {
	scope *scope
	// seen are the worlds by their sums, and cameFrom how each came about.
	seen     map[uint64]int32
	cameFrom []origin
	steps    int
	// all: there are no others.
	all    bool
	found  string
	healed [4]map[uint64]bool
}

type origin struct {
	from int32
	by   action
}

func explore(s *scope, limit int) *exploration {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	e := &exploration{scope: s, seen: make(map[uint64]int32), all: true}
	for i := range e.healed {
		e.healed[i] = make(map[uint64]bool)
	}
	start := newWorld(s)
	frontier := []*world{start}
	e.add(start, 0, &action{verb: "begins"})
	for at := 0; len(frontier) > 0 && e.found == ""; {
		var next []*world
		for _, w := range frontier {
			e.successors(w, func(a *action, n *world) {
				e.steps++
				if e.found != "" {
					return
				}
				if len(e.cameFrom) >= limit {
					e.all = false
					return
				}
				if e.add(n, int32(at), a) { //nolint:gosec // far fewer
					next = append(next, n)
				}
			})
			at++
		}
		frontier = next
	}
	return e
}

// add takes a world in, unless it is known.
func (e *exploration) add(w *world, from int32, by *action) bool {
	sum := w.sum()
	if _, known := e.seen[sum]; known {
		return false
	}
	e.seen[sum] = int32(len(e.cameFrom)) //nolint:gosec // far fewer
	e.cameFrom = append(e.cameFrom, origin{from, *by})
	wrong := w.broken
	for i := 0; i < len(e.healed) && wrong == ""; i++ {
		if wrong = w.heal(order(i&1), i&2 != 0, e.healed[i]); wrong != "" {
			wrong = fmt.Sprintf("at rest (order %d, the dead come back: %v): %s", i&1, i&2 != 0, wrong)
		}
	}
	if wrong != "" {
		e.found = e.story(len(e.cameFrom)-1) + "=> " + wrong
	}
	return true
}

// story is how a world came about.
func (e *exploration) story(i int) string {
	if i == 0 {
		return ""
	}
	o := &e.cameFrom[i]
	return e.story(int(o.from)) + o.by.String() + "\n"
}

func (e *exploration) successors(w *world, yield func(*action, *world)) {
	for _, a := range w.actions() {
		node := a.node
		if a.verb == "change" || a.verb == "recreate" {
			node = -1
		}
		n := w.clone(node)
		n.do(&a)
		yield(&a, n)
	}
	if w.newest().Epoch < w.scope.epochs {
		w.decisions(yield)
	}
}

// decisions are what stewards may do that know more or less.
func (w *world) decisions(yield func(*action, *world)) {
	made := make(map[*Record]bool)
	views := []action{{verb: "decide"}}
	for i := range w.scope.nodes {
		var more []action
		oldest, newest := 0, len(w.nodes[i].said)-1
		if w.mayMiss() {
			oldest = -1
		}
		for _, a := range views {
			for age := oldest; age <= max(newest, 0); age++ {
				a.view[i] = int8(age) //nolint:gosec // a few
				more = append(more, a)
			}
		}
		views = more
	}
	const all = 1<<maxNodes - 1
	for _, a := range views {
		for _, known := range []struct {
			knows uint32
			grace bool
		}{{0, false}, {all, false}, {all, true}, {1, true}, {2, true}} {
			a.knows, a.grace = known.knows, known.grace
			a.next, _ = decide(w.newest(), w.viewOf(&a))
			if a.next == nil || made[a.next] {
				continue
			}
			made[a.next] = true
			n := w.clone(-1)
			n.do(&a)
			yield(&a, n)
		}
	}
}

func TestExplore(t *testing.T) {
	for i := range scopes {
		s := &scopes[i]
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
			e := explore(s, s.limit())
			t.Logf("%d states, %d steps, all there are: %v", len(e.cameFrom), e.steps, e.all)
			if e.found != "" {
				t.Fatalf("after %d states:\n%s", len(e.cameFrom), e.found)
			}
		})
	}
}
