// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"testing"

	"github.com/assent-tx/assent/router/ring"
)

// FuzzLookup: any key, of any ring, has one partition and one owner, and copies begin with it.
func FuzzLookup(f *testing.F) {
	f.Add("", uint16(0), uint8(0), 0)
	f.Add("a key", uint16(4095), uint8(3), 3)
	f.Add("日本語\x00\xff", uint16(65535), uint8(255), -1)
	f.Fuzz(func(t *testing.T, key string, partitions uint16, nodes uint8, n int) {
		q := int(partitions)%512 + 1
		r := must(t)(ring.New(q, members(int(nodes)%48), nil))
		p := r.Partition(key)
		if p < 0 || p >= q || p != ring.PartitionOf(ring.Hash(key), q) {
			t.Fatalf("%q is in partition %d of %d", key, p, q)
		}
		owner := r.Owner(key)
		if owner != r.OwnerOf(p) || (owner == "") != (int(nodes)%48 == 0) {
			t.Fatalf("%q is owned by %q, its partition by %q, of %d nodes", key, owner, r.OwnerOf(p), int(nodes)%48)
		}
		copies := r.Owners(key, n)
		if len(copies) != min(max(n, 0), int(nodes)%48) || len(copies) > 0 && copies[0] != owner {
			t.Fatalf("%d copies of %q are on %v; %q owns it", n, key, copies, owner)
		}
		if got := r.Bounded(key, 1, func(string) float64 { return 0 }); got != owner {
			t.Fatalf("%q goes to %q, though its owner %q is idle", key, got, owner)
		}
	})
}
