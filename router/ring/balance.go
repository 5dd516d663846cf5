// SPDX-License-Identifier: Apache-2.0

package ring

// Balance is how evenly the partitions are spread.
type Balance struct {
	// Nodes are all nodes, in the order of their names.
	Nodes []NodeBalance `json:"nodes"`
	// Unowned is how many partitions nobody owns.
	Unowned int `json:"unowned"`
	// Peak is what the fullest node has, relative to its fair share by weight: 1 is even, 1.1 is ten per cent too much. Nodes
	// without weight do not count. It is 0 when no node has any.
	Peak float64 `json:"peak"`
}

// NodeBalance is what a node has.
type NodeBalance struct {
	Node
	// Partitions is how many it owns, and Pinned how many of these are pinned to it.
	Partitions int `json:"partitions"`
	Pinned     int `json:"pinned"`
	// Share is the part of the keys that it has, and Fair the part by weight, 0 to 1.
	Share float64 `json:"share"`
	Fair  float64 `json:"fair"`
}

// Balance counts.
func (r *Ring) Balance() Balance {
	b := Balance{Nodes: make([]NodeBalance, len(r.nodes))}
	weights := 0
	for i, n := range r.nodes {
		b.Nodes[i].Node = n
		weights += n.Weight
	}
	for p, i := range r.owners {
		if i == 0 {
			b.Unowned++
			continue
		}
		n := &b.Nodes[i-1]
		n.Partitions++
		if r.pins[p] == n.Name {
			n.Pinned++
		}
	}
	for i := range b.Nodes {
		n := &b.Nodes[i]
		n.Share = float64(n.Partitions) / float64(len(r.owners))
		if n.Weight > 0 {
			n.Fair = float64(n.Weight) / float64(weights)
			b.Peak = max(b.Peak, n.Share/n.Fair)
		}
	}
	return b
}
