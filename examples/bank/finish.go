// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"context"
	"fmt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// FinishBatch implements participant.BatchHandler: it turns holds into balance or lifts them, for all outcomes in one
// commit.
func (s *Store) FinishBatch(_ context.Context, outcomes []participant.Outcome) []error {
	return s.Finish(outcomes, func(w *tables.Writer, _ messages.ID, entries []Entry, commit bool) error {
		for _, e := range entries {
			if err := settle(w, e, commit); err != nil {
				return err
			}
		}
		return nil
	})
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
