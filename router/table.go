// SPDX-License-Identifier: Apache-2.0

package router

import (
	"cmp"
	"fmt"

	"github.com/assent-tx/assent/router/internal/handoff"
	"github.com/assent-tx/assent/router/ring"
)

// table is a record made ready for routing. It never changes.
type table struct {
	record             *handoff.Record
	ring               *ring.Ring
	group              string
	incarnation, epoch uint64
	subjects           map[string]string // by node
	owned              int               // how many partitions somebody owns
}

func newTable(n names, r *handoff.Record) *table {
	t := &table{
		record: r, ring: r.Ring(), group: r.Group, incarnation: r.Incarnation, epoch: r.Epoch, subjects: make(map[string]string, len(r.Nodes)),
	}
	for i := range r.Nodes {
		node := &r.Nodes[i]
		t.subjects[node.Name] = cmp.Or(node.Subject, n.nodeSubject(r.Group, node.Name))
	}
	for p := range r.Partitions {
		if r.Owner(p) != "" {
			t.owned++
		}
	}
	return t
}

func (t *table) route(key string) Route {
	p := t.ring.Partition(key)
	node := t.ring.OwnerOf(p)
	return Route{
		Group: t.group, Key: key, Partition: p, Node: node, Subject: t.subjects[node],
		Incarnation: t.incarnation, Epoch: t.epoch, Moving: t.record.Since(p) != 0,
	}
}

func (t *table) noNodes(key string) error {
	if len(t.record.Nodes) == 0 {
		return fmt.Errorf("router: %w: group %s has no nodes: start one, or put one in", ErrNoNodes, t.group)
	}
	return fmt.Errorf("router: %w: the key %.80q of group %s, in epoch %d: its node was taken out and no other is up yet", ErrNoNodes, key, t.group, t.epoch)
}
