// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// PrepareBatch implements participant.BatchHandler: all branches in one commit, after which what they read is told.
func (s *Store) PrepareBatch(_ context.Context, branches []*participant.Branch) []participant.Result {
	results := s.Prepare(branches, s.prepare)
	for i, b := range branches {
		if results[i].Err == nil && results[i].Vote == participant.Yes {
			results[i].Err = s.report(b.Tx)
		}
	}
	return results
}

// prepare reads and checks what one branch wants, and writes what it holds.
func (s *Store) prepare(w *tables.Writer, b *participant.Branch) (prepared, participant.Vote, error) {
	r := reading{store: s, tx: w.Tx, accounts: make(map[string]account)}
	for i := range b.Operations {
		var o Operation
		if err := b.Decode(i, &o); err != nil {
			return prepared{}, 0, err
		}
		if err := r.take(&o); err != nil {
			return prepared{}, 0, err
		}
	}
	for key, a := range r.accounts {
		if err := accounts.Put(w, []byte(key), a); err != nil {
			return prepared{}, 0, err
		}
	}
	if len(r.told.Reads) > 0 {
		if err := reads.Put(w, b.Tx[:], r.told); err != nil {
			return prepared{}, 0, err
		}
	}
	if len(r.changes) == 0 && len(r.told.Reads) == 0 && !b.Isolated() {
		return prepared{}, participant.ReadOnly, nil
	}
	return prepared{Changes: r.changes}, participant.Yes, nil
}

// reading is one branch's operations, in their order, upon what is committed.
type reading struct {
	store   *Store
	tx      *bbolt.Tx
	changes []Operation
	// accounts have the branch's own holds on them.
	accounts map[string]account
	told     told
}

func (r *reading) take(o *Operation) error {
	if o.Key == "" {
		return participant.Refuse(fmt.Errorf("%.20q without a key", o.Op))
	}
	switch o.Op {
	case "append":
		r.changes = append(r.changes, *o)
		return nil
	case "add":
		return r.hold(o)
	case "read":
		list, err := r.list(o.Key)
		r.tell(o, Read{Number: o.Number, Values: list})
		return err
	case "balance":
		a, err := r.store.account(r.tx, o.Key)
		balance := a.Balance
		for _, c := range r.changes {
			if c.Op == "add" && c.Key == o.Key {
				balance += c.Value
			}
		}
		r.tell(o, Read{Number: o.Number, Balance: balance})
		return err
	default:
		return participant.Refuse(fmt.Errorf("op %.20q: want append, read, add or balance", o.Op))
	}
}

// list is what is committed, and what the branch has appended itself.
func (r *reading) list(key string) ([]int64, error) {
	list, _, err := lists.Get(r.tx, []byte(key))
	for _, c := range r.changes {
		if c.Op == "append" && c.Key == key {
			list = append(list, c.Value)
		}
	}
	return list, err
}

// hold reserves a debit, so that its commit cannot fail.
func (r *reading) hold(o *Operation) error {
	a, known := r.accounts[o.Key]
	if !known {
		var err error
		if a, err = r.store.account(r.tx, o.Key); err != nil {
			return err
		}
	}
	if free := a.Balance - a.Outgoing; -o.Value > free {
		return participant.Refuse(fmt.Errorf("account %.80q is overdrawn: %d wanted, %d free", o.Key, -o.Value, free))
	}
	a.Outgoing += max(-o.Value, 0)
	r.accounts[o.Key] = a
	r.changes = append(r.changes, *o)
	return nil
}

func (r *reading) tell(o *Operation, read Read) {
	if o.Report != "" {
		r.told.Subject = o.Report
		r.told.Reads = append(r.told.Reads, read)
	}
}

func (s *Store) account(tx *bbolt.Tx, key string) (account, error) {
	a, exists, err := accounts.Get(tx, []byte(key))
	if !exists {
		a.Balance = s.opening
	}
	return a, err
}

// report tells what a branch in the file has read. One that is over has nothing to tell any more.
func (s *Store) report(tx messages.ID) error {
	var what told
	var some bool
	err := s.file.View(func(file *bbolt.Tx) (err error) {
		what, some, err = reads.Get(file, tx[:])
		return err
	})
	if err != nil || !some {
		return err
	}
	data, err := json.Marshal(Report{Tx: tx.String(), Reads: what.Reads})
	if err == nil {
		_ = s.tell(what.Subject, data) // who does not hear it does without
	}
	return err
}
