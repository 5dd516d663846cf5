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
	// errMissing: a partition was handed over, and is not in the file.
	errMissing = errors.New("the partition is not in this file")
)

// Take makes a page durable at the next owner. It may come again, and late: what it does it does once, and only for the
// latest move.
func (h *Holdings) Take(page *Page) error {
	if page.Group != h.Group || page.Partition < 0 || page.Partition >= h.Partitions {
		return fmt.Errorf("a page of partition %d of group %.80q: here is group %q with %d partitions", page.Partition, page.Group, h.Group, h.Partitions)
	}
	return tables.UpdateTogether(h.DB, func(w *tables.Writer) error {
		s, _, err := states.Get(w.Tx, stateKey(page.Partition))
		switch {
		case err != nil:
			return err
		case page.Since.Before(s.Since):
			return fmt.Errorf("a page of partition %d for its move since epoch %d: %w", page.Partition, page.Since.Epoch, errSuperseded)
		case s.Since.Before(page.Since):
			if err := h.clear(w.Tx, page.Partition); err != nil {
				return err
			}
			s = state{arriving, page.Since}
		case s.Phase != arriving:
			return nil // all of it is here: the page is a repetition
		}
		if err := h.write(w, page); err != nil {
			return err
		}
		if page.Last {
			s.Phase = arrived
		}
		return states.Put(w, stateKey(page.Partition), s)
	})
}

// write writes a page's keys. A last page that does not complete the partition is an error.
func (h *Holdings) write(w *tables.Writer, page *Page) error {
	bucket := w.Tx.Bucket([]byte(h.Bucket))
	for _, item := range page.Items {
		key := Key(item.Name)
		if p := partitionOf(key, h.Partitions); p != page.Partition {
			return fmt.Errorf("a page of partition %d has key %.80q, which is of partition %d", page.Partition, item.Name, p)
		}
		if err := bucket.Put(key, item.Value); err != nil {
			return err
		}
	}
	if !page.Last {
		return nil
	}
	n, err := h.count(w.Tx, page.Partition)
	if err == nil && n != page.Total {
		err = fmt.Errorf("partition %d: %d keys are here, and there are %d: %w", page.Partition, n, page.Total, errIncomplete)
	}
	return err
}

// Acquire holds a partition from a ring on, with the keys that are in the file. What was handed over in a move, unless that
// is zero, must have arrived with it: a node that was given an empty file, or another's, must not begin without its keys.
func (h *Holdings) Acquire(partition int, ring, move Version) error {
	return tables.UpdateTogether(h.DB, func(w *tables.Writer) error {
		s, _, err := states.Get(w.Tx, stateKey(partition))
		switch {
		case err != nil:
			return err
		case s.Phase == held && !s.Since.Before(move):
			return nil
		case move != Version{} && (s.Phase != arrived || s.Since != move):
			return fmt.Errorf("partition %d was handed over in its move since epoch %d: %w", partition, move.Epoch, errMissing)
		}
		return states.Put(w, stateKey(partition), state{held, ring})
	})
}

// Release notes that a partition was handed over in a move. From then on the store does nothing for it; its keys stay until
// Drop, or until they are acquired again. It may never have been acquired here: the ring can move on before that.
func (h *Holdings) Release(partition int, move Version) error {
	return tables.UpdateTogether(h.DB, func(w *tables.Writer) error {
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
	return tables.UpdateTogether(h.DB, func(w *tables.Writer) error {
		s, _, err := states.Get(w.Tx, stateKey(partition))
		if err != nil || s != (state{released, move}) {
			return err
		}
		if err := h.clear(w.Tx, partition); err != nil {
			return err
		}
		return states.Put(w, stateKey(partition), state{absent, move})
	})
}
