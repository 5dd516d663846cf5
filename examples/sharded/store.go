// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// item is what stands in the file for a key.
type item struct {
	// Value is what the last transaction made of it; nil when there is none yet.
	Value json.RawMessage `json:"value,omitempty"`
	// Holder is the transaction that will change it, or will not; nil when none is at it. Another one is refused meanwhile.
	Holder *messages.ID `json:"holder,omitempty"`
}

// change is what a prepared transaction makes of a key.
type change struct {
	Key string `json:"key"`
	// Value is the new one; nil removes the key.
	Value json.RawMessage `json:"value,omitempty"`
}

var items = tables.Table[item]{Name: "items"} // in the order of the hash circle

// store is a node's part of the keys, in a file. The Journal remembers the transactions, the Holdings the partitions.
type store struct {
	*tables.Journal[[]change]
	file     *tables.File
	holdings *handover.Holdings
}

var (
	_ participant.BatchHandler = (*store)(nil)
	_ participant.InDoubt      = (*store)(nil)
	_ participant.Watermark    = (*store)(nil)
)

func openStore(path string, options *bbolt.Options, group string, partitions int) (*store, error) {
	file, err := tables.Open(path, options, append(tables.JournalBuckets(), items.Name, handover.Bucket)...)
	if err != nil {
		return nil, err
	}
	journal, err := tables.NewJournal[[]change](file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return &store{
		Journal: journal, file: file,
		holdings: &handover.Holdings{Group: group, Partitions: partitions, File: file, Bucket: items.Name, Busy: busy},
	}, nil
}

func (s *store) Close() error { return s.file.Close() }

var errHeld = errors.New("it is held by a transaction")

// busy is a key that must not move: its transaction is here, and would not find it.
func busy(key string, value []byte) error {
	i, err := items.Decode([]byte(key), value)
	if err == nil && i.Holder != nil {
		err = fmt.Errorf("key %.80q: %w, %s", key, errHeld, i.Holder)
	}
	return err
}

// get reads a key, as the last transaction left it that has ended here; an empty item when there is none.
func (s *store) get(key string) (i item, err error) {
	err = s.file.View(func(tx *bbolt.Tx) error {
		if err := s.holdings.Holds(tx, key); err != nil {
			return err
		}
		i, _, err = items.Get(tx, handover.Key(key))
		return err
	})
	return i, err
}

// all are the keys in the file with their values.
func (s *store) all() (map[string]string, error) {
	all := make(map[string]string)
	err := s.file.View(func(tx *bbolt.Tx) error {
		return items.Each(tx, func(key []byte, i item) error {
			if i.Value != nil {
				all[handover.Name(key)] = string(i.Value)
			}
			return nil
		})
	})
	return all, err
}
