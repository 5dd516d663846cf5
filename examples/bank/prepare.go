// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"context"
	"fmt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/participant"
)

// PrepareBatch implements participant.BatchHandler: it puts holds on accounts, for all branches in one commit. Branches
// that touch the same account see each other's holds.
func (s *Store) PrepareBatch(_ context.Context, branches []*participant.Branch) []participant.Result {
	return s.Prepare(branches, s.prepare)
}

// prepare holds what one branch needs, all or nothing.
func (s *Store) prepare(w *tables.Writer, b *participant.Branch) ([]Entry, participant.Vote, error) {
	entries, err := entriesOf(b)
	if err != nil {
		return nil, 0, err
	}
	if err := s.mine(w.Tx, b, entries); err != nil {
		return nil, 0, err
	}
	held := make(map[string]Account)
	for _, e := range entries {
		if held[e.Account], err = hold(w, held, e); err != nil {
			return nil, 0, err
		}
	}
	entries = changesOf(entries)
	if len(entries) == 0 {
		return nil, participant.ReadOnly, nil
	}
	for _, e := range entries {
		if err := accounts.Put(w, handover.Key(e.Account), held[e.Account]); err != nil {
			return nil, 0, err
		}
	}
	return entries, participant.Yes, nil
}

// hold is the account with the entry's hold on it, after those that the branch has on it already.
func hold(w *tables.Writer, held map[string]Account, e Entry) (Account, error) {
	a, ok := held[e.Account]
	if !ok {
		var err error
		if a, ok, err = accounts.Get(w.Tx, handover.Key(e.Account)); err != nil {
			return a, err
		}
	}
	switch free, room := a.Balance-a.Outgoing, MaxCents-a.Balance-a.Incoming; {
	case !ok:
		return a, participant.Refuse(fmt.Errorf("no account %.80q", e.Account))
	case e.Cents < -MaxCents || e.Cents > MaxCents:
		return a, participant.Refuse(fmt.Errorf("%d cents: an entry may move at most %d", e.Cents, int64(MaxCents)))
	case -e.Cents > free:
		return a, participant.Refuse(fmt.Errorf("account %.80q is overdrawn: %d cents wanted, %d free", e.Account, -e.Cents, free))
	case e.Cents > room:
		return a, participant.Refuse(fmt.Errorf("account %.80q is full: %d cents wanted, room for %d", e.Account, e.Cents, room))
	}
	a.Outgoing += max(-e.Cents, 0)
	a.Incoming += max(e.Cents, 0)
	return a, nil
}

func entriesOf(b *participant.Branch) ([]Entry, error) {
	entries := make([]Entry, len(b.Operations))
	for i := range entries {
		if err := b.Decode(i, &entries[i]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// changesOf leaves out the entries that only read.
func changesOf(entries []Entry) []Entry {
	changes := entries[:0]
	for _, e := range entries {
		if e.Cents != 0 {
			changes = append(changes, e)
		}
	}
	return changes
}
