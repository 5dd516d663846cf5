// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"cmp"
	"slices"
)

// choice is a partition and the node that rendezvous prefers for it, of those that there are to choose from.
type choice struct {
	score, draw uint64
	weight      uint64
	partition   int32
	node        int32 // index into the ring's nodes; -1 none yet
}

// before is the order in which choices are made.
func (c *choice) before(o *choice) bool {
	if c.score != o.score {
		return c.score < o.score
	}
	if c.draw != o.draw {
		return c.draw > o.draw
	}
	if c.partition != o.partition {
		return c.partition < o.partition
	}
	return c.weight > o.weight
}

// chooser holds the nodes that there are to choose from, heaviest first, then by name.
type chooser struct {
	seeds   []uint64
	weights []uint64
	nodes   []int32
}

// newChooser chooses from the nodes that are under their target.
func newChooser(quotas []quota) *chooser {
	var under []*quota
	for i := range quotas {
		if q := &quotas[i]; q.count < q.target {
			under = append(under, q)
		}
	}
	slices.SortStableFunc(under, func(a, b *quota) int { return cmp.Compare(b.weight, a.weight) })
	c := &chooser{}
	for _, q := range under {
		c.add(q.node, q.weight, q.seed)
	}
	return c
}

// add adds a node, which must not be heavier than those before.
func (c *chooser) add(node, weight int, seed uint64) {
	c.seeds = append(c.seeds, seed)
	c.weights = append(c.weights, uint64(weight))
	c.nodes = append(c.nodes, int32(node))
}

func (c *chooser) empty() bool { return len(c.nodes) == 0 }

func (c *chooser) remove(q *quota) {
	i := slices.Index(c.nodes, int32(q.node))
	c.seeds = slices.Delete(c.seeds, i, i+1)
	c.weights = slices.Delete(c.weights, i, i+1)
	c.nodes = slices.Delete(c.nodes, i, i+1)
}

// best chooses for one partition.
func (c *chooser) best(partition int) choice {
	best := choice{partition: int32(partition), node: -1}
	k := keysOf(partition)
	c.scan(&k, &best, false)
	return best
}

// scan betters a choice by whatever node is better. When those that favour the partition have been seen, it may leave them out.
//
// Nodes come heaviest first, so what a draw must exceed never falls: need is the greatest that is known to be too little.
func (c *chooser) scan(k *keys, best *choice, seen bool) {
	need, reckon := uint64(0), ^uint64(0)
	for i, seed := range c.seeds {
		if weight := c.weights[i]; weight < reckon && best.node >= 0 {
			reckon = weight / 2 // until then it is near enough
			need = max(need, best.need(weight))
			if seen && need >= favourite-1 {
				return
			}
		}
		top := k.top(seed)
		if top < need>>(64-blockBits) {
			continue
		}
		draw := top<<(64-blockBits) | mix(seed, k.partition)>>blockBits
		if (draw > need || best.node < 0) && c.better(best, i, draw) {
			need = max(need, draw)
		}
	}
}

// need is what a node with a weight must exceed to be better.
func (c *choice) need(weight uint64) uint64 {
	need := hopeless(c.score, weight)
	if weight <= c.weight {
		need = max(need, c.draw)
	}
	return need
}

// better makes a node the best choice, if it is better than the best so far.
func (c *chooser) better(best *choice, i int, draw uint64) bool {
	weight := c.weights[i]
	s := score(draw, weight)
	if best.node >= 0 && (s > best.score || s == best.score && draw <= best.draw) {
		return false
	}
	best.score, best.draw, best.weight, best.node = s, draw, weight, c.nodes[i]
	return true
}

// few is up to how many nodes it does not pay to look for favourites.
const few = 32

// all chooses for all partitions of a set.
func (c *chooser) all(wanted []bool) []choice {
	chosen := make([]choice, 0, len(wanted))
	for first := 0; first < len(wanted); first += block {
		last := min(first+block, len(wanted))
		if len(c.nodes) > few {
			chosen = c.favourites(chosen, first, wanted[first:last])
			continue
		}
		for p := first; p < last; p++ {
			if wanted[p] {
				chosen = append(chosen, c.best(p))
			}
		}
	}
	return chosen
}

// favourites chooses for the partitions of a block: first each node for its favourite, and then for each partition those
// nodes that may be better although they do not favour it.
func (c *chooser) favourites(chosen []choice, first int, wanted []bool) []choice {
	var (
		k    [block]keys
		best [block]choice
		need [block]uint64
	)
	for place := range need {
		k[place] = keysOf(first + place)
		best[place] = choice{partition: int32(first + place), node: -1}
		if place >= len(wanted) || !wanted[place] {
			need[place] = ^uint64(0)
		}
	}
	shared := k[0].block
	for i, seed := range c.seeds {
		place := favouritePlaces[mix(seed, shared)>>57] % block
		draw := mix(seed, k[place].partition)>>blockBits | favourite
		if draw > need[place] && c.better(&best[place], i, draw) {
			need[place] = draw
		}
	}
	for place, is := range wanted {
		if is {
			c.scan(&k[place], &best[place], true)
			chosen = append(chosen, best[place])
		}
	}
	return chosen
}
