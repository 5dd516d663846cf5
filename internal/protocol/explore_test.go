// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"flag"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/assent-tx/assent/messages"
)

// exploreStates is for the long run: go test -run "TestExplore$" -explore.states=1000000 -timeout 0 -v ./internal/protocol
var exploreStates = flag.Int("explore.states", 0, "explore up to this many states a scope, instead of a default that is quick")

// sampleHeal: every so many'th state is healed; it is a prime, so that no pattern of the search is left out.
const sampleHeal = 11

// search is a breadth-first search, so that what it finds it finds by the shortest way.
type search struct {
	scope    *scope
	limit    int
	seen     map[digest]struct{}
	nodes    []node
	frontier []*universe
	first    int32 // the node of frontier[0]
	steps    int
	healed   int
	// thinned: there were too many states to visit all.
	thinned bool
	found   *finding
}

// node is how a world was found: the how many'th successor of which node.
type node struct {
	parent  int32
	ordinal int32
}

// finding is a broken promise, and how the world came to it.
type finding struct {
	broken string
	steps  []step
}

func (f *finding) String() string {
	var b strings.Builder
	for i, s := range f.steps {
		fmt.Fprintf(&b, "%3d  %s\n", i+1, s)
	}
	return b.String() + "=> " + f.broken
}

