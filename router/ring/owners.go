// SPDX-License-Identifier: Apache-2.0

package ring

import "math"

// Owners are the nodes that a key's copies belong on: the owner, then those that weighted rendezvous prefers for the
// partition, each from another zone while there is one, and so on, zone by zone, in further rounds. They are n different
// nodes, or all with a weight when there are fewer. The owner is the first also while it is being drained; when nobody
// owns the partition, the list begins with the node that rendezvous prefers.
func (r *Ring) Owners(key string, n int) []string {
	order := r.preference(key)
	count := min(n, len(order.choices))
	if count <= 0 {
		return nil
	}
	names := make([]string, 0, count)
	round := make([]int, len(r.nodes)) // by zone
	for range count {
		i := order.next(func(node int32) int { return round[r.zones[node]] })
		round[r.zones[i]]++
		names = append(names, r.nodes[i].Name)
	}
	return names
}

// Bounded is the first node for a key, in the order of preference (zones do not matter here), whose load is less than its
// bound: its part, by weight, of factor times the load of all nodes after this key was added, rounded up. So no node gets
// much more than its part however popular single keys are, and a key moves only while its node is full (Mirrokni, Thorup
// & Zadimoghaddam, SODA 2018).
//
// A factor below 1 counts as 1; 1.25 is usual. load is called once for each node with a weight; what it gives is how many
// keys, requests or the like the node has in hand now. Less than 0 or not a number counts as 0; a node with an infinite load
// takes no more, and its part is the others'. It is "" when there is no node, or when none takes any more.
func (r *Ring) Bounded(key string, factor float64, load func(node string) float64) string {
	loads := make([]float64, len(r.nodes))
	total, weights := 1.0, 0.0
	for i, n := range r.nodes {
		if n.Weight == 0 {
			continue
		}
		if l := load(n.Name); l > 0 {
			loads[i] = l
		}
		if !math.IsInf(loads[i], 1) {
			total += loads[i]
			weights += float64(n.Weight)
		}
	}
	if !(factor > 1) { // nor when it is not a number
		factor = 1
	}
	order := r.preference(key)
	for range order.choices {
		i := order.next(nil)
		bound := math.Ceil(factor * total * float64(r.nodes[i].Weight) / weights)
		if loads[i] < bound && !math.IsInf(loads[i], 1) {
			return r.nodes[i].Name
		}
	}
	return ""
}

// preference is the order in which nodes are preferred for a partition.
type preference struct {
	choices []choice
	taken   []bool
}

// preference begins with the owner of a key's partition.
func (r *Ring) preference(key string) *preference {
	if len(r.owners) == 0 {
		return &preference{}
	}
	p := r.Partition(key)
	owner := int32(r.owners[p]) - 1
	o := &preference{}
	k := keysOf(p)
	for i, n := range r.nodes {
		c := choice{partition: int32(p), node: int32(i), weight: uint64(n.Weight)}
		switch {
		case c.node == owner:
			c.draw = math.MaxUint64
		case n.Weight > 0:
			c.draw = k.draw(r.seeds[i])
			c.score = score(c.draw, c.weight) // more than the owner's, which is 0
		default:
			continue
		}
		o.choices = append(o.choices, c)
	}
	o.taken = make([]bool, len(o.choices))
	return o
}

// next takes the best one that is left, of those in the lowest round.
func (o *preference) next(round func(node int32) int) int32 {
	best, lowest := -1, 0
	for i := range o.choices {
		if o.taken[i] {
			continue
		}
		in := 0
		if round != nil {
			in = round(o.choices[i].node)
		}
		if best < 0 || in < lowest || in == lowest && o.choices[i].before(&o.choices[best]) {
			best, lowest = i, in
		}
	}
	o.taken[best] = true
	return o.choices[best].node
}
