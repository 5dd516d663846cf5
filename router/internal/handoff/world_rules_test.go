// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"bytes"
	"fmt"
)

// breaks notes what was promised and is not so.
func (w *world) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// acts tells whether a node acts for a partition: work may enter, and the session lives.
func (m *member) acts(p int) bool {
	return m.holder != nil && m.joined && m.open&(1<<p) != 0
}

// check holds the world against what is promised in every state.
func (w *world) check() {
	for p := range w.scope.partitions {
		actor := -1
		for i := range w.scope.nodes {
			m := w.nodes[i]
			if !m.acts(p) {
				continue
			}
			w.checkActor(i, m, p)
			if actor >= 0 && w.scope.kind != Instant {
				w.breaks("%s and %s both act for partition %d", nodeName(actor), nodeName(i), p)
			}
			actor = i
		}
		if actor >= 0 && w.scope.kind != Instant {
			w.checkWork(actor, p)
		}
	}
}

// checkActor: a node acts only as the record has it that it knows, and a record has one owner: so no two act in one epoch.
func (w *world) checkActor(i int, m *member, p int) {
	r := m.holder.Record()
	n := r.Node(nodeName(i))
	if r.Owner(p) != nodeName(i) || r.Since(p) != 0 || n == nil || n.Session != sessionName(i, m.sessions) || n.Down {
		w.breaks("%s acts for partition %d, which is not its by epoch %d", nodeName(i), p, r.Epoch)
	}
	if w.had[p][i] != m.sessions {
		w.breaks("%s acts for partition %d, which it has not acquired", nodeName(i), p)
	}
}

// checkWork: while a node acts, no other whose session lives has work of the partition in hand.
func (w *world) checkWork(actor, p int) {
	for i := range w.scope.nodes {
		m := w.nodes[i]
		if i != actor && m.work[p] != 0 && m.ended&(1<<m.work[p]) == 0 {
			w.breaks("%s acts for partition %d while %s has work of it in hand", nodeName(actor), p, nodeName(i))
		}
	}
}

// checkHook looks at a hook that is asked.
func (w *world) checkHook(i int, m *member, step *Step) {
	p := step.Partition
	if m.open&(1<<p) != 0 {
		w.breaks("%s is asked to %v partition %d, which is open", nodeName(i), step.Kind, p)
	}
	switch step.Kind {
	case AskAcquire:
		for j := range w.scope.nodes {
			if had := w.had[p][j]; w.scope.kind != Instant && had != 0 && (j != i || had != m.sessions) {
				w.breaks("%s acquires partition %d, which %s has not released", nodeName(i), p, sessionName(j, had))
			}
		}
		if m.work[p] != 0 && m.holder.holdings[p].busy {
			w.breaks("%s acquires partition %d with work in hand", nodeName(i), p)
		}
		w.had[p][i] = m.sessions
	case AskRelease:
		if m.work[p] != 0 || m.durable[p] != 0 {
			w.breaks("%s releases partition %d with work in hand", nodeName(i), p)
		}
		if n := w.newest().Node(nodeName(i)); w.newest().Incarnation == m.holder.incarnation && (n == nil || n.Session == sessionName(i, m.sessions)) &&
			w.newest().Owner(p) != nodeName(i) {
			w.breaks("%s releases partition %d, which is not its any more", nodeName(i), p)
		}
	case AskDrop:
		if w.newest().Incarnation == m.holder.incarnation && w.released[p][i] == (release{}) {
			w.breaks("%s drops partition %d, which it has not released", nodeName(i), p)
		}
	default:
		w.breaks("%s is asked to %v", nodeName(i), step.Kind)
	}
}

// checkRecord looks at a record that is stored, and the one before.
func (w *world) checkRecord(from, to *Record) {
	if to.Incarnation != from.Incarnation || to.Epoch != from.Epoch+1 {
		w.breaks("epoch %d is followed by %d", from.Epoch, to.Epoch)
	}
	w.checkForm(to)
	for i := range w.scope.nodes {
		before, after := from.Node(nodeName(i)), to.Node(nodeName(i))
		if before == nil || before.Static {
			continue
		}
		left := w.owned(from, i) == 0 && (after == nil || !after.Down) // whoever leaves and owns nothing goes before its session ends
		if !left && (after == nil || after.Session != before.Session || after.Down) && !w.hasEnded(before) {
			w.breaks("epoch %d takes %s for ended", to.Epoch, before.Session)
		}
	}
	for p := range to.Partitions {
		w.checkTransfer(from, to, p)
	}
}

// wellFormed are records that were found to be the same after they were written and read.
var wellFormed = map[*Record]bool{}

func (w *world) checkForm(r *Record) {
	if wellFormed[r] {
		return
	}
	again, err := Decode(r.Encode())
	switch {
	case err != nil:
		w.breaks("epoch %d: %v: %s", r.Epoch, err, r.Encode())
	case !bytes.Equal(again.Encode(), r.Encode()):
		w.breaks("epoch %d is %s, read again %s", r.Epoch, r.Encode(), again.Encode())
	}
	wellFormed[r] = true
}

func (w *world) owned(r *Record, i int) int {
	owned := 0
	for p := range r.Partitions {
		if r.Owner(p) == nodeName(i) {
			owned++
		}
	}
	return owned
}

// checkTransfer: a partition leaves its owner only when that has released it by this very move, or its session has ended.
func (w *world) checkTransfer(from, to *Record, p int) {
	owner := from.Node(from.Owner(p))
	if owner == nil || to.Owner(p) == owner.Name || owner.Static || w.scope.kind == Instant {
		return
	}
	i := int(owner.Name[0] - 'a')
	m := w.nodes[i]
	if w.hasEnded(owner) {
		return
	}
	if to.Owner(p) == "" && !owner.Leaving {
		w.breaks("epoch %d takes partition %d from %s and gives it to nobody", to.Epoch, p, owner.Session)
	}
	released := w.released[p][i]
	if from.Since(p) == 0 || released.since != from.Since(p) || sessionName(i, released.session) != owner.Session {
		w.breaks("epoch %d takes partition %d from %s, which has not released it", to.Epoch, p, owner.Session)
	}
	passedOn := released.to == "" || to.Node(released.to) != nil && to.Node(released.to).Static // in the same step
	if released.to != to.Owner(p) && !passedOn {
		w.breaks("epoch %d gives partition %d to %q, but it was released to %q", to.Epoch, p, to.Owner(p), released.to)
	}
	if m.hooks[p] == AskRelease && m.joined {
		w.breaks("epoch %d takes partition %d from %s, which is releasing it", to.Epoch, p, owner.Session)
	}
}

func (w *world) hasEnded(n *Node) bool {
	m := w.nodes[int(n.Name[0]-'a')]
	for session := 1; session <= m.sessions; session++ {
		if sessionName(int(n.Name[0]-'a'), session) == n.Session {
			return m.ended&(1<<session) != 0
		}
	}
	return false
}
