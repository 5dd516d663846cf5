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
