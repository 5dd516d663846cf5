// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"fmt"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// record is what the row keeps of a branch: a prepare record, as it came over the wire but for the names of the other
// participants, of whom one stands for all.
func (s *Store) record(b *participant.Branch) []byte {
	participants := []string{s.cfg.Name}
	if !b.Sole {
		participants = append(participants, other(s.cfg.Name))
	}
	return messages.AppendPrepare(nil, &messages.Prepare{
		Tx: b.Tx, Participants: participants, Expires: max(b.Expires.UnixMilli(), 0), Locks: b.Locks, Operations: b.Operations, Trace: b.Trace,
	})
}

// other is a name that is not this one.
func other(name string) string {
	if name == "-" {
		return "_"
	}
	return "-"
}

// branch reads what record wrote.
func (s *Store) branch(tx messages.ID, record []byte) (*participant.Branch, error) {
	var (
		decoder messages.Decoder
		p       messages.Prepare
	)
	if err := decoder.Prepare(record, &p); err != nil {
		return nil, fmt.Errorf("sqlstore: the branch of transaction %s in assent_branches is damaged: %w", tx, err)
	}
	if p.Tx != tx {
		return nil, fmt.Errorf("sqlstore: the branch of transaction %s in assent_branches is damaged: it is that of %s", tx, p.Tx)
	}
	return &participant.Branch{
		Tx: p.Tx, Operations: p.Operations, Expires: time.UnixMilli(p.Expires), Trace: p.Trace, Sole: len(p.Participants) == 1, Locks: p.Locks,
	}, nil
}
