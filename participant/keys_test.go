// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Keys come sorted and once, and no operation's key can pass for a lock's.
func TestBranchKeys(t *testing.T) {
	b := &participant.Branch{
		Operations: []messages.Operation{
			{Keys: []string{"b", "a"}, Shared: []string{"c"}},
			{Keys: []string{"lock:a", `\lock:a`, "lock"}, Shared: []string{"a", "c"}},
		},
		Locks: []messages.Lock{{Key: "a", Token: "7"}},
	}
	want := []participant.Key{
		{Name: `\\lock:a`}, {Name: `\lock:a`}, {Name: "a"}, {Name: "b"}, {Name: "c", Shared: true}, {Name: "lock"}, {Name: "lock:a"},
	}
	if got := b.Keys(); !reflect.DeepEqual(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
	if !b.Isolated() {
		t.Error("a branch with keys beside others is isolated")
	}
	if b.Sole = true; b.Isolated() {
		t.Error("a transaction of one branch needs no isolation beyond it")
	}
	if none := (&participant.Branch{Operations: []messages.Operation{{}}}); none.Keys() != nil || none.Isolated() {
		t.Error("a branch without keys has some")
	}
}

func TestKeyJSON(t *testing.T) {
	for text, key := range map[string]participant.Key{
		`{"key":"a"}`: {Name: "a"}, `{"key":"lock:a","shared":true}`: {Name: "lock:a", Shared: true},
	} {
		var read participant.Key
		if wrote, err := json.Marshal(key); string(wrote) != text || err != nil {
			t.Errorf("%v is written %s, %v; want %s", key, wrote, err, text)
		}
		if err := json.Unmarshal([]byte(text), &read); read != key || err != nil {
			t.Errorf("%s is read as %v, %v; want %v", text, read, err, key)
		}
	}
}

// A conflict says what its error says, and is none of a refusal's.
func TestConflict(t *testing.T) {
	cause := errors.New("lock timeout")
	err := participant.Conflict(cause)
	if err.Error() != cause.Error() || !errors.Is(err, cause) || !errors.Is(err, participant.ErrConflict) || errors.Is(err, participant.ErrRefused) {
		t.Errorf("got %v", err)
	}
}