// explore visits every world that can come out of the scope's first one. Over a limit it leaves some out.
func explore(s *scope, limit int) *search {
	if *exploreStates == 0 { // memory is worth less here than the time of the garbage collector
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	e := &search{scope: s, limit: limit, seen: map[digest]struct{}{}}
	start := newUniverse(s)
	e.seen[start.digest()] = struct{}{}
	e.nodes = append(e.nodes, node{parent: -1})
	e.frontier = append(e.frontier, start)
	for len(e.frontier) > 0 && e.found == nil {
		e.level()
	}
	return e
}

// thinning: over the limit, each level goes on from no more than this part of the limit's states, evenly chosen, so that the
// search comes to an end all the same.
const thinning = 50

// level replaces the frontier by the next one.
func (e *search) level() {
	frontier, first := e.frontier, e.first
	e.frontier, e.first = nil, int32(len(e.nodes))
	stride := 1 + len(frontier)*thinning/e.limit
	for i, w := range frontier {
		if len(e.nodes) >= e.limit && i%stride != 0 {
			e.thinned = true
			continue
		}
		at := first + int32(i)
		if e.expand(at, w); e.found != nil {
			return
		}
		frontier[i] = nil
	}
}

// expand visits what may come after a world. A panic of the core says that it was brought where it must not come.
func (e *search) expand(at int32, w *universe) {
	ordinal := int32(-1)
	defer func() {
		if failure := recover(); failure != nil {
			e.find(at, step{verb: "then"}, fmt.Sprint("panic: ", failure))
		}
	}()
	w.successors(func(s step, n *universe) {
		ordinal++
		e.visit(node{at, ordinal}, s, n)
	})
	if e.found == nil && (ordinal < 0 || at%sampleHeal == 0) {
		e.heal(at, w)
		w.mustBeUnchanged()
	}
}

// visit looks at a world, and puts it into the next frontier when it is new.
func (e *search) visit(from node, s step, n *universe) {
	if e.found != nil {
		return
	}
	e.steps++
	if n.check(); n.broken != "" {
		e.find(from.parent, s, n.broken)
		return
	}
	key := n.digest()
	if _, ok := e.seen[key]; ok {
		return
	}
	e.seen[key] = struct{}{}
	e.nodes = append(e.nodes, from)
	e.frontier = append(e.frontier, n)
}

func (e *search) heal(at int32, w *universe) {
	for _, restart := range []bool{false, true} {
		e.healed++
		if n := w.heal(restart); n.broken != "" {
			verb := "all heals"
			if restart {
				verb = "all restarts and heals"
			}
			e.find(at, step{verb: verb}, n.broken)
			return
		}
	}
}

// find goes the way once more, from the first world, to tell it.
func (e *search) find(at int32, last step, broken string) {
	var way []int32
	for ; at > 0; at = e.nodes[at].parent {
		way = append(way, e.nodes[at].ordinal)
	}
	e.found = &finding{broken: broken}
	w := newUniverse(e.scope)
	for _, wanted := range slices.Backward(way) {
		ordinal := int32(-1)
		from := w
		from.successors(func(s step, n *universe) {
			if ordinal++; ordinal == wanted {
				e.found.steps = append(e.found.steps, s)
				w = n
			}
		})
	}
	e.found.steps = append(e.found.steps, last)
}

var (
	yes      = []messages.Vote{messages.VoteYes}
	yesNo    = []messages.Vote{messages.VoteYes, messages.VoteNo}
	readOnly = []messages.Vote{messages.VoteReadOnly}
	yesRead  = []messages.Vote{messages.VoteYes, messages.VoteReadOnly}
)

// slowHandler is the story of a transaction that timed out while a handler was slow to prepare it.
func slowHandler(w *universe) {
	w.submit(0, 0)
	w.left.submits[0] = 0
	w.flush()
	w.healLeader(0)
	w.deliver(0, 0)
	w.now += moment
	w.healLeader(0)
	w.flush()
	w.healLeader(0)
}

// slowInstance goes on: the rollback has overtaken the prepare in the store, through another instance that has not said so yet.
func slowInstance(w *universe) {
	slowHandler(w)
	k := w.worker(1)
	w.receive(1, k, &w.packets[0])
	w.settle(1, k)
	w.runFinish(1, 0)
}

// committedOnce is the story of a transaction that went well, with one leader; the other has read nothing, and the client may not
// have had its answer.
func committedOnce(w *universe) {
	w.submit(0, 0)
	w.left.submits[0]--
	w.flush()
	w.healLeader(0)
	w.deliver(0, 0)
	w.healWorker(0)
	w.flush()
	w.healWorker(0)
	w.healLeader(0)
	w.healPacket(&w.packets[0], 0)
	w.healWorker(0)
}

// flush appends all that is on its way.
func (w *universe) flush() {
	flying := w.flying
	w.flying = nil
	for _, p := range flying {
		w.append(p, w.now)
	}
}

// scopes are the worlds that are explored. States is how many of one's are visited by default; those that have fewer are
// explored from end to end.
var scopes = []scope{
	{name: "two leaders", states: 40_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{yes}, moments: 1, maxLog: 5, timeout: moment / 2, window: moment},
	{name: "two leaders, crashing", states: 8_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{yes}, moments: 1, crashes: 1, maxLog: 5, timeout: moment / 2, window: moment},
	{name: "trimming", states: 15_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{readOnly}, moments: 1, checkpoints: 2, garbage: 1, maxLog: 4, timeout: moment / 2, window: moment / 2},
	{name: "late sibling", states: 15_000, participants: 1, instances: 2, leaders: 1, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{yes}, crashes: 1, maxLog: 4, timeout: moment / 2, window: moment, noInDoubt: true, begin: slowHandler},
	{name: "later sibling", states: 20_000, participants: 1, instances: 2, leaders: 1, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{yes}, crashes: 1, maxLog: 4, timeout: moment / 2, window: moment, noInDoubt: true, begin: slowInstance},
	{name: "committed once", states: 10_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 2,
		answers: [2][]messages.Vote{yes}, moments: 2, crashes: 1, redeliveries: 1, maxLog: 6, timeout: moment / 2, window: moment / 2,
		begin: committedOnce},
	{name: "alive again", states: 10_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 2,
		answers: [2][]messages.Vote{yes}, moments: 2, crashes: 1, checkpoints: 1, maxLog: 6, timeout: 3 * moment / 2, window: moment,
		begin: committedOnce},
	{name: "forgetting", states: 25_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 2,
		answers: [2][]messages.Vote{yes}, moments: 2, maxLog: 5, timeout: moment / 2, window: moment / 2},
	{name: "everything forgotten", states: 8_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 2,
		answers: [2][]messages.Vote{yes}, moments: 2, checkpoints: 1, maxLog: 7, timeout: moment / 2, window: moment / 2},
	{name: "an old end", states: 5_000, participants: 1, instances: 1, leaders: 2, transactions: 1, submits: 2, past: true,
		answers: [2][]messages.Vote{yes}, moments: 2, crashes: 1, checkpoints: 1, maxLog: 6, timeout: moment / 2, window: moment / 2,
		begin: committedOnce},
	{name: "two participants", states: 12_000, participants: 2, instances: 1, leaders: 1, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{yes, yesNo}, moments: 1, maxLog: 5, timeout: moment / 2, window: moment},
	{name: "two of each", states: 10_000, participants: 2, instances: 1, leaders: 2, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{yesRead, yes}, moments: 1, maxLog: 5, timeout: moment / 2, window: moment},
	{name: "two instances", states: 12_000, participants: 1, instances: 2, leaders: 1, transactions: 1, submits: 1,
		answers: [2][]messages.Vote{yes}, moments: 1, crashes: 1, maxLog: 4, timeout: moment / 2, window: moment, noInDoubt: true},
	{name: "redelivery", states: 8_000, participants: 1, instances: 2, leaders: 1, transactions: 1, submits: 1, lag: 1,
		answers: [2][]messages.Vote{yes}, moments: 1, redeliveries: 1, maxLog: 4, timeout: moment / 2, window: moment},
	{name: "every fault", states: 10_000, participants: 1, instances: 1, leaders: 1, transactions: 1, submits: 2,
		answers: [2][]messages.Vote{yesNo}, moments: 2, crashes: 2, redeliveries: 1, skews: 1, duplicates: 1, doubts: 1, failures: 1, maxLog: 6,
		timeout: moment / 2, window: moment},
	{name: "keys", states: 6_000, participants: 2, instances: 1, leaders: 1, transactions: 1, submits: 1, keys: true, wounds: 1,
		answers: [2][]messages.Vote{yesNo, yes}, moments: 1, maxLog: 6, timeout: moment / 2, window: moment},
	{name: "keys, crashing", states: 6_000, participants: 1, instances: 1, leaders: 1, transactions: 1, submits: 1, keys: true, wounds: 2,
		answers: [2][]messages.Vote{yes}, moments: 1, crashes: 1, redeliveries: 1, failures: 1, doubts: 1, maxLog: 6, timeout: moment / 2, window: moment},
	{name: "keys of two instances", states: 5_000, participants: 1, instances: 2, leaders: 1, transactions: 1, submits: 1, keys: true, wounds: 1,
		answers: [2][]messages.Vote{yes}, moments: 1, crashes: 1, redeliveries: 1, maxLog: 5, timeout: moment / 2, window: moment},
	{name: "keys, no-wait", states: 8_000, participants: 1, instances: 1, leaders: 1, transactions: 2, submits: 1, keys: true, noWait: true,
		answers: [2][]messages.Vote{yes}, moments: 1, crashes: 1, redeliveries: 1, maxLog: 8, timeout: moment / 2, window: moment},
	{name: "two transactions", states: 8_000, participants: 1, instances: 1, leaders: 1, transactions: 2, submits: 1,
		answers: [2][]messages.Vote{yesNo}, moments: 1, crashes: 1, maxLog: 8, timeout: moment / 2, window: moment},
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

func TestExplore(t *testing.T) {
	for i := range scopes {
		t.Run(strings.ReplaceAll(scopes[i].name, " ", "-"), func(t *testing.T) {
			e := explore(&scopes[i], scopes[i].limit())
			t.Logf("%d states, %d steps, %d healed; all there are: %v", len(e.nodes), e.steps, e.healed, !e.thinned)
			if e.found != nil {
				t.Fatalf("after %d states:\n%s", len(e.nodes), e.found)
			}
		})
	}
}
