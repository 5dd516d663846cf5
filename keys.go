// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"fmt"
	"unicode/utf8"

	"github.com/assent-tx/assent/messages"
)

// OpOption says something of an operation to Enlist and EnlistKey.
type OpOption func(*messages.Operation)

// Keys names what the operation touches: from its prepare to the outcome no other transaction touches the same keys at that
// participant, which waits its turn. Transactions whose operations name all that they read and change are as if they
// ran one after the other (docs/isolation.md); those that name nothing are only atomic.
//
// A key is 1 to 1024 bytes of UTF-8, and means what the participant says it means; keys of different participants have
// nothing to do with each other. An operation has at most 1024, over all its options, shared ones included.
func Keys(keys ...string) OpOption {
	return func(op *messages.Operation) { op.Keys = append(op.Keys, keys...) }
}

// SharedKeys names what the operation reads: other transactions may touch the same keys meanwhile, if they name them as
// shared too. A key cannot be in both lists of one operation; where one operation of a branch shares a key and another one does
// not, the branch does not share it.
func SharedKeys(keys ...string) OpOption {
	return func(op *messages.Operation) { op.Shared = append(op.Shared, keys...) }
}

// checkKeys notes what is wrong with the keys of the operation that is being added.
func (tx *Tx) checkKeys(op *messages.Operation) {
	if len(op.Keys)+len(op.Shared) > messages.MaxKeys {
		tx.fault(tx.field("keys"), fmt.Sprintf("more than %d keys, shared ones included", messages.MaxKeys))
		return
	}
	tx.checkList("keys", op.Keys)
	tx.checkList("shared", op.Shared)
	if i := messages.SharedTwice(op.Keys, op.Shared); i >= 0 {
		tx.fault(tx.field(fmt.Sprintf("shared[%d]", i)), fmt.Sprintf("%.80q is shared, and in Keys too: name it in one of the two", op.Shared[i]))
	}
}

func (tx *Tx) checkList(list string, keys []string) {
	for i, key := range keys {
		switch {
		case key == "" || len(key) > messages.MaxKey:
			tx.fault(tx.field(fmt.Sprintf("%s[%d]", list, i)), fmt.Sprintf("%d bytes; 1 to %d", len(key), messages.MaxKey))
		case !utf8.ValidString(key): // records are UTF-8: the participant would lock another key
			tx.fault(tx.field(fmt.Sprintf("%s[%d]", list, i)), "not valid UTF-8")
		}
	}
}
