// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"encoding/json"
	"fmt"
)

// keys are those that an operation locks: for itself what it writes, shared what it only reads. Each is named once.
func (op *Operation) keys() (exclusive, shared []string) {
	seen := make(map[string]bool, len(op.Reads)+len(op.Writes))
	for i := range op.Writes {
		if name := KeyName(op.Writes[i].Bucket, op.Writes[i].Key); !seen[name] {
			seen[name] = true
			exclusive = append(exclusive, name)
		}
	}
	for i := range op.Reads {
		if name := KeyName(op.Reads[i].Bucket, op.Reads[i].Key); !seen[name] {
			seen[name] = true
			shared = append(shared, name)
		}
	}
	return exclusive, shared
}

func encode(op Operation) json.RawMessage {
	data, err := json.Marshal(op)
	if err != nil {
		panic(fmt.Sprintf("kv: an operation that is no JSON: %v", err)) // it is names, numbers and bytes
	}
	return data
}
