// SPDX-License-Identifier: Apache-2.0

package handoff

import "fmt"

// order is in which order a calm world does what there is to do.
type order uint8

const (
	// byNodes: the nodes do all that they can before a steward does anything.
	byNodes order = iota
	// bySteward: a steward does all that it can before the nodes do anything.
	bySteward
)

// calm are the verbs of a world without faults, by how early they come.
var calm = []string{"session ends", "say", "recall", "read", "join", "work leaves", "hook succeeds", "retry", "exit"}

// next is what a world without faults does next; nil when there is nothing left to do. With back, processes that have died begin again.
func (w *world) next(o order, back bool) *action {
	if o == bySteward {
		if a := w.trueDecision(); a != nil {
			return a
		}
	}
	actions := w.actions()
	for _, verb := range calm {
		for i := range actions {
			a := &actions[i]
			if a.verb == verb && (verb != "read" || a.what == 0) && (verb != "exit" || w.mayExit(a.node)) {
				return a
			}
		}
	}
	for i := range actions {
		if a := &actions[i]; back && a.verb == "start" {
			return a
		}
	}
	if o == byNodes {
		return w.trueDecision()
	}
	return nil
}

// mayExit tells whether a process that leaves has nothing left to wait for.
func (w *world) mayExit(i int) bool {
	return w.scope.kind == Data || !w.nodes[i].joined || w.newest().Node(nodeName(i)) == nil
}

// trueDecision is that of a steward that knows everything; nil when there is nothing to decide.
func (w *world) trueDecision() *action {
	a := &action{verb: "decide", knows: 1<<maxNodes - 1, grace: true}
	next, _ := decide(w.newest(), w.viewOf(a))
	if next == nil {
		return nil
	}
	a.next = next
	return a
}

// healSteps are enough for everything to end that ever does.
const healSteps = 2000

// heal lets a world come to rest. Healed are worlds that are known to; it is given those that were passed. What it says is wrong
// then, or empty.
func (w *world) heal(o order, back bool, healed map[uint64]bool) string {
	n := *w
	for i := range n.scope.nodes {
		n.nodes[i] = n.nodes[i].clone()
	}
	var passed []uint64
	for range healSteps {
		sum := n.sum()
		if healed[sum] {
			break
		}
		passed = append(passed, sum)
		a := n.next(o, back)
		if a == nil {
			if wrong := n.unrest(back); wrong != "" {
				return wrong
			}
			break
		}
		n.do(a)
		if n.broken != "" {
			return "healing: " + n.broken
		}
		if len(passed) == healSteps {
			return "it never comes to rest"
		}
	}
	for _, sum := range passed {
		healed[sum] = true
	}
	return ""
}

// unrest says what is not as it should be in a world that has come to rest.
func (w *world) unrest(back bool) string {
	r := w.newest()
	able := false
	for i := range w.scope.nodes {
		n := r.Node(nodeName(i))
		able = able || n != nil && !n.Down && n.share() > 0
		if m := w.nodes[i]; m.joined && !m.leaving && (n == nil || n.Session != sessionName(i, m.sessions)) {
			return fmt.Sprintf("%s lives, and is not in the group: %s", nodeName(i), r.Encode())
		}
	}
	if len(r.Moving) > 0 {
		return fmt.Sprintf("partition %d moves for ever: %s", r.Moving[0].Partition, r.Encode())
	}
	for p := range r.Partitions {
		if wrong := w.unrestOf(p, able, back); wrong != "" {
			return fmt.Sprintf("%s: %s", wrong, r.Encode())
		}
	}
	return ""
}

func (w *world) unrestOf(p int, able, back bool) string {
	r := w.newest()
	owner := r.Node(r.Owner(p))
	switch {
	case owner == nil && able:
		return fmt.Sprintf("partition %d is nobody's, and somebody could have it", p)
	case owner == nil, owner.Static:
		return ""
	case owner.Down && (w.scope.kind != Data || back):
		return fmt.Sprintf("partition %d stays with %s, which is down", p, owner.Name)
	case owner.Down:
		return ""
	case r.Target(p) != owner.Name:
		return fmt.Sprintf("partition %d never gets to its target %q", p, r.Target(p))
	case !w.nodes[int(owner.Name[0]-'a')].acts(p):
		return fmt.Sprintf("%s does not act for partition %d", owner.Name, p)
	case owner.share() == 0 && able:
		return fmt.Sprintf("%s keeps partition %d without weight", owner.Name, p)
	}
	return ""
}
