// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"cmp"
	"slices"
)

// quota is what a node has and should have.
type quota struct {
	node   int // index into the ring's nodes
	weight int
	seed   uint64
	// count is how many partitions it owns before anything moves; pinned of these are pinned to it.
	count, pinned int
	// target is how many it is to own. Invariant: target >= pinned.
	target int
	// remainder is what its share exceeds the target by, in parts of the sum of weights.
	remainder int
}

// setTargets shares the partitions by weight. Who has more pins than its share keeps just these, and the rest is shared
// anew among the others.
func setTargets(partitions int, quotas []quota) {
	var sharing []*quota
	weights := 0
	for i := range quotas {
		if q := &quotas[i]; q.weight > 0 {
			sharing = append(sharing, q)
			weights += q.weight
		}
	}
	for {
		pinned, weight := 0, 0
		// A node leaves by the share of before, so that the order of nodes is of no account.
		sharing = slices.DeleteFunc(sharing, func(q *quota) bool {
			if q.pinned*weights <= partitions*q.weight {
				return false
			}
			q.target = q.pinned
			pinned, weight = pinned+q.pinned, weight+q.weight
			return true
		})
		if weight == 0 {
			break
		}
		partitions, weights = partitions-pinned, weights-weight
	}
	share(partitions, weights, sharing)
}

// share gives each node the floor of its share, and what is left, one by one, first to those that have it already, then
// to those that have to get some anyway, and only then to others, so that few partitions move between few nodes.
func share(partitions, weights int, sharing []*quota) {
	left := partitions
	for _, q := range sharing {
		q.target = partitions * q.weight / weights
		q.remainder = partitions * q.weight % weights
		left -= q.target
	}
	slices.SortFunc(sharing, func(a, b *quota) int {
		return cmp.Or(
			cmp.Compare(a.reluctance(), b.reluctance()),
			cmp.Compare(b.remainder, a.remainder),
			cmp.Compare(a.seed, b.seed),
			cmp.Compare(a.node, b.node),
		)
	})
	for _, q := range sharing[:min(left, len(sharing))] {
		q.target++
	}
}

// reluctance says how much would change if the node got one more than the floor of its share.
func (q *quota) reluctance() int {
	switch {
	case q.remainder == 0:
		return 3 // its share is a whole number
	case q.count > q.target:
		return 0
	case q.count < q.target:
		return 1
	default:
		return 2
	}
}
