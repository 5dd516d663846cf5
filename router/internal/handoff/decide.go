// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"cmp"
	"maps"
	"slices"

	"github.com/assent-tx/assent/router/ring"
)

// View is what a steward knows of the nodes. It must be at least as new as the record that Decide gets with it: whoever reads
// both in the order in which they were stored, has that. It need not be newer.
type View struct {
	// Nodes is the newest known presence of each node, with its Revision. The steward may leave out the presence of a node that is not
	// in the record until it has seen its session live: so no node that is gone joins again for a moment.
	Nodes map[string]Presence
	// Ended has the sessions that have ended for certain, and for how many ms that is known. A session is in it that a node
	// of the record or a presence has, as soon as it is known.
	Ended map[string]int64
	// Rest begins no further moves now; what is under way goes on, and what is nobody's is given to somebody. A steward that leaves the
	// nodes some time between batches must not rest for ever.
	Rest bool
}

func (v *View) ended(session string) bool {
	_, ended := v.Ended[session]
	return ended
}

// Decide gives the record that is to follow r; nil when there is nothing to do. Wait is after how many ms there may be something to
// do although nothing is heard; 0 is never. It is the same for every steward that knows the same, and several do no harm: the
// record is stored by compare-and-swap on r.
func Decide(r *Record, v *View) (next *Record, wait int64) {
	if r.Epoch >= MaxNumber {
		return nil, 0
	}
	d := r.draft()
	d.rest = v.Rest
	for _, n := range r.Nodes {
		if !n.Static {
			wait = sooner(wait, d.judge(n.Name, v))
		}
	}
	d.admit(v)
	d.complete(v)
	d.settle()
	if !d.changed {
		return nil, wait
	}
	return d.record(), wait
}

// MayWait tells whether a record that Decide has given for r may be stored a little later: it does nothing but complete moves and begin
// others, and of those that were under way some are not released yet. A batch that is completed as a whole is one record, however
// many nodes release how many partitions of it.
func (r *Record) MayWait(next *Record) bool {
	if !slices.Equal(r.Nodes, next.Nodes) || !maps.Equal(r.Pins, next.Pins) {
		return false
	}
	for p := range r.Partitions {
		if r.Target(p) != next.Target(p) || r.Owner(p) != next.Owner(p) && r.Since(p) == 0 {
			return false
		}
	}
	return slices.ContainsFunc(r.Moving, func(m Move) bool { return next.Since(m.Partition) == m.Since })
}

func sooner(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// judge brings a node up to what is known of it, and takes it out if it is time. Wait is when that may be.
func (d *draft) judge(name string, v *View) (wait int64) {
	n := d.node(name)
	said, ok := v.Nodes[name]
	if ok && d.returns(n, &said, v) {
		d.welcome(n, &said)
		return 0
	}
	if v.ended(n.Session) && !n.Down {
		n.Down, d.reshaped, d.changed = true, true, true
	}
	if ok && said.Session == n.Session && said.Leaving && !n.Leaving && d.from.Kind != Data {
		n.Leaving, d.reshaped, d.changed = true, true, true
	}
	empty := !d.owns(name)
	elapsed, known := v.Ended[n.Session]
	over := known && elapsed >= d.from.grace()
	switch {
	case empty && (n.Leaving || n.Removing && n.Down), // it has nothing to come back for
		n.Leaving && n.Down, // it went without waiting for the rest, and said so
		n.Down && over && (empty || d.from.Kind != Data): // it is lost
		d.remove(name)
	case known && !over && (empty || d.from.Kind != Data):
		return max(d.from.grace()-elapsed, 1)
	}
	return 0
}

// returns tells whether a presence is of a later process of a node than the record's. The earlier session must have ended: whatever is
// stored as the presence, by a process that was paused and has lost the lock of its name meanwhile, no session that lives is ever
// replaced. An older presence is no news, and only has the node look down.
func (d *draft) returns(n *Node, said *Presence, v *View) bool {
	return said.Session != n.Session && (n.Down || v.ended(n.Session)) && said.Revision > n.Revision && d.mayJoin(said, v)
}

// mayJoin tells whether the process that a presence is of may do something for the group. It must have read the group's
// record, and so have nothing in hand of an earlier incarnation.
func (d *draft) mayJoin(said *Presence, v *View) bool {
	return said.Incarnation == d.from.Incarnation && !said.Leaving && !v.ended(said.Session) && said.check() == nil
}

// welcome notes the session with which a node is back. It keeps its weight, as an operator may have set it; but what was being taken
// out, and has handed over everything, joins anew.
func (d *draft) welcome(n *Node, said *Presence) {
	if n.Removing && !d.owns(n.Name) {
		n.Removing, n.Weight = false, said.Weight
	}
	n.Session, n.Revision, n.Zone, n.Subject = said.Session, said.Revision, said.Zone, said.Subject
	n.Leaving, n.Down = false, false
	d.reshaped, d.changed = true, true
}

// admit adds the nodes that want to join, and makes members of static ones that have got a process.
func (d *draft) admit(v *View) {
	if d.awaits(v) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(v.Nodes)) {
		said := v.Nodes[name]
		n, before := d.node(name), d.from.Node(name)
		switch {
		case n != nil && !n.Static, !d.mayJoin(&said, v), !isName(name, MaxName):
		case before != nil && said.Revision <= before.Revision: // an older presence of a node that was just taken out
		case n != nil:
			n.Static, n.Session, n.Revision = false, said.Session, said.Revision
			n.Zone, n.Subject = cmp.Or(said.Zone, n.Zone), cmp.Or(said.Subject, n.Subject)
			d.reshaped, d.changed = true, true
		case len(d.nodes) < ring.MaxNodes:
			d.insert(&Node{
				Name: name, Weight: said.Weight, Zone: said.Zone, Subject: said.Subject, Session: said.Session, Revision: said.Revision,
			})
		}
	}
}

// awaits tells whether a node may still act by the record of an earlier incarnation. Until it has read this one's nobody
// joins, so that nobody acts for what it acts for.
func (d *draft) awaits(v *View) bool {
	for _, said := range v.Nodes {
		if said.Incarnation > 0 && said.Incarnation < d.from.Incarnation && !v.ended(said.Session) {
			return true
		}
	}
	return false
}

// complete gives partitions to their targets that their owners have released. Only what the session that the record names has said
// of this very move counts.
func (d *draft) complete(v *View) {
	for p, since := range d.moving {
		owner := d.node(d.owners[p])
		said, ok := v.Nodes[owner.Name]
		target := d.node(d.targets[p])
		switch {
		case !ok || said.Session != owner.Session || said.Incarnation != d.from.Incarnation, !slices.Contains(said.Released, Move{p, since}):
		case target != nil && !target.Down, target == nil && d.targets[p] == "":
			d.owners[p] = d.targets[p]
			delete(d.moving, p)
			d.changed = true
		}
	}
}
