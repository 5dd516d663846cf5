// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"slices"
	"strings"

	"github.com/assent-tx/assent/messages"
)

// Key is a key that a branch locks. It is comparable, and its JSON, {"key":"…","shared":true}, is what a store may keep.
type Key struct {
	// Name is an operation's key as the client wrote it, or "lock:" and the key of a lock that the client took (Tx.Lock). The
	// two never meet: an operation's key that begins with "lock:" or with a backslash has a backslash more in front of it
	// here. It has at most messages.MaxKey bytes and those.
	Name string `json:"key"`
	// Shared: others may hold it in shared mode meanwhile. Otherwise nobody else holds it.
	Shared bool `json:"shared,omitempty"`
}

const (
	lockPrefix = "lock:"
	escape     = `\`
)

// operationKey is the name under which an operation's key is locked.
func operationKey(key string) string {
	if strings.HasPrefix(key, lockPrefix) || strings.HasPrefix(key, escape) {
		return escape + key
	}
	return key
}

// Keys are what the branch locks: the keys of its operations, and the locks that came with it; by name, each once, exclusive
// where both modes are wanted. The slice must not be changed. The SDK locks them before the handler is asked (see the
// package comment), and a store keeps them with the branch for InDoubt.
func (b *Branch) Keys() []Key {
	if b.keyed {
		return b.keys
	}
	return b.collectKeys()
}

func (b *Branch) collectKeys() []Key {
	n := len(b.Locks)
	for i := range b.Operations {
		n += len(b.Operations[i].Keys) + len(b.Operations[i].Shared)
	}
	if n == 0 {
		return nil
	}
	keys := make([]Key, 0, n)
	for i := range b.Operations {
		for _, key := range b.Operations[i].Keys {
			keys = append(keys, Key{Name: operationKey(key)})
		}
		for _, key := range b.Operations[i].Shared {
			keys = append(keys, Key{Name: operationKey(key), Shared: true})
		}
	}
	for i := range b.Locks {
		keys = append(keys, Key{Name: lockPrefix + b.Locks[i].Key})
	}
	slices.SortFunc(keys, compareKeys)
	return slices.CompactFunc(keys, func(a, b Key) bool { return a.Name == b.Name }) // of two the first stays: exclusive
}

// compareKeys is by name, exclusive before shared.
func compareKeys(a, b Key) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 || a.Shared == b.Shared {
		return c
	}
	if a.Shared {
		return 1
	}
	return -1
}

// Isolated says that the branch's keys are held until the outcome of a transaction that has other participants, too. So it must
// be made durable and answered Yes even if it changes nothing: a read-only vote would let go of its keys while another
// participant may still have to take its own, and what was read here could change in between. The SDK votes no in place of
// a ReadOnly.
func (b *Branch) Isolated() bool { return !b.Sole && len(b.Keys()) > 0 }

// Prepared is a branch that a store holds prepared, with the keys that it locks.
type Prepared struct {
	Tx messages.ID
	// Keys are those of Branch.Keys, which the store kept with the branch.
	Keys []Key
	// AllKeys: the store does not know which. Then no key is granted to others before this branch is settled. (With neither
	// the branch locks none, or the store locks its keys itself.)
	AllKeys bool
}
