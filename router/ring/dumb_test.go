// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"cmp"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// What follows is a second implementation, written from the package's page alone: of numbers without bounds, as slow as it
// likes, and with nothing of the first.

func number(x uint64) *big.Int { return new(big.Int).SetUint64(x) }

// cut is the last 64 bits.
func cut(x *big.Int) *big.Int { return new(big.Int).And(x, number(math.MaxUint64)) }

func times(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }

func right(x *big.Int, n uint) *big.Int { return new(big.Int).Rsh(x, n) }

func dumbPartition(key string, partitions int) int {
	return int(right(times(number(xxhash.Sum64String(key)), big.NewInt(int64(partitions))), 64).Int64())
}

func dumbMix(a, b *big.Int) *big.Int {
	product := times(a, b)
	return new(big.Int).Xor(right(product, 64), cut(product))
}

func dumbScramble(x uint64) *big.Int {
	z := cut(new(big.Int).Add(number(x), number(0x9e3779b97f4a7c15)))
	z = cut(times(new(big.Int).Xor(z, right(z, 30)), number(0xbf58476d1ce4e5b9)))
	z = cut(times(new(big.Int).Xor(z, right(z, 27)), number(0x94d049bb133111eb)))
	return new(big.Int).Xor(z, right(z, 31))
}

func dumbDraw(name string, partition int) uint64 {
	seed := number(xxhash.Sum64String(name))
	h := dumbMix(seed, dumbScramble(uint64(partition/16)))
	a := right(h, 56).Uint64() | 1
	top := (a*uint64(partition%16) + right(h, 60).Uint64()) % 16
	return top<<60 + right(dumbMix(seed, dumbScramble(uint64(65536+partition))), 4).Uint64()
}

// dumbLog2 is floor(2^32 × log2(1 + i/256)), digit by digit: squaring doubles the logarithm.
func dumbLog2(i int) uint64 {
	x := new(big.Float).SetPrec(512).Quo(big.NewFloat(float64(256+i)), big.NewFloat(256))
	two, log := big.NewFloat(2), uint64(0)
	if x.Cmp(two) == 0 {
		return 1 << 32
	}
	for range 32 {
		x.Mul(x, x)
		log <<= 1
		if x.Cmp(two) >= 0 {
			x.Quo(x, two)
			log++
		}
	}
	return log
}

var dumbTable = func() (table [257]uint64) {
	for i := range table {
		table[i] = dumbLog2(i)
	}
	return table
}()

func dumbCost(draw uint64) uint64 {
	z, n := draw|1, uint64(0)
	for z>>63 == 0 {
		z, n = z<<1, n+1
	}
	i, f := z>>55%256, z>>23%(1<<32)
	return (n+1)<<32 - (dumbTable[i] + ((dumbTable[i+1] - dumbTable[i]) * f >> 32))
}

func dumbScore(draw uint64, weight int) uint64 { return (dumbCost(draw) << 20) / uint64(weight) }

// dumbPair is a partition and a node that may get it.
type dumbPair struct {
	score, draw uint64
	partition   int
	node        Node
}

func dumbCompare(a, b dumbPair) int {
	return cmp.Or(
		cmp.Compare(a.score, b.score),
		cmp.Compare(b.draw, a.draw),
		cmp.Compare(a.partition, b.partition),
		cmp.Compare(b.node.Weight, a.node.Weight),
		strings.Compare(a.node.Name, b.node.Name),
	)
}

// dumbRing is a ring on its way through the four steps.
type dumbRing struct {
	owners []string
	nodes  map[string]Node // with a weight
	pinned map[int]bool
	target map[string]int
}

func (d *dumbRing) count(name string) (owned, pinned int) {
	for p, owner := range d.owners {
		if owner == name {
			owned++
			if d.pinned[p] {
				pinned++
			}
		}
	}
	return owned, pinned
}

