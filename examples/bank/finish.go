// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// FinishBatch implements participant.BatchHandler: it turns holds into balance or lifts them, for all outcomes in one
// commit.
func (s *Store) FinishBatch(_ context.Context, outcomes []participant.Outcome) []error {
	errs := make([]error, len(outcomes))
	err := tables.Update(s.db, func(w *tables.Writer) error {
		for _, o := range outcomes {
			if err := s.finish(w, o); err != nil {
				return err
			}
		}
		if !w.Changed() {
			return nil
		}
		return sweep(w, time.Now(), 2*len(outcomes)) // more than were added, so that it catches up
	})
	if err != nil { // nothing was applied: all are asked again
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// finish ends one branch. One that is unknown, or finished already, is no error and changes nothing.
func (s *Store) finish(w *tables.Writer, o participant.Outcome) error {
	branch, ok, err := prepared.Get(w.Tx, o.Tx[:])
	if err != nil || !ok {
		return err
	}
	for _, e := range branch.Entries {
		if err := settle(w, e, o.Commit); err != nil {
			return err
		}
	}
	if err := prepared.Remove(w, o.Tx[:]); err != nil {
		return err
	}
	if err := finished.Put(w, o.Tx[:], finishedBranch{Committed: o.Commit}); err != nil {
		return err
	}
	return sweeping.Put(w, sweepKey(branch.Expires.Add(s.remember), o.Tx), struct{}{})
}

// settle lifts an entry's hold, and moves its cents if it is committed.
func settle(w *tables.Writer, e Entry, commit bool) error {
	a, ok, err := accounts.Get(w.Tx, handover.Key(e.Account))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("bank: the file is damaged: account %q has holds and is gone", e.Account)
	}
	a.Outgoing -= max(-e.Cents, 0)
	a.Incoming -= max(e.Cents, 0)
	if commit {
		a.Balance += e.Cents
	}
	return accounts.Put(w, handover.Key(e.Account), a)
}

// sweep forgets finished transactions whose time has come, at most limit of them.
func sweep(w *tables.Writer, now time.Time, limit int) error {
	var due [][]byte
	cursor := w.Tx.Bucket([]byte(sweeping.Name)).Cursor()
	for key, _ := cursor.First(); key != nil && len(due) < limit && sweepTime(key).Before(now); key, _ = cursor.Next() {
		due = append(due, bytes.Clone(key))
	}
	for _, key := range due {
		if err := finished.Remove(w, key[8:]); err != nil {
			return err
		}
		if err := sweeping.Remove(w, key); err != nil {
			return err
		}
	}
	return nil
}

// sweepKey orders transactions by the time at which they may be forgotten.
func sweepKey(at time.Time, tx messages.ID) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())), tx[:]...)
}

func sweepTime(key []byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(key)))
}
