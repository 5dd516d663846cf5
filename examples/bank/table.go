// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// table is a bucket whose values are JSON.
type table[V any] struct{ name string }

func (t table[V]) get(tx *bbolt.Tx, key []byte) (value V, exists bool, err error) {
	data := tx.Bucket([]byte(t.name)).Get(key)
	if data == nil {
		return value, false, nil
	}
	return value, true, t.decode(key, data, &value)
}

func (t table[V]) decode(key, data []byte, value *V) error {
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("bank: the file is damaged: %s %q: %w", t.name, key, err)
	}
	return nil
}

func (t table[V]) each(tx *bbolt.Tx, visit func(key []byte, value V)) error {
	return tx.Bucket([]byte(t.name)).ForEach(func(key, data []byte) error {
		var value V
		if err := t.decode(key, data, &value); err != nil {
			return err
		}
		visit(key, value)
		return nil
	})
}

func (t table[V]) len(tx *bbolt.Tx) int { return tx.Bucket([]byte(t.name)).Stats().KeyN }

func (t table[V]) put(w *writer, key []byte, value V) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.changed = true
	return w.tx.Bucket([]byte(t.name)).Put(key, data)
}

func (t table[V]) remove(w *writer, key []byte) error {
	w.changed = true
	return w.tx.Bucket([]byte(t.name)).Delete(key)
}

// writer is a change of the file that is being put together.
type writer struct {
	tx      *bbolt.Tx
	changed bool
}

// update changes the file in one commit, which is one sync of the disk however much it holds. Nothing changed is nothing
// to sync.
func (s *Store) update(change func(w *writer) error) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	w := &writer{tx: tx}
	if err := change(w); err != nil || !w.changed {
		_ = tx.Rollback() // its only error is of a transaction that has ended
		return err
	}
	return tx.Commit()
}
