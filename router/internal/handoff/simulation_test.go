// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
)

var (
	// simulationRuns is for the long run: go test -run TestSimulation -simulation.runs=100000 -timeout 0 ./router/internal/handoff
	simulationRuns = flag.Int("simulation.runs", 150, "simulate so many groups")
	// simulationSeed runs one again: go test -run TestSimulation -simulation.seed=17 -v ./router/internal/handoff
	simulationSeed = flag.Uint64("simulation.seed", 0, "simulate only the group of this seed, and tell what happened")
)

// simulationSteps are the steps of a run before the faults end.
const simulationSteps = 600

// TestSimulation drives groups of five nodes and sixteen partitions through everything that can happen, at random, and holds each state
// against what is promised; then lets them come to rest.
func TestSimulation(t *testing.T) {
	if *simulationSeed != 0 {
		simulate(t, *simulationSeed, true)
		return
	}
	runs, epochs := *simulationRuns, uint64(0)
	if testing.Short() {
		runs /= 10
	}
	for seed := uint64(1); seed <= uint64(runs) && !t.Failed(); seed++ { //nolint:gosec // not negative
		epochs += simulate(t, seed, false)
	}
	t.Logf("%d groups, %d epochs", runs, epochs)
}

func simulate(t *testing.T, seed uint64, tell bool) (epochs uint64) {
	random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // reproducible on purpose
	w := newWorld(randomScope(random))
	var story []string
	do := func(a *action) bool {
		story = append(story, a.String())
		before := w.newest()
		w.do(a)
		if a.verb == "decide" {
			w.checkSettled(a)
		}
		if r := w.newest(); tell && r != before {
			story = append(story, string(r.Encode()))
		}
		return w.broken == ""
	}
	for range simulationSteps {
		if !do(w.random(random)) {
			break
		}
	}
	if w.broken == "" {
		w.broken = w.heal(order(random.IntN(2)), random.IntN(2) == 0, map[uint64]bool{})
	}
	if w.broken != "" {
		t.Errorf("%s\nkind %s: %s\nagain: -simulation.seed=%d", strings.Join(story[max(0, len(story)-40):], "\n"), w.scope.kind, w.broken, seed)
	} else if tell {
		t.Log(strings.Join(story, "\n"))
	}
	return w.newest().Epoch
}

// checkSettled: a steward that hears nothing new has soon decided everything.
func (w *world) checkSettled(a *action) {
	const soon = 4
	r, v := w.newest(), w.viewOf(a)
	for range soon {
		next, _ := Decide(r, v)
		if next == nil {
			return
		}
		r = next
	}
	w.breaks("a steward that hears nothing new goes on and on: %s", r.Encode())
}

func randomScope(random *rand.Rand) *scope {
	s := &scope{
		nodes: 2 + random.IntN(maxNodes-1), partitions: 1 + random.IntN(maxPartitions), kind: []Kind{HandOff, HandOff, Data, Instant}[random.IntN(4)],
		batch: 1 + random.IntN(4), crashes: random.IntN(8), losses: random.IntN(8), failures: random.IntN(20), leaves: random.IntN(4),
		recreations: max(0, random.IntN(4)-2), recall: random.IntN(2) == 0, zombies: random.IntN(2) == 0, work: true, past: random.IntN(4), epochs: MaxNumber,
	}
	s.warm = random.IntN(s.nodes + 1)
	for range random.IntN(12) {
		c := Change{
			Action: []Action{Add, Remove, Drain, Weigh, Weigh, Pin, Unpin}[random.IntN(7)], Node: nodeName(random.IntN(s.nodes)),
			Weight: 1 + random.IntN(3), Partition: random.IntN(s.partitions), Force: random.IntN(4) == 0,
		}
		s.changes = append(s.changes, c)
	}
	return s
}

// random is one thing that happens next. What keeps a group going is more likely than what disturbs it.
func (w *world) random(random *rand.Rand) *action {
	actions := w.actions()
	if len(actions) == 0 || random.IntN(4) == 0 {
		return w.randomDecision(random)
	}
	for range 8 {
		a := &actions[random.IntN(len(actions))]
		switch a.verb {
		case "crash", "lose", "leave", "recreate", "change", "session ends":
			if random.IntN(12) != 0 {
				continue
			}
		default:
		}
		return a
	}
	return w.randomDecision(random)
}

// randomDecision is that of a steward who knows something, and not always the newest.
func (w *world) randomDecision(random *rand.Rand) *action {
	a := &action{verb: "decide", knows: random.Uint32(), grace: random.IntN(2) == 0}
	for i := range w.scope.nodes {
		switch random.IntN(4) {
		case 0:
			a.view[i] = int8(random.IntN(w.scope.past + 1)) //nolint:gosec // a few
			if last := len(w.nodes[i].said) - 1; int(a.view[i]) > last {
				a.view[i] = int8(max(last, 0)) //nolint:gosec // a few
			}
		case 1:
			if w.mayMiss() {
				a.view[i] = -1
			}
		default:
		}
	}
	return a
}
