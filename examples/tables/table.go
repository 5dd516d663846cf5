// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// Table is a bucket whose values are JSON.
type Table[V any] struct {
	// Name is the bucket's.
	Name string
}

// Get reads a value, and tells whether there is one.
func (t Table[V]) Get(tx *bbolt.Tx, key []byte) (value V, exists bool, err error) {
	data := tx.Bucket([]byte(t.Name)).Get(key)
	if data == nil {
		return value, false, nil
	}
	value, err = t.Decode(key, data)
	return value, true, err
}

// Decode reads a value as it stands in the file. The key is for the error, which says that the file is damaged.
func (t Table[V]) Decode(key, data []byte) (value V, err error) {
	if err := json.Unmarshal(data, &value); err != nil {
		return value, fmt.Errorf("the file is damaged: %s %q: %w", t.Name, key, err)
	}
	return value, nil
}

// Each visits all values in the order of their keys, until an error, which it returns. A key is valid during the visit.
func (t Table[V]) Each(tx *bbolt.Tx, visit func(key []byte, value V) error) error {
	return tx.Bucket([]byte(t.Name)).ForEach(func(key, data []byte) error {
		value, err := t.Decode(key, data)
		if err != nil {
			return err
		}
		return visit(key, value)
	})
}

// Len counts the values.
func (t Table[V]) Len(tx *bbolt.Tx) int { return tx.Bucket([]byte(t.Name)).Stats().KeyN }

// Put writes a value.
func (t Table[V]) Put(w *Writer, key []byte, value V) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.writes++
	return w.Tx.Bucket([]byte(t.Name)).Put(key, data)
}

// Remove removes a value. One that is not there is no error.
func (t Table[V]) Remove(w *Writer, key []byte) error {
	w.writes++
	return w.Tx.Bucket([]byte(t.Name)).Delete(key)
}
