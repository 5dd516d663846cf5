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
	return c.partition < o.partition
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
	c.scan(keysOf(partition), &best)
	return best
}

// scan betters a choice by whatever node is better.
//
// Nodes come heaviest first, so a node can only be better if its draw is greater than that of the best so far; need is the
// greatest draw that is known to be too little.
func (c *chooser) scan(k keys, best *choice) {
	need := best.draw
	band := ^uint64(0) // the weight at which need was reckoned
	if best.node < 0 {
		need = 0
	}
	for i, seed := range c.seeds {
		if c.weights[i] < band && best.node >= 0 {
			band = c.weights[i] / 2
			need = max(need, hopeless(best.score, c.weights[i]))
		}
		top := k.top(seed)
		if top < need>>(64-blockBits) {
			continue
		}
		draw := top<<(64-blockBits) | mix(seed, k.partition)>>blockBits
		if draw > need || best.node < 0 {
			if c.better(best, i, draw) {
				need = max(need, draw)
			}
		}
	}
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

// all chooses for all partitions of a set.
func (c *chooser) all(wanted []bool) queue {
	var q queue
	for p, is := range wanted {
		if is {
			q = append(q, c.best(p))
		}
	}
	return q
}
