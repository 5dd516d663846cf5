// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// takeLocks takes the field "locks" out of a transaction: a list of keys, which the command locks, and for which it gets the
// tokens that the protocol's field of that name has. Whatever is wrong with anything else is left for whoever reads it.
func takeLocks(record []byte) (rest []byte, locks []messages.Lock, err error) {
	fields, ok := fieldsOf(record)
	if !ok {
		return record, nil, nil
	}
	var others []field
	given := false
	for _, f := range fields {
		switch {
		case f.name == "since":
			return nil, nil, &assent.InvalidError{Field: "since", Message: "a transaction gets its age when it is submitted"}
		case f.name != "locks":
			others = append(others, f)
			continue
		case given:
			return nil, nil, &assent.InvalidError{Field: "locks", Message: "given twice"}
		}
		var keys []string
		if f.value[0] != '[' || json.Unmarshal(f.value, &keys) != nil {
			return nil, nil, &assent.InvalidError{Field: "locks", Message: `not a list of keys; the command takes the locks, and their tokens`}
		}
		for _, key := range keys {
			locks = append(locks, messages.Lock{Key: key})
		}
		given = true
	}
	if !given {
		return record, nil, nil // as it was written, escapes and all
	}
	return appendObject(nil, others), locks, nil
}
