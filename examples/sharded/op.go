// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"math"
)

// op is what a transaction does with the key by which it was enlisted. Exactly one of Put, Delete and Add is set.
type op struct {
	// Put sets the value.
	Put json.RawMessage `json:"put,omitempty"`
	// Delete removes the key. That it is not there is no error.
	Delete bool `json:"delete,omitempty"`
	// Add adds to a number; a key that is not there counts as 0. The transaction is refused if the number would be less than
	// Min, which is how money is taken only from who has it.
	Add *int64 `json:"add,omitempty"`
	Min int64  `json:"min,omitempty"`
}

// put, remove and add make the payload of an operation.
func put(value any) op {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // the caller's values are numbers and texts
	}
	return op{Put: data}
}

func remove() op { return op{Delete: true} }

func add(n, minimum int64) op { return op{Add: &n, Min: minimum} }

// apply gives the value that comes of the one before. Its error is why the transaction is refused.
func (o *op) apply(before json.RawMessage) (after json.RawMessage, err error) {
	set := 0
	for _, is := range []bool{o.Put != nil, o.Delete, o.Add != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return nil, fmt.Errorf("an operation has exactly one of put, delete and add, and this one %d", set)
	case o.Put != nil:
		return o.Put, nil
	case o.Delete:
		return nil, nil
	}
	var number int64
	if before != nil {
		if err := json.Unmarshal(before, &number); err != nil {
			return nil, fmt.Errorf("%.40s is no number to add to", before)
		}
	}
	if *o.Add > 0 && number > math.MaxInt64-*o.Add || *o.Add < 0 && number < math.MinInt64-*o.Add {
		return nil, fmt.Errorf("%d and %d are too much", number, *o.Add)
	}
	if number += *o.Add; number < o.Min {
		return nil, fmt.Errorf("%d would be left, and at least %d must be", number, o.Min)
	}
	return json.Marshal(number)
}
