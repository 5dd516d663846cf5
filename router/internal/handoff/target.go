// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"fmt"
	"slices"

	"github.com/assent-tx/assent/router/ring"
)

// retarget computes the targets: what the ring gives when moves under way count as done, or when they count as not begun, if that moves
// less: a node that is back while others take over from it keeps what it still has.
func (d *draft) retarget() {
	targets := d.plan(d.ahead())
	if len(d.moving) > 0 {
		if other := d.plan(d.owners); d.cost(other) < d.cost(targets) {
			targets = other
		}
	}
	d.targets = targets
}

// ahead is the table of owners when all moves under way are done.
func (d *draft) ahead() []string {
	table := slices.Clone(d.owners)
	for p := range d.moving {
		if target := d.node(d.targets[p]); target != nil && !target.Down {
			table[p] = target.Name
		}
	}
	return table
}

// cost is how many partitions targets have on the move, those twice that are under way elsewhere already.
func (d *draft) cost(targets []string) int {
	cost := 0
	for p, target := range targets {
		if target != d.owners[p] {
			cost++
		}
		if d.moving[p] != 0 && target != d.targets[p] && target != d.owners[p] {
			cost++
		}
	}
	return cost
}

// plan gives targets that follow a table of owners: the ring's, except that
//   - nothing new goes to a node that is down: it would be out of reach until the node is back;
//   - nothing is taken from a node only to be nobody's, unless the node leaves by itself: a node that was drained or taken
//     out serves what it has until another can.
func (d *draft) plan(table []string) []string {
	next := d.next(ringNodes(d.nodes), table)
	targets := make([]string, len(table))
	var heirs *ring.Ring
	for p, owner := range d.owners {
		targets[p] = next.OwnerOf(p)
		if target := d.node(targets[p]); target != nil && target.Down && target.Name != owner {
			if heirs == nil {
				heirs = d.heirs(next)
			}
			targets[p] = d.instead(owner, heirs.OwnerOf(p))
		}
		if keeper := d.node(owner); targets[p] == "" && keeper != nil && !keeper.Leaving {
			targets[p] = owner
		}
	}
	return targets
}

// instead is who is to have what is meant for a node that is down: its owner for the time being, if it may have anything,
// otherwise the heir.
func (d *draft) instead(owner, heir string) string {
	if n := d.node(owner); n != nil && !n.Down && n.share() > 0 {
		return owner
	}
	return heir
}

// heirs is the ring as if the nodes that are down had no weight.
func (d *draft) heirs(next *ring.Ring) *ring.Ring {
	nodes := ringNodes(d.nodes)
	for i := range nodes {
		if d.nodes[i].Down {
			nodes[i].Weight = 0
		}
	}
	base := make([]string, len(d.owners))
	for p := range base {
		base[p] = next.OwnerOf(p)
	}
	return d.next(nodes, base)
}

// next is the ring of nodes that follows a table of owners.
func (d *draft) next(nodes []ring.Node, owners []string) *ring.Ring {
	from, err := ring.FromOwners(nodes, d.pins, owners)
	if err != nil {
		panic(fmt.Sprintf("handoff: the ring of group %s after epoch %d: %v", d.from.Group, d.from.Epoch, err)) // all of it was checked
	}
	next, err := from.Next(nodes, d.pins)
	if err != nil {
		panic(fmt.Sprintf("handoff: the next ring of group %s after epoch %d: %v", d.from.Group, d.from.Epoch, err))
	}
	return next
}
