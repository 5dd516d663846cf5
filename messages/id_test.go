// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestNewID(t *testing.T) {
	before := time.Now().UnixMilli()
	id, other := NewID(), NewID()
	after := time.Now().UnixMilli()
	if id == other || id.IsZero() || uuid.UUID(id).Version() != 7 || uuid.UUID(id).Variant() != uuid.RFC4122 {
		t.Errorf("ids %v and %v", id, other)
	}
	if ms := id.UnixMilli(); ms < before || ms > after {
		t.Errorf("minted between %d and %d, but tells %d", before, after, ms)
	}
}

func TestIDTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(0, 1<<48-1).Draw(t, "ms")
		id := drawID.Draw(t, "id")
		for i := range 6 {
			id[i] = byte(ms >> (40 - 8*i))
		}
		if id.UnixMilli() != ms || !id.Time().Equal(time.UnixMilli(ms)) {
			t.Fatalf("%v tells %d, %v; expected %d", id, id.UnixMilli(), id.Time(), ms)
		}
	})
}

func TestIDAsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID.Draw(t, "id")
		text, err := json.Marshal(map[ID]ID{id: id})
		if want := `{"` + uuid.UUID(id).String() + `":"` + id.String() + `"}`; err != nil || string(text) != want {
			t.Fatalf("%s, %v; expected %s", text, err, want)
		}
		var back map[ID]ID
		if err := json.Unmarshal(text, &back); err != nil || back[id] != id {
			t.Fatalf("%s is %v, %v", text, back, err)
		}
	})
	kept := NewID()
	before := kept
	if err := kept.UnmarshalText([]byte("no id")); err == nil || kept != before {
		t.Errorf("a bad text makes %v of %v, %v", kept, before, err)
	}
}

// TestNextID: the next id is of the same time and shard, an id itself, and another one at every step of a long chain.
func TestNextID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID.Draw(t, "id")
		seen := map[ID]bool{id: true}
		for range 50 {
			next := id.Next()
			if next != id.Next() {
				t.Fatalf("%v has two next ids", id)
			}
			if back, err := ParseID(next.String()); err != nil || back != next {
				t.Fatalf("after %v comes %v, %v", id, next, err)
			}
			if next.UnixMilli() != id.UnixMilli() || [4]byte(next[12:]) != [4]byte(id[12:]) {
				t.Fatalf("after %v comes %v: another time or shard", id, next)
			}
			if seen[next] {
				t.Fatalf("%v comes again after %v", next, id)
			}
			seen[next], id = true, next
		}
	})
}

// TestNextIDsDiffer: ids of one millisecond that differ in a bit do not meet in the next step, as nothing but chance makes
// two of them one.
func TestNextIDsDiffer(t *testing.T) {
	seen := map[ID]ID{}
	for bit := range 128 {
		id := sampleID
		id[bit/8] ^= 1 << (bit % 8)
		if other, ok := seen[id.Next()]; ok {
			t.Errorf("%v comes after %v and after %v", id.Next(), id, other)
		}
		seen[id.Next()] = id
	}
}

func TestShardsAreEven(t *testing.T) {
	const shards, ids = 8, 8000
	var count [shards]int
	for range ids {
		count[NewID().Shard(shards)]++
	}
	for shard, n := range count { // 1000 each, with a standard deviation of 30
		if n < 700 || n > 1300 {
			t.Errorf("shard %d has %d of %d ids", shard, n, ids)
		}
	}
}

func TestShardOfNoShards(t *testing.T) {
	for _, n := range []int{0, -1, -8} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("shard of %d shards does not panic", n)
				}
			}()
			sampleID.Shard(n)
		}()
	}
}
