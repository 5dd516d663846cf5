// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/assent-tx/assent/messages"

// maxSettled bounds the outcomes that an instance remembers to have applied.
const maxSettled = 65_536

// settledSet remembers the last maxSettled transactions whose outcome was applied. It is a help, not a need: a prepare
// that comes again after it was forgotten meets the handler's own idempotence, or is answered by its outcome.
type settledSet struct {
	known map[messages.ID]struct{}
	order []messages.ID
	next  int
}

func newSettledSet() settledSet {
	return settledSet{known: make(map[messages.ID]struct{})}
}

func (s *settledSet) has(tx messages.ID) bool {
	_, ok := s.known[tx]
	return ok
}

func (s *settledSet) add(tx messages.ID) {
	if s.has(tx) {
		return
	}
	s.known[tx] = struct{}{}
	if len(s.order) < maxSettled {
		s.order = append(s.order, tx)
		return
	}
	delete(s.known, s.order[s.next])
	s.order[s.next] = tx
	s.next = (s.next + 1) % maxSettled
}
