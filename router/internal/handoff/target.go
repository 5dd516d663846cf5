// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"fmt"

	"github.com/assent-tx/assent/router/ring"
)

// retarget computes the targets: what the ring gives when moves under way count as done, except that
//   - nothing new goes to a node that is down: it would be out of reach until the node is back;
//   - nothing is taken from a node only to be nobody's, unless the node leaves by itself: a node that was drained or taken
//     out serves what it has until another can.
func (d *draft) retarget() {
	base := make([]string, len(d.owners))
	for p, owner := range d.owners {
		base[p] = owner
		if target := d.node(d.targets[p]); d.moving[p] != 0 && target != nil && !target.Down {
			base[p] = target.Name
		}
	}
	next := d.next(ringNodes(d.nodes), base)
	var heirs *ring.Ring
	for p, owner := range d.owners {
		d.targets[p] = next.OwnerOf(p)
		target := d.node(d.targets[p])
		if target != nil && target.Down && target.Name != owner {
			if heirs == nil {
				heirs = d.heirs(next)
			}
			d.targets[p] = d.instead(owner, heirs.OwnerOf(p))
		}
		if keeper := d.node(owner); d.targets[p] == "" && keeper != nil && !keeper.Leaving {
			d.targets[p] = owner
		}
	}
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
