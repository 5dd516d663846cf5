// SPDX-License-Identifier: Apache-2.0

package ring

// assignment is a ring on its way from one table to the next.
type assignment struct {
	ring   *Ring
	quotas []quota
	// pinned says which partitions may not move.
	pinned []bool
}

// newAssignment begins with the ring's owners as they were before.
func newAssignment(r *Ring) *assignment {
	a := &assignment{ring: r, quotas: make([]quota, len(r.nodes)), pinned: make([]bool, len(r.owners))}
	for i, n := range r.nodes {
		a.quotas[i] = quota{node: i, weight: n.Weight, seed: r.seeds[i]}
	}
	return a
}

func (a *assignment) run() {
	a.pin()
	a.count()
	setTargets(len(a.ring.owners), a.quotas)
	a.move()
}

// pin gives pinned partitions to their nodes.
func (a *assignment) pin() {
	index := a.ring.index()
	for p, name := range a.ring.pins {
		i := index[name]
		if i == 0 || a.quotas[i-1].weight == 0 {
			continue
		}
		a.ring.owners[p], a.pinned[p] = i, true
		a.quotas[i-1].pinned++
	}
}

// count takes from drained nodes what they have, and counts what the others have.
func (a *assignment) count() {
	for p, i := range a.ring.owners {
		switch {
		case i == 0:
		case a.quotas[i-1].weight == 0:
			a.ring.owners[p] = 0
		default:
			a.quotas[i-1].count++
		}
	}
}

// move moves what has no owner, or an owner with more than its target, to nodes that have less than theirs: of all such
// pairs of a partition and a node always the one with the best score.
func (a *assignment) move() {
	open := newChooser(a.quotas)
	if open.empty() {
		return
	}
	queue := newQueue(open.all(a.movables()))
	for !open.empty() {
		best := queue.first()
		p := int(best.partition)
		if !a.movable(p) {
			queue.pop()
			continue
		}
		q := &a.quotas[best.node]
		if q.count == q.target { // since it was chosen
			*best = open.best(p)
			queue.worsened()
			continue
		}
		queue.pop()
		a.give(p, q)
		if q.count == q.target {
			open.remove(q)
		}
	}
}

func (a *assignment) give(p int, to *quota) {
	if from := a.ring.owners[p]; from != 0 {
		a.quotas[from-1].count--
	}
	a.ring.owners[p] = uint16(to.node + 1)
	to.count++
}

func (a *assignment) movable(p int) bool {
	if a.pinned[p] {
		return false
	}
	i := a.ring.owners[p]
	return i == 0 || a.quotas[i-1].count > a.quotas[i-1].target
}

// movables says which partitions may move, by partition.
func (a *assignment) movables() []bool {
	movable := make([]bool, len(a.ring.owners))
	for p := range movable {
		movable[p] = a.movable(p)
	}
	return movable
}
