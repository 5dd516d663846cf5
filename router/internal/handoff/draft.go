// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"cmp"
	"maps"
	"slices"

	"github.com/assent-tx/assent/router/ring"
)

// draft is the next record in the making.
type draft struct {
	from  *Record
	nodes []Node
	pins  ring.Pins
	// owners and targets are by partition.
	owners, targets []string
	// moving is the epoch in which the move of a partition began.
	moving map[int]uint64
	// reshaped: nodes, weights or pins have changed, so the targets are to be computed anew.
	reshaped bool
	// changed: something differs from the record.
	changed bool
	// rest begins no further moves: see View.
	rest bool
}

func (r *Record) draft() *draft {
	d := &draft{
		from: r, nodes: slices.Clone(r.Nodes), pins: maps.Clone(r.Pins), moving: make(map[int]uint64, len(r.Moving)),
		owners: make([]string, r.Partitions), targets: make([]string, r.Partitions),
	}
	for p := range d.owners {
		d.owners[p], d.targets[p] = r.Owner(p), r.Target(p)
	}
	for _, m := range r.Moving {
		d.moving[m.Partition] = m.Since
	}
	return d
}

// epoch is the epoch that the draft will have.
func (d *draft) epoch() uint64 { return d.from.Epoch + 1 }

// record finishes the draft.
func (d *draft) record() *Record {
	r := &Record{
		V: Version, Group: d.from.Group, Incarnation: d.from.Incarnation, Epoch: d.epoch(), Settings: d.from.Settings, Nodes: d.nodes, Pins: d.pins,
	}
	for p, since := range d.moving {
		r.Moving = append(r.Moving, Move{p, since})
	}
	slices.SortFunc(r.Moving, func(a, b Move) int { return cmp.Compare(a.Partition, b.Partition) })
	r.complete(r.tableOf(d.owners), r.tableOf(d.targets))
	return r
}

// node is the node of a name, nil when there is none. It may be changed, until nodes come or go.
func (d *draft) node(name string) *Node {
	i, found := findNode(d.nodes, name)
	if !found {
		return nil
	}
	return &d.nodes[i]
}

// insert adds a node.
func (d *draft) insert(n *Node) {
	i, _ := findNode(d.nodes, n.Name)
	d.nodes = slices.Insert(d.nodes, i, *n)
	d.reshaped, d.changed = true, true
}

// remove takes a node out. What it owned is nobody's.
func (d *draft) remove(name string) {
	i, _ := findNode(d.nodes, name)
	d.nodes = slices.Delete(d.nodes, i, i+1)
	for p := range d.owners {
		if d.owners[p] == name {
			d.owners[p] = ""
			delete(d.moving, p)
		}
	}
	d.reshaped, d.changed = true, true
}

// owns tells whether a node owns a partition, or is to.
func (d *draft) owns(name string) bool {
	return slices.Contains(d.owners, name) || slices.Contains(d.targets, name)
}

// holds counts what a node owns.
func (d *draft) holds(name string) int {
	n := 0
	for _, owner := range d.owners {
		if owner == name {
			n++
		}
	}
	return n
}

// settle brings targets and moves into line with everything else.
func (d *draft) settle() {
	before := d.targets // retarget makes others
	if d.reshaped {
		d.retarget()
	}
	d.callOff(before)
	d.begin()
}

// callOff ends moves that nobody has to release any more or that lead nowhere new, and begins those anew that lead to another
// target than before.
func (d *draft) callOff(before []string) {
	for p := range d.moving {
		owner := d.node(d.owners[p])
		switch {
		case owner == nil || owner.Static || owner.Down || d.targets[p] == owner.Name:
			delete(d.moving, p)
			d.changed = true
		case d.targets[p] != before[p]:
			d.moving[p] = d.epoch()
			d.changed = true
		}
	}
}

// begin gives partitions to their targets that nobody has to release, and begins to move others, as many as may move at a time.
func (d *draft) begin() {
	for p, target := range d.targets {
		if d.owners[p] == target || d.moving[p] != 0 {
			continue
		}
		owner := d.node(d.owners[p])
		switch {
		case owner == nil || owner.Static:
			d.owners[p] = target
		case owner.Down: // its data is there, or it is given the grace to come back
			continue
		case d.from.Kind == Instant:
			d.owners[p] = target
		case !d.rest && len(d.moving) < d.from.Batch:
			d.moving[p] = d.epoch()
		default:
			continue
		}
		d.changed = true
	}
}
