// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// PrepareBatch implements participant.BatchHandler: it holds the keys of all branches, in one commit of the file.
func (s *store) PrepareBatch(_ context.Context, branches []*participant.Branch) []participant.Result {
	return s.Prepare(branches, s.prepare)
}

// prepare works out what the branch makes of its keys, and holds them; all of them, or none.
func (s *store) prepare(w *tables.Writer, b *participant.Branch) ([]change, participant.Vote, error) {
	changes, err := s.changes(w, b)
	if err != nil {
		return nil, 0, err
	}
	for _, c := range changes {
		key := handover.Key(c.Key)
		i, _, err := items.Get(w.Tx, key)
		if err != nil {
			return nil, 0, err
		}
		i.Holder = &b.Tx
		if err := items.Put(w, key, i); err != nil {
			return nil, 0, err
		}
	}
	return changes, participant.Yes, nil
}

// changes are what the branch's operations come to, one for each key; an operation sees what those before it have done.
func (s *store) changes(w *tables.Writer, b *participant.Branch) ([]change, error) {
	var changes []change
	at := make(map[string]int)
	for i, operation := range b.Operations {
		var o op
		if err := b.Decode(i, &o); err != nil {
			return nil, err
		}
		if operation.Route == nil || operation.Route.Group != s.holdings.Group {
			return nil, participant.Refuse(fmt.Errorf("operation %d: enlist it by a key of group %s", i, s.holdings.Group))
		}
		key := operation.Route.Key
		if _, seen := at[key]; !seen {
			before, err := s.take(w, key)
			if err != nil {
				return nil, err
			}
			at[key] = len(changes)
			changes = append(changes, change{key, before})
		}
		c := &changes[at[key]]
		after, err := o.apply(c.Value)
		if err != nil {
			return nil, participant.Refuse(fmt.Errorf("key %.80q: %w", key, err))
		}
		c.Value = after
	}
	return changes, nil
}

// take reads a key that nobody holds. Who finds it held is refused at once: two that wait for each other on two nodes
// would wait for ever.
func (s *store) take(w *tables.Writer, key string) (json.RawMessage, error) {
	if err := s.holdings.Holds(w.Tx, key); err != nil {
		return nil, err
	}
	i, _, err := items.Get(w.Tx, handover.Key(key))
	if err == nil && i.Holder != nil {
		err = participant.Refuse(fmt.Errorf("key %.80q: %w", key, errHeld))
	}
	return i.Value, err
}

// FinishBatch implements participant.BatchHandler: it makes the changes, or lets the keys go as they were, in one commit.
func (s *store) FinishBatch(_ context.Context, outcomes []participant.Outcome) []error {
	return s.Finish(outcomes, finish)
}

func finish(w *tables.Writer, tx messages.ID, changes []change, commit bool) error {
	for _, c := range changes {
		key := handover.Key(c.Key)
		i, _, err := items.Get(w.Tx, key)
		switch {
		case err != nil:
			return err
		case i.Holder == nil || *i.Holder != tx:
			return fmt.Errorf("the file is damaged: key %q is not held by %s", c.Key, tx)
		}
		if i.Holder = nil; commit {
			i.Value = c.Value
		}
		if i.Value == nil {
			err = items.Remove(w, key)
		} else {
			err = items.Put(w, key, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
