// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// FinishBatch implements participant.BatchHandler: it applies changes or drops them, for all outcomes in one commit.
func (s *Store) FinishBatch(_ context.Context, outcomes []participant.Outcome) []error {
	return s.Finish(outcomes, func(w *tables.Writer, tx messages.ID, what prepared, commit bool) error {
		for i := range what.Changes {
			if err := s.settle(w, &what.Changes[i], commit); err != nil {
				return err
			}
		}
		return reads.Remove(w, tx[:])
	})
}

// settle applies one change, or drops it.
func (s *Store) settle(w *tables.Writer, o *Operation, commit bool) error {
	if o.Op == "add" {
		a, err := s.account(w.Tx, o.Key)
		if err != nil {
			return err
		}
		a.Outgoing -= max(-o.Value, 0)
		if commit {
			a.Balance += o.Value
		}
		return accounts.Put(w, []byte(o.Key), a)
	}
	if !commit {
		return nil
	}
	list, _, err := lists.Get(w.Tx, []byte(o.Key))
	if err != nil {
		return err
	}
	return lists.Put(w, []byte(o.Key), append(list, o.Value))
}