func dumbNext(before []string, nodes []Node, pins Pins) []string {
	d := &dumbRing{owners: slices.Clone(before), nodes: map[string]Node{}, pinned: map[int]bool{}, target: map[string]int{}}
	for _, n := range nodes {
		if n.Weight > 0 {
			d.nodes[n.Name] = n
		}
	}
	for p, owner := range d.owners {
		if _, there := d.nodes[owner]; !there {
			d.owners[p] = ""
		}
		if _, there := d.nodes[pins[p]]; there {
			d.owners[p], d.pinned[p] = pins[p], true
		}
	}
	rest, weights, sharing := d.capped()
	d.share(rest, weights, sharing)
	d.move()
	return d.owners
}

// capped is step 2: what is to be shared, and among whom.
func (d *dumbRing) capped() (rest, weights int, sharing map[string]Node) {
	rest, sharing = len(d.owners), maps.Clone(d.nodes)
	for {
		weights = 0
		for _, n := range sharing {
			weights += n.Weight
		}
		var out []string
		for name, n := range sharing {
			if _, k := d.count(name); k*weights > rest*n.Weight {
				out = append(out, name)
			}
		}
		if len(out) == 0 {
			return rest, weights, sharing
		}
		for _, name := range out {
			_, d.target[name] = d.count(name)
			rest -= d.target[name]
			delete(sharing, name)
		}
	}
}

// share is step 3.
func (d *dumbRing) share(rest, weights int, sharing map[string]Node) {
	var order []string
	left := rest
	for name, n := range sharing {
		d.target[name] = rest * n.Weight / weights
		left -= d.target[name]
		if rest*n.Weight%weights > 0 {
			order = append(order, name)
		}
	}
	class := func(name string) int {
		c, _ := d.count(name)
		return map[int]int{1: 0, -1: 1, 0: 2}[cmp.Compare(c, d.target[name])]
	}
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(
			cmp.Compare(class(a), class(b)),
			cmp.Compare(rest*sharing[b].Weight%weights, rest*sharing[a].Weight%weights),
			cmp.Compare(xxhash.Sum64String(a), xxhash.Sum64String(b)),
			strings.Compare(a, b),
		)
	})
	for _, name := range order[:min(left, len(order))] {
		d.target[name]++
	}
}

// move is step 4.
func (d *dumbRing) move() {
	draws := map[string][]uint64{}
	for name := range d.nodes {
		for p := range d.owners {
			draws[name] = append(draws[name], dumbDraw(name, p))
		}
	}
	for {
		owned := map[string]int{}
		for _, owner := range d.owners {
			owned[owner]++
		}
		var best *dumbPair
		for p, owner := range d.owners {
			if d.pinned[p] || owner != "" && owned[owner] <= d.target[owner] {
				continue
			}
			for name, n := range d.nodes {
				draw := draws[name][p]
				pair := dumbPair{score: dumbScore(draw, n.Weight), draw: draw, partition: p, node: n}
				if owned[name] < d.target[name] && (best == nil || dumbCompare(pair, *best) < 0) {
					best = &pair
				}
			}
		}
		if best == nil {
			return
		}
		d.owners[best.partition] = best.node.Name
	}
}

// dumbOwners are all nodes for a key of a partition, in order; with zones or without.
func dumbOwners(owner string, nodes []Node, partition int, zones bool) (names []string) {
	left := map[string]Node{}
	for _, n := range nodes {
		if n.Weight > 0 || n.Name == owner {
			left[n.Name] = n
		}
	}
	taken := map[string]int{}
	for len(left) > 0 {
		order := slices.Collect(maps.Values(left))
		pair := func(n Node) dumbPair {
			draw := dumbDraw(n.Name, partition)
			return dumbPair{score: dumbScore(draw, max(n.Weight, 1)), draw: draw, node: n}
		}
		best := slices.MinFunc(order, func(a, b Node) int {
			switch {
			case a.Name == owner:
				return -1
			case b.Name == owner:
				return 1
			case zones && a.Zone != b.Zone && taken[a.Zone] != taken[b.Zone]:
				return cmp.Compare(taken[a.Zone], taken[b.Zone])
			}
			return dumbCompare(pair(a), pair(b))
		})
		names = append(names, best.Name)
		if best.Zone != "" {
			taken[best.Zone]++
		}
		delete(left, best.Name)
	}
	return names
}
