// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/participant"
)

// PrepareBatch implements participant.BatchHandler: it puts holds on accounts, for all branches in one commit. Branches
// that touch the same account see each other's holds.
func (s *Store) PrepareBatch(_ context.Context, branches []*participant.Branch) []participant.Result {
	results := make([]participant.Result, len(branches))
	err := tables.Update(s.db, func(w *tables.Writer) error {
		for i, b := range branches {
			vote, err := s.prepare(w, b)
			if err != nil && !errors.Is(err, participant.ErrRefused) && !errors.Is(err, handover.ErrNotHeld) {
				return err
			}
			results[i] = participant.Result{Vote: vote, Err: err}
		}
		return nil
	})
	if err != nil { // nothing was kept: all are asked again
		for i := range results {
			results[i] = participant.Result{Err: err}
		}
	}
	return results
}

// prepare holds what one branch needs, all or nothing. A transaction that is prepared or finished already was voted for.
func (s *Store) prepare(w *tables.Writer, b *participant.Branch) (participant.Vote, error) {
	if _, again, err := prepared.Get(w.Tx, b.Tx[:]); err != nil || again {
		return participant.Yes, err
	}
	if _, over, err := finished.Get(w.Tx, b.Tx[:]); err != nil || over {
		return participant.Yes, err
	}
	entries, err := entriesOf(b)
	if err != nil {
		return 0, err
	}
	if err := s.mine(w.Tx, b, entries); err != nil {
		return 0, err
	}
	held := make(map[string]Account)
	for _, e := range entries {
		if held[e.Account], err = hold(w, held, e); err != nil {
			return 0, err
		}
	}
	entries = changesOf(entries)
	if len(entries) == 0 {
		return participant.ReadOnly, nil
	}
	for _, e := range entries {
		if err := accounts.Put(w, handover.Key(e.Account), held[e.Account]); err != nil {
			return 0, err
		}
	}
	return participant.Yes, prepared.Put(w, b.Tx[:], preparedBranch{Entries: entries, Expires: b.Expires})
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

// mine gives an error unless a bank that shares a group's accounts holds those of the entries. The node has claimed them for the
// branch already; what the store adds is that each entry is for the account by which the node was found, and that it never
// touches an account that was handed over.
func (s *Store) mine(tx *bbolt.Tx, b *participant.Branch, entries []Entry) error {
	if s.holdings == nil {
		return nil
	}
	for i, e := range entries {
		switch route := b.Operations[i].Route; {
		case route == nil || route.Group != s.holdings.Group:
			return participant.Refuse(fmt.Errorf("operation %d: enlist it by its account, in group %s", i, s.holdings.Group))
		case route.Key != e.Account:
			return participant.Refuse(fmt.Errorf("operation %d: it was enlisted by key %.80q, and is for account %.80q", i, route.Key, e.Account))
		}
		if err := s.holdings.Holds(tx, e.Account); err != nil {
			return err
		}
	}
	return nil
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
