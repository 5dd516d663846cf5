// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"cmp"
	"slices"
	"strings"
)

// Move is a partition that changes its owner.
type Move struct {
	Partition int `json:"partition"`
	// From and To are nodes, "" for nobody.
	From string `json:"from"`
	To   string `json:"to"`
}

// Flow is how many partitions change from one node to another.
type Flow struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Partitions int    `json:"partitions"`
}

// Plan is what is different between two rings.
type Plan struct {
	// Moves are in the order of the partitions.
	Moves []Move `json:"moves"`
	// Partitions is how many partitions the rings have, moved or not.
	Partitions int `json:"partitions"`
	// Corrections is how many of the moves are between two nodes that are in both rings with one weight: what it costs that
	// every node keeps to its quota. There is at most one for each such node and node that changes, and none while those that
	// do not change all weigh the same; pins come on top.
	Corrections int `json:"corrections"`
}

// Diff is what moves when a ring follows another. Rings of different numbers of partitions have none in common: then all
// that the new ring's nodes own comes from nobody. A nil ring is one without partitions.
func Diff(from, to *Ring) Plan {
	if to == nil {
		to = &Ring{}
	}
	if from == nil || len(from.owners) != len(to.owners) {
		from = &Ring{owners: make([]uint16, len(to.owners)), names: []string{""}}
	}
	plan := Plan{Partitions: len(to.owners)}
	same := unchanged(from, to)
	index := to.index()
	for p := range to.owners {
		a, b := from.OwnerOf(p), to.names[to.owners[p]]
		if a == b {
			continue
		}
		plan.Moves = append(plan.Moves, Move{Partition: p, From: a, To: b})
		if same[index[a]] && same[to.owners[p]] {
			plan.Corrections++
		}
	}
	return plan
}

// unchanged says which of the nodes have the weight that they had, by index into the names of the second ring.
func unchanged(from, to *Ring) []bool {
	weights := make(map[string]int, len(from.nodes))
	for _, n := range from.nodes {
		weights[n.Name] = n.Weight
	}
	same := make([]bool, len(to.nodes)+1)
	for i, n := range to.nodes {
		weight, known := weights[n.Name]
		same[i+1] = known && weight == n.Weight
	}
	return same
}

// Flows are the sums of the moves by where from and where to, in this order.
func (p Plan) Flows() []Flow {
	sums := map[[2]string]int{}
	for _, m := range p.Moves {
		sums[[2]string{m.From, m.To}]++
	}
	flows := make([]Flow, 0, len(sums))
	for ends, n := range sums {
		flows = append(flows, Flow{From: ends[0], To: ends[1], Partitions: n})
	}
	slices.SortFunc(flows, func(a, b Flow) int {
		return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	return flows
}

// Share is the part of all keys that moves, 0 to 1.
func (p Plan) Share() float64 {
	if p.Partitions == 0 {
		return 0
	}
	return float64(len(p.Moves)) / float64(p.Partitions)
}
