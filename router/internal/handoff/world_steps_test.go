// SPDX-License-Identifier: Apache-2.0

package handoff

import "fmt"

// action is one thing that happens. What it is about depends on the verb.
type action struct {
	verb string
	node int
	// what is a partition, a version, a session or a change.
	what int
	// view is, for a steward, how old the presence is that it knows of each node, -1 for none; knows is what it knows of ended sessions:
	// a bit for each node.
	view  [maxNodes]int8
	knows uint32
	grace bool
	// next is what the steward decides, if that is known.
	next *Record
}

func (a *action) String() string {
	switch a.verb {
	case "decide":
		return fmt.Sprintf("a steward decides: presences %v, knows ended %b, grace over %v", a.view, a.knows, a.grace)
	case "change", "recreate":
		return fmt.Sprintf("an operator: %s %d", a.verb, a.what)
	default:
		return fmt.Sprintf("%s: %s %d", nodeName(a.node), a.verb, a.what)
	}
}

// actions are all that may happen next, except what stewards do.
func (w *world) actions() []action {
	var actions []action
	add := func(verb string, node, what int) {
		actions = append(actions, action{verb: verb, node: node, what: what})
	}
	for i := range w.scope.nodes {
		m := w.nodes[i]
		for session := 1; session <= m.sessions; session++ {
			current := m.joined && session == m.sessions && m.holder != nil
			if m.ended&(1<<session) == 0 && !current {
				add("session ends", i, session)
			}
		}
		if m.saying != nil {
			add("say", i, 0)
		}
		if m.holder == nil {
			add("start", i, 0)
			continue
		}
		w.processActions(i, m, add)
	}
	if len(w.scope.changes) > 0 && w.newest().Epoch < w.scope.epochs {
		for c := range w.scope.changes {
			if w.changed&(1<<c) == 0 {
				add("change", 0, c)
			}
		}
	}
	if w.left.recreations > 0 {
		add("recreate", 0, 0)
	}
	return actions
}

func (w *world) processActions(i int, m *member, add func(verb string, node, what int)) {
	if w.left.crashes > 0 {
		add("crash", i, 0)
	}
	if m.leaving {
		add("exit", i, 0)
	}
	if m.joined && w.left.losses > 0 {
		add("lose", i, 0)
	}
	if m.joined && w.left.leaves > 0 && !m.leaving {
		add("leave", i, 0)
	}
	if !m.joined && !m.leaving && m.holder.Record() != nil && m.allEnded() {
		add("join", i, 0)
	}
	for v, r := range w.records {
		if m.holder.Record() != r {
			add("read", i, len(w.records)-1-v)
		}
	}
	if m.holder.recalling {
		add("recall", i, 0)
	}
	for p := range w.scope.partitions {
		switch {
		case m.hooks[p] != 0:
			add("hook succeeds", i, p)
			if w.left.failures > 0 {
				add("hook fails", i, p)
			}
		case m.holder.holdings[p] != nil && m.holder.holdings[p].failed != 0:
			add("retry", i, p)
		}
		if m.work[p] != 0 {
			add("work leaves", i, p)
		} else if w.scope.work && m.joined && m.open&(1<<p) != 0 {
			add("work enters", i, p)
		}
	}
}

// allEnded: the lock of the node's name is free.
func (m *member) allEnded() bool { return m.ended == 1<<(m.sessions+1)-2 }
