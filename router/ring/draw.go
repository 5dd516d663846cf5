// SPDX-License-Identifier: Apache-2.0

package ring

import "math/bits"

// block is how many partitions lie in a block. Of these a node draws one in every sixteenth of what there is to draw, in an
// order of its own, so its favourite of a block is found without looking at the others.
const (
	blockBits = 4
	block     = 1 << blockBits
	// favourite is the least draw for a favourite.
	favourite = (block - 1) << (64 - blockBits)
)

// scoreBits is how many bits of a score stand after the point, besides those of the cost.
const scoreBits = 20

// keys are what a partition brings to the draws of all nodes.
type keys struct {
	block, partition uint64
	// place is the partition's place in its block, 0 to 15.
	place uint64
}

func keysOf(partition int) keys {
	p := uint64(partition)
	return keys{block: scramble(p >> blockBits), partition: scramble(MaxPartitions + p), place: p % block}
}

// draw is what a node with this seed draws for the partition: the more, the better.
func (k *keys) draw(seed uint64) uint64 {
	return k.top(seed)<<(64-blockBits) | mix(seed, k.partition)>>blockBits
}

// top is the first four bits of a draw: a × place + b modulo 16, where a, which is odd, and b are the node's for the block.
func (k *keys) top(seed uint64) uint64 {
	h := mix(seed, k.block)
	return ((h>>56|1)*k.place + h>>60) % block
}

// favouritePlaces are the places in a block whose top is 15, by the seven bits that top depends on.
var favouritePlaces = [128]uint8{
	15, 5, 3, 9, 7, 13, 11, 1, 14, 10, 6, 2, 14, 10, 6, 2,
	13, 15, 9, 11, 5, 7, 1, 3, 12, 4, 12, 4, 12, 4, 12, 4,
	11, 9, 15, 13, 3, 1, 7, 5, 10, 14, 2, 6, 10, 14, 2, 6,
	9, 3, 5, 15, 1, 11, 13, 7, 8, 8, 8, 8, 8, 8, 8, 8,
	7, 13, 11, 1, 15, 5, 3, 9, 6, 2, 14, 10, 6, 2, 14, 10,
	5, 7, 1, 3, 13, 15, 9, 11, 4, 12, 4, 12, 4, 12, 4, 12,
	3, 1, 7, 5, 11, 9, 15, 13, 2, 6, 10, 14, 2, 6, 10, 14,
	1, 11, 13, 7, 9, 3, 5, 15, 0, 0, 0, 0, 0, 0, 0, 0,
}

// mix folds the 128 bits of a product.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// scramble is the output function of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// cost is -log2(draw / 2^64) with 32 bits after the point, interpolated from a table. It never grows with the draw, and is
// at least (1 - draw / 2^64) with 32 bits after the point.
func cost(draw uint64) uint64 {
	draw |= 1
	zeros := bits.LeadingZeros64(draw)
	m := draw << zeros
	i, f := m>>55&0xff, m>>23&0xffffffff
	return uint64(zeros+1)<<32 - (log2[i] + (log2[i+1]-log2[i])*f>>32)
}

// score is a draw's cost to a node with a weight from 1 on: the less, the better.
func score(draw, weight uint64) uint64 { return cost(draw) << scoreBits / weight }

// hopeless is a draw that certainly scores worse than a score when a node with a weight has it, as do all draws below it. The
// score must be a favourite's, or of a node with at least that weight: others have so many bits that the product has too many.
func hopeless(score, weight uint64) uint64 {
	most := ((score+1)*weight)>>scoreBits + 1 // no cost from here on can score so well
	if most >= 1<<32 {
		return 0
	}
	return ^(most << 32)
}
