// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/assent-tx/assent/messages"
)

func BenchmarkTable(b *testing.B) {
	for _, waiting := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) { benchmarkTable(b, waiting) })
	}
}

// benchmarkTable has branches of two keys come and go, in the order of age, of which so many wait for the same two.
func benchmarkTable(b *testing.B, waiting int) {
	t, keys := New(Config{}), []Key{{"a", false}, {"b", false}}
	id := func(n int) (id messages.ID) {
		binary.BigEndian.PutUint64(id[8:], uint64(n))
		return id
	}
	for n := range waiting {
		t.Request(Age{int64(n), id(n)}, keys, 1, 0)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		t.Request(Age{int64(waiting + n), id(waiting + n)}, keys, 1, 0)
		t.Release(id(n))
		t.Take()
	}
}
