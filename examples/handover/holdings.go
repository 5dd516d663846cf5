// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/tables"
)

// Holdings are the partitions that a node has in its file, each with what is known of it. The keys stand in a bucket of the
// store's, under their Key; this package reads and writes them there when a partition moves.
type Holdings struct {
	// Group is the group's name, and Partitions its number of partitions.
	Group      string
	Partitions int
	File       *tables.File
	// Bucket is the store's, with a value for each key.
	Bucket string
	// Busy gives an error for a value that must not move now: a transaction holds it. A node has nothing in hand when it
	// releases a partition, so there is none; if there is one all the same, it stays where its transaction can find it.
	Busy func(name string, value []byte) error
}

// Bucket is the bucket in which this package keeps what it knows of each partition.
const Bucket = "partitions"

// Version is a move's or a ring's place in time: greater is later. A deleted group that is made again has the greater
// incarnation.
type Version struct {
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
}

// Before tells whether a version is older.
func (v Version) Before(other Version) bool {
	return v.Incarnation < other.Incarnation || v.Incarnation == other.Incarnation && v.Epoch < other.Epoch
}

// phase is where a partition is in its life in one file:
//
//	          first page            last page            Acquire
//	absent ──────────────▶ arriving ──────────▶ arrived ─────────▶ held ◀───────┐
//	  ▲  └───────────────────────── Acquire, of nobody's ───────▶   │ Release    │ Acquire, of a move
//	  └──────────────────────────── Drop ───────────────────────  released ─────┘ that was cancelled
//
// Pages of a later move begin anew in any phase: they come from the owner.
type phase string

const (
	absent   phase = "" // also: dropped; then Since is the move in which it was given away
	arriving phase = "arriving"
	arrived  phase = "arrived"
	held     phase = "held"
	released phase = "released"
)

// state is what is known of a partition.
type state struct {
	Phase phase `json:"phase"`
	// Since is the move for which it arrives, arrived or was released, or the ring with which it was acquired.
	Since Version `json:"since"`
}

var states = tables.Table[state]{Name: Bucket}

func stateKey(partition int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(partition)) }

// ErrNotHeld is why a store does nothing for a key: its partition is not, or no longer, in the file.
var ErrNotHeld = errors.New("the partition is not held here")

// Holds gives an error unless the partition of a name is held. A store asks before it prepares: the router has seen to it
// already, and a store that holds money looks for itself.
func (h *Holdings) Holds(tx *bbolt.Tx, name string) error {
	partition := partitionOf(Key(name), h.Partitions)
	s, _, err := states.Get(tx, stateKey(partition))
	if err == nil && s.Phase != held {
		err = fmt.Errorf("key %.80q: partition %d: %w", name, partition, ErrNotHeld)
	}
	return err
}

// Held lists the partitions that are held, in order.
func (h *Holdings) Held() (partitions []int, err error) {
	err = h.visit(func(partition int, s state) {
		if s.Phase == held {
			partitions = append(partitions, partition)
		}
	})
	return partitions, err
}

// released are the partitions that were given away and of which the copy is still there, each with its move.
func (h *Holdings) released() (map[int]Version, error) {
	all := make(map[int]Version)
	err := h.visit(func(partition int, s state) {
		if s.Phase == released {
			all[partition] = s.Since
		}
	})
	return all, err
}

func (h *Holdings) visit(visit func(partition int, s state)) error {
	return h.File.View(func(tx *bbolt.Tx) error {
		return states.Each(tx, func(key []byte, s state) error {
			visit(int(binary.BigEndian.Uint32(key)), s)
			return nil
		})
	})
}

// each visits a partition's keys after a key (nil: all), until an error or until the visitor has enough.
func (h *Holdings) each(tx *bbolt.Tx, partition int, after []byte, visit func(key, value []byte) (more bool, err error)) error {
	cursor := tx.Bucket([]byte(h.Bucket)).Cursor()
	key, value := cursor.Seek(first(partition, h.Partitions))
	if after != nil {
		if key, value = cursor.Seek(after); string(key) == string(after) {
			key, value = cursor.Next()
		}
	}
	for ; key != nil && partitionOf(key, h.Partitions) == partition; key, value = cursor.Next() {
		if more, err := visit(key, value); err != nil || !more {
			return err
		}
	}
	return nil
}

// keys are a partition's, to be removed; an error if one of them is busy.
func (h *Holdings) keys(tx *bbolt.Tx, partition int) (keys [][]byte, err error) {
	err = h.each(tx, partition, nil, func(key, value []byte) (bool, error) {
		keys = append(keys, bytes.Clone(key))
		return true, h.Busy(Name(key), value)
	})
	if err != nil {
		err = fmt.Errorf("partition %d cannot be replaced: %w", partition, err)
	}
	return keys, err
}

func (h *Holdings) remove(w *tables.Writer, keys [][]byte) error {
	for _, key := range keys {
		if err := h.values().Remove(w, key); err != nil {
			return err
		}
	}
	return nil
}

// values are the store's.
func (h *Holdings) values() tables.Table[any] { return tables.Table[any]{Name: h.Bucket} }
