// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// Table is a bucket whose values are of one type: as encoding/binary has them if they have a fixed size (numbers of one, and structs of
// such), which is read and written many times as fast, and as JSON otherwise.
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
	if size := t.size(); size == 0 {
		err = json.Unmarshal(data, &value)
	} else if _, err = binary.Decode(data, binary.BigEndian, &value); err == nil && len(data) != size {
		err = fmt.Errorf("%d bytes, want %d", len(data), size)
	}
	if err != nil {
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
	var data []byte
	var err error
	if t.size() == 0 {
		data, err = json.Marshal(value)
	} else {
		data, err = binary.Append(nil, binary.BigEndian, value)
	}
	if err != nil {
		return err
	}
	return t.Copy(w, key, data)
}

// size is the size of each value, in bytes; 0 if it is not fixed.
func (t Table[V]) size() int {
	var value V
	return max(0, binary.Size(value)) // of a slice it is that of the elements that it has
}

// Copy writes a value as it stands in another file.
func (t Table[V]) Copy(w *Writer, key, data []byte) error {
	w.writes++
	return w.Tx.Bucket([]byte(t.Name)).Put(key, data)
}

// Remove removes a value. One that is not there is no error.
func (t Table[V]) Remove(w *Writer, key []byte) error {
	w.writes++
	return w.Tx.Bucket([]byte(t.Name)).Delete(key)
}
