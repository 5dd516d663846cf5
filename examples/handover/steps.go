// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/tables"
)

var (
	// errSuperseded: a page of a move that is over. Its sender is not the owner any more, or will hear that it is.
	errSuperseded = errors.New("a later one is known here")
	// errIncomplete: the last page has come, and not all of those before it. The owner begins anew.
	errIncomplete = errors.New("the partition is not complete")
)

// Take makes a page durable at the next owner. It may come again, and late: what it does it does once, and only for the
// latest move.
func (h *Holdings) Take(page *Page) error {
	if err := h.suits(page); err != nil {
		return err
	}
	return h.File.Join(func(w *tables.Writer) error {
		s, _, err := states.Get(w.Tx, stateKey(page.Partition))
		switch begins := s.Since.Before(page.Since); {
		case err != nil:
			return err
		case page.Since.Before(s.Since):
			return fmt.Errorf("a page of partition %d for its move since epoch %d: %w", page.Partition, page.Since.Epoch, errSuperseded)
		case !begins && s.Phase != arriving:
			return nil // all of it is here: the page is a repetition
		default:
			return h.take(w, page, begins)
		}
	})
}

// suits gives an error for a page that is of no partition here.
func (h *Holdings) suits(page *Page) error {
	if page.Group != h.Group || page.Partition < 0 || page.Partition >= h.Partitions {
		return fmt.Errorf("a page of partition %d of group %.80q: here is group %q with %d partitions", page.Partition, page.Group, h.Group, h.Partitions)
	}
	for _, item := range page.Items {
		if p := partitionOf(Key(item.Name), h.Partitions); p != page.Partition {
			return fmt.Errorf("a page of partition %d has key %.80q, which is of partition %d", page.Partition, item.Name, p)
		}
	}
	return nil
}

// take writes a page, after it has looked whether it may.
func (h *Holdings) take(w *tables.Writer, page *Page, begins bool) error {
	old, err := h.keys(w.Tx, page.Partition)
	if err != nil {
		return err
	}
	s, n := state{arriving, page.Since}, len(page.Items)
	if !begins {
		n += without(old, page.Items)
		old = nil
	}
	if page.Last {
		s.Phase = arrived
	}
	if page.Last && n != page.Total {
		return fmt.Errorf("partition %d: %d keys are here, and there are %d: %w", page.Partition, n, page.Total, errIncomplete)
	}
	if err := h.remove(w, old); err != nil {
		return err
	}
	for _, item := range page.Items {
		if err := h.values().Copy(w, Key(item.Name), item.Value); err != nil {
			return err
		}
	}
	return states.Put(w, stateKey(page.Partition), s)
}

// without counts the keys that are not among the items.
func without(keys [][]byte, items []Item) (n int) {
	again := make(map[string]bool, len(items))
	for _, item := range items {
		again[item.Name] = true
	}
	for _, key := range keys {
		if !again[Name(key)] {
			n++
		}
	}
	return n
}

// Acquire holds a partition from a ring on, with the keys that are in the file, and tells whether another node has handed it over
// or it was held before. If neither, it is new, or its owner was removed by force; then a part that had arrived is of no use, and
// is deleted.
func (h *Holdings) Acquire(partition int, ring Version) (whole bool, err error) {
	if err := h.File.View(func(tx *bbolt.Tx) error {
		s, _, err := states.Get(tx, stateKey(partition))
		whole = s.Phase == held
		return err
	}); whole || err != nil {
		return whole, err
	}
	err = h.File.Join(func(w *tables.Writer) error {
		s, _, err := states.Get(w.Tx, stateKey(partition))
		if err != nil {
			return err
		}
		whole = s.Phase == arrived || s.Phase == released
		if s.Phase == arriving {
			part, err := h.keys(w.Tx, partition)
			if err == nil {
				err = h.remove(w, part)
			}
			if err != nil {
				return err
			}
		}
		return states.Put(w, stateKey(partition), state{held, ring})
	})
	return whole, err
}

// Release notes that a partition was handed over in a move. From then on the store does nothing for it; its keys stay until
// Drop, or until they are acquired again. It may never have been acquired here: the ring can move on before that.
func (h *Holdings) Release(partition int, move Version) error {
	return h.File.Join(func(w *tables.Writer) error {
		s, err := h.whole(w.Tx, partition)
		switch {
		case err != nil:
			return err
		case move.Before(s.Since):
			return fmt.Errorf("release partition %d in its move since epoch %d: %w", partition, move.Epoch, errSuperseded)
		case s == state{released, move}:
			return nil
		}
		return states.Put(w, stateKey(partition), state{released, move})
	})
}

// whole is a partition's state, if there is all of it.
func (h *Holdings) whole(tx *bbolt.Tx, partition int) (state, error) {
	s, _, err := states.Get(tx, stateKey(partition))
	if err == nil && s.Phase == arriving {
		err = fmt.Errorf("partition %d: %w", partition, errIncomplete)
	}
	return s, err
}

// Drop deletes the copy of a partition that was released in a move. It is no error if there is none any more, or another. That
// the move was is remembered, so that a page that was late begins nothing.
func (h *Holdings) Drop(partition int, move Version) error {
	return h.File.Join(func(w *tables.Writer) error {
		s, _, err := states.Get(w.Tx, stateKey(partition))
		if err != nil || s != (state{released, move}) {
			return err
		}
		left, err := h.keys(w.Tx, partition)
		if err != nil {
			return err
		}
		if err := h.remove(w, left); err != nil {
			return err
		}
		return states.Put(w, stateKey(partition), state{absent, move})
	})
}
