// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Hash is a key's place on the hash circle: XXH64 with seed 0 of its bytes.
func Hash(key string) uint64 { return xxhash.Sum64String(key) }

// PartitionOf is the partition that a place on the hash circle lies in, when there are so many: the circle is cut into
// arcs of one length, numbered from 0. It is 0 when the number of partitions is not positive.
func PartitionOf(hash uint64, partitions int) int {
	p, _ := bits.Mul64(hash, uint64(max(partitions, 1)))
	return int(p)
}
