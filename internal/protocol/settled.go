// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/assent-tx/assent/messages"

// maxSettled bounds the outcomes that an instance remembers to have applied.
const maxSettled = 65_536

// settledSet remembers the last maxSettled transactions that are over here, so that an outcome which is sent again is
// answered without the handler, and a prepare which its outcome overtook is not prepared any more. It is a help, not a
// need: a transaction that it has lost meets the handler's own idempotence.
type settledSet struct {
	known map[messages.ID]settledBranch
	// order is a ring once it is full; next is then the oldest.
	order []messages.ID
	next  int
}

// settledBranch is how a branch ended: see branch for covers. The outcome is Undecided when only another instance knows it.
type settledBranch struct {
	outcome   messages.Outcome
	covers    uint64
	heuristic string
}

func newSettledSet() settledSet {
	return settledSet{known: make(map[messages.ID]settledBranch)}
}

func (s *settledSet) find(tx messages.ID) (settledBranch, bool) {
	settled, ok := s.known[tx]
	return settled, ok
}

func (s *settledSet) add(tx messages.ID, settled settledBranch) {
	_, known := s.known[tx]
	s.known[tx] = settled
	switch {
	case known:
	case len(s.order) < maxSettled:
		s.order = append(s.order, tx)
	default:
		delete(s.known, s.order[s.next])
		s.order[s.next] = tx
		s.next = (s.next + 1) % maxSettled
	}
}
