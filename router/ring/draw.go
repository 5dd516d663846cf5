// SPDX-License-Identifier: Apache-2.0

package ring

import "math/bits"

// block is how many partitions lie in a block: of these each node draws one in every sixteenth, so that its best is found
// without looking at the others.
const (
	blockBits = 4
	block     = 1 << blockBits
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

// draw is what a node with this seed draws for a partition: the more, the better. See the package's page.
func (k keys) draw(seed uint64) uint64 {
	return k.top(seed)<<(64-blockBits) | mix(seed, k.partition)>>blockBits
}

// top is the first four bits of the draw.
func (k keys) top(seed uint64) uint64 { return mix(seed, k.block)>>(64-blockBits) ^ k.place }

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

// hopeless is a draw that certainly scores worse than a score with a weight, as do all below it. The score must be one of
// a node with at least that weight.
func hopeless(score, weight uint64) uint64 {
	most := ((score+1)*weight)>>scoreBits + 1 // no cost from here on can score so well
	if most >= 1<<32 {
		return 0
	}
	return ^(most << 32)
}
