// SPDX-License-Identifier: Apache-2.0

package router

import (
	"cmp"
	"maps"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// describe makes of a record what people and tools look at. The subjects are those on which nodes really take requests.
func (n names) describe(r *handoff.Record) *Group {
	balance := r.Ring().Balance()
	g := &Group{
		Group: r.Group, Kind: string(r.Kind), Partitions: r.Partitions, GraceMS: max(r.GraceMS, 0), Batch: r.Batch,
		Incarnation: r.Incarnation, Epoch: r.Epoch, Moving: len(r.Moving), Unowned: balance.Unowned, Peak: balance.Peak,
		Nodes: make([]GroupNode, len(r.Nodes)), Pins: maps.Clone(map[int]string(r.Pins)), Owners: make([]int, r.Partitions),
	}
	places := map[string]int{"": -1}
	for i := range r.Nodes {
		node := &r.Nodes[i]
		places[node.Name] = i
		g.Nodes[i] = GroupNode{
			Node: node.Name, Weight: node.Weight, Zone: node.Zone, Subject: cmp.Or(node.Subject, n.nodeSubject(r.Group, node.Name)),
			Session: node.Session, State: stateOf(node),
			Partitions: balance.Nodes[i].Partitions, Share: balance.Nodes[i].Share,
		}
	}
	targets, differ := make([]int, r.Partitions), 0
	for p := range r.Partitions {
		g.Owners[p], targets[p] = places[r.Owner(p)], places[r.Target(p)]
		if from, to := g.Owners[p], targets[p]; from != to {
			differ++
			if from >= 0 {
				g.Nodes[from].MovingOut++
			}
			if to >= 0 {
				g.Nodes[to].MovingIn++
			}
		}
	}
	if differ > 0 {
		g.Targets = targets
	}
	g.Waiting = differ - g.Moving
	for _, m := range r.Moving {
		g.Moves = append(g.Moves, GroupMove(m))
	}
	return g
}

func stateOf(n *handoff.Node) string {
	switch {
	case n.Static:
		return StateStatic
	case n.Down:
		return StateDown
	case n.Removing:
		return StateRemoving
	case n.Leaving:
		return StateLeaving
	default:
		return StateUp
	}
}
