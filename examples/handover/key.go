// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"encoding/binary"
	"math/bits"

	"github.com/assent-tx/assent/router/ring"
)

// hashSize is how many bytes of a key in a file are the name's hash.
const hashSize = 8

// Key is where a name stands in a file. It begins with the name's hash, so that a partition, which is an arc of the hash
// circle, is a range of keys, whatever the number of partitions.
func Key(name string) []byte {
	key := binary.BigEndian.AppendUint64(make([]byte, 0, hashSize+len(name)), ring.Hash(name))
	return append(key, name...)
}

// Name is the name of a Key.
func Name(key []byte) string { return string(key[hashSize:]) }

// partitionOf is the partition of a Key.
func partitionOf(key []byte, partitions int) int {
	return ring.PartitionOf(binary.BigEndian.Uint64(key), partitions)
}

// first is where a partition begins: the least hash that belongs to it, which is ⌈2⁶⁴·partition/partitions⌉.
func first(partition, partitions int) []byte {
	hash, rest := bits.Div64(uint64(partition), 0, uint64(partitions))
	if rest > 0 {
		hash++
	}
	return binary.BigEndian.AppendUint64(nil, hash)
}
