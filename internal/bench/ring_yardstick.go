// SPDX-License-Identifier: Apache-2.0

package bench

import "github.com/assent-tx/assent/router/ring"

// maglevSize is the size of the yardstick's table, a prime (Eisenbud et al., "Maglev", NSDI 2016, section 3.4).
const maglevSize = 65537

// maglev is the yardstick of lookups: the hash of the key, and one index into a table. It gives the number of a node, and not even its name.
type maglev [maglevSize]uint16

// newMaglev fills the table: the nodes take turns, and each takes the next free place in an order of its own.
func newMaglev(names []string) *maglev {
	var m maglev
	var taken [maglevSize]bool
	place, skip := make([]uint64, len(names)), make([]uint64, len(names))
	for i, name := range names {
		place[i] = ring.Hash("place/"+name) % maglevSize
		skip[i] = ring.Hash("skip/"+name)%(maglevSize-1) + 1
	}
	for filled := 0; filled < maglevSize; {
		for i := range names {
			for taken[place[i]] {
				place[i] = (place[i] + skip[i]) % maglevSize
			}
			m[place[i]], taken[place[i]] = uint16(i), true
			if filled++; filled == maglevSize {
				break
			}
		}
	}
	return &m
}

func (m *maglev) node(key string) uint16 { return m[ring.Hash(key)%maglevSize] }

// jump is the yardstick of balance: jump consistent hash (Lamping and Veach, 2014), which has no table. It gives the number of one of
// so many nodes.
func jump(hash uint64, nodes int) int {
	node, next := int64(-1), int64(0)
	for next < int64(nodes) {
		node = next
		hash = hash*2862933555777941757 + 1
		next = int64(float64(node+1) * (float64(int64(1)<<31) / float64((hash>>33)+1)))
	}
	return int(node)
}
