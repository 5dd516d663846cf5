// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/assent-tx/assent/router/ring"
)

// Action is what an operator does to a group.
type Action string

// The actions.
const (
	// Add adds a static node.
	Add Action = "add"
	// Remove takes a node out: a static one, and one that is down, at once; another hands over what it owns first.
	Remove Action = "remove"
	// Drain gives a node the weight 0, so that it hands over what it owns.
	Drain Action = "drain"
	// Weigh gives a node another weight. One that is being removed stays after all.
	Weigh Action = "weight"
	// Pin has a partition go to a node, wherever the ring would put it.
	Pin Action = "pin"
	// Unpin takes a pin back.
	Unpin Action = "unpin"
)

// Change is one action with what it needs.
type Change struct {
	Action Action
	// Node is for every action but Unpin.
	Node string
	// Weight is for Add, where 0 means 1, and Weigh: 1 to ring.MaxWeight.
	Weight int
	// Zone and Subject are for Add.
	Zone, Subject string
	// Partition is for Pin and Unpin.
	Partition int
	// Force does what would lose something: see ErrLastNode and ErrDownWithData.
	Force bool
}

// Apply gives the record that follows r by an operator's change: r itself when that changes nothing. The error is ErrInvalid for a
// change that makes no sense, ErrNoNode or ErrExists for a node that is not or already there, and ErrLastNode or ErrDownWithData for a
// change that loses something and does not say Force.
func (r *Record) Apply(c *Change) (*Record, error) {
	if r.Epoch >= MaxNumber {
		return nil, fmt.Errorf("%w: group %s has reached the last epoch, %d: delete it and create it again", ErrInvalid, r.Group, r.Epoch)
	}
	d := r.draft()
	if err := d.apply(c); err != nil {
		return nil, err
	}
	if !d.changed {
		return r, nil
	}
	d.settle()
	return d.record(), nil
}

func (d *draft) apply(c *Change) error {
	switch c.Action {
	case Add:
		return d.add(c)
	case Unpin:
		return d.unpin(c)
	case Remove, Drain, Weigh, Pin:
	default:
		return fmt.Errorf("%w: action %q: want %s, %s, %s, %s, %s or %s", ErrInvalid, c.Action, Add, Remove, Drain, Weigh, Pin, Unpin)
	}
	n := d.node(c.Node)
	if n == nil {
		return fmt.Errorf("%w: group %s has no node %q: it has %s", ErrNoNode, d.from.Group, c.Node, d.names())
	}
	switch c.Action {
	case Remove:
		return d.takeOut(n, c)
	case Drain:
		return d.drain(n, c)
	case Weigh:
		return d.weigh(n, c)
	default:
		return d.pin(n, c)
	}
}

// names lists the nodes, for people; a few of them when they are many.
func (d *draft) names() string {
	const few = 16
	names := make([]string, 0, few)
	for i := range d.nodes[:min(few, len(d.nodes))] {
		names = append(names, d.nodes[i].Name)
	}
	switch {
	case len(names) == 0:
		return "no nodes yet"
	case len(d.nodes) > few:
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), len(d.nodes)-few)
	}
	return strings.Join(names, ", ")
}

func (d *draft) add(c *Change) error {
	n := Node{Name: c.Node, Weight: cmp.Or(c.Weight, 1), Zone: c.Zone, Subject: c.Subject, Static: true}
	if err := n.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.node(c.Node) != nil {
		return fmt.Errorf("%w: group %s has a node %s: change its weight, or remove it first", ErrExists, d.from.Group, c.Node)
	}
	if len(d.nodes) >= ring.MaxNodes {
		return fmt.Errorf("%w: group %s has %d nodes, as many as may be: remove one first", ErrInvalid, d.from.Group, len(d.nodes))
	}
	d.insert(&n)
	return nil
}

func (d *draft) takeOut(n *Node, c *Change) error {
	if n.Removing && !n.Down {
		return fmt.Errorf("%w: node %s is being removed already: it hands over %d partitions, and is gone when its process has ended",
			ErrInvalid, n.Name, d.holds(n.Name))
	}
	if err := d.checkLast(n, c, "removed"); err != nil {
		return err
	}
	if held := d.holds(n.Name); n.Down && d.from.Kind == Data && held > 0 && !c.Force {
		return fmt.Errorf("%w: node %s is down and holds the data of %d partitions, which go to other nodes without it: start it again, or remove it with force",
			ErrDownWithData, n.Name, held)
	}
	if n.Static || n.Down {
		d.remove(n.Name)
		return nil
	}
	n.Removing, d.reshaped, d.changed = true, true, true
	return nil
}

// checkLast refuses to take the last weight from a group by accident.
func (d *draft) checkLast(n *Node, c *Change, what string) error {
	counts := func(n *Node) bool { return !n.Down && n.share() > 0 }
	if c.Force || !counts(n) || slices.ContainsFunc(d.nodes, func(o Node) bool { return o.Name != n.Name && counts(&o) }) {
		return nil
	}
	return fmt.Errorf("%w: node %s is the last one of group %s that is up and has weight; %s, it leaves nobody to own its partitions: add another first, or use force",
		ErrLastNode, n.Name, d.from.Group, what)
}

func (d *draft) drain(n *Node, c *Change) error {
	if n.Weight == 0 {
		return nil
	}
	if err := d.checkLast(n, c, "drained"); err != nil {
		return err
	}
	n.Weight, d.reshaped, d.changed = 0, true, true
	return nil
}

func (d *draft) weigh(n *Node, c *Change) error {
	switch {
	case c.Weight < 1 || c.Weight > ring.MaxWeight:
		return fmt.Errorf("%w: weight %d of node %s: want 1 to %d; to take everything from it, drain it", ErrInvalid, c.Weight, n.Name, ring.MaxWeight)
	case n.Leaving:
		return fmt.Errorf("%w: the process of node %s is ending: change its weight when it is back", ErrInvalid, n.Name)
	case n.Weight == c.Weight && !n.Removing:
		return nil
	}
	n.Weight, n.Removing, d.reshaped, d.changed = c.Weight, false, true, true
	return nil
}

func (d *draft) pin(n *Node, c *Change) error {
	if err := d.checkPartition(c); err != nil {
		return err
	}
	now, pinned := d.pins[c.Partition]
	switch {
	case now == n.Name:
		return nil
	case n.share() == 0:
		return fmt.Errorf("%w: node %s is drained or going, so a pin to it would have no force: give it a weight first", ErrInvalid, n.Name)
	case !pinned && len(d.pins) >= MaxPins:
		return fmt.Errorf("%w: group %s has %d pins, as many as may be: unpin a partition first, or change weights instead", ErrInvalid, d.from.Group, len(d.pins))
	}
	d.pins[c.Partition], d.reshaped, d.changed = n.Name, true, true
	return nil
}

func (d *draft) unpin(c *Change) error {
	if err := d.checkPartition(c); err != nil {
		return err
	}
	if _, pinned := d.pins[c.Partition]; !pinned {
		return fmt.Errorf("%w: partition %d of group %s is not pinned", ErrInvalid, c.Partition, d.from.Group)
	}
	delete(d.pins, c.Partition)
	d.reshaped, d.changed = true, true
	return nil
}

func (d *draft) checkPartition(c *Change) error {
	if c.Partition < 0 || c.Partition >= d.from.Partitions {
		return fmt.Errorf("%w: partition %d of group %s: want 0 to %d", ErrInvalid, c.Partition, d.from.Group, d.from.Partitions-1)
	}
	return nil
}
