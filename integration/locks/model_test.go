// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/assent-tx/assent/locks"
)

// The models say what one key, and the resource that it protects, may do, one step after another. Porcupine looks for an order of
// the steps in which each lies between its call and its return, and is legal.

// forever is the return of what has none: it may happen at any time after its call.
const forever = math.MaxInt64

// action is what a step does to a key.
type action int

const (
	acquire action = iota // the grant begins
	release               // its holder gave it back, and was told so
	disown                // its holder was told that it holds it no longer
	expire                // it ended without its holder: of a process that was killed or lost its session, or gave it back and was told nothing
)

// step is one step of one grant.
type step struct {
	action action
	grant  int // its number in the history
	shared bool
	token  locks.Token
}

func (s step) String() string {
	mode := "exclusive"
	if s.shared {
		mode = "shared"
	}
	switch s.action {
	case acquire:
		return fmt.Sprintf("grant %d, %s, %d", s.grant, mode, s.token.Sequence)
	case release:
		return fmt.Sprintf("release of %d", s.grant)
	case disown:
		return fmt.Sprintf("%d is told that it is lost", s.grant)
	default:
		return fmt.Sprintf("%d expires", s.grant)
	}
}

// keyState is the state of one key.
type keyState struct {
	holders []holding // by grant
	// exclusive is the greatest token of an exclusive grant, greatest of any.
	exclusive, greatest locks.Token
}

type holding struct {
	grant  int
	shared bool
}

func (s keyState) equal(t keyState) bool {
	return s.exclusive == t.exclusive && s.greatest == t.greatest && slices.Equal(s.holders, t.holders)
}

func (s keyState) find(grant int) (int, bool) {
	return slices.BinarySearchFunc(s.holders, grant, func(h holding, grant int) int { return h.grant - grant })
}

// after is the state after a step, if the step is legal.
func (s keyState) after(st step) (keyState, bool) {
	at, held := s.find(st.grant)
	switch st.action {
	case acquire:
		if held || !s.grants(st) {
			return s, false
		}
		s.holders = slices.Insert(slices.Clone(s.holders), at, holding{st.grant, st.shared})
		s.greatest = st.token
		if !st.shared {
			s.exclusive = st.token
		}
		return s, true
	case disown:
		return s, !held
	default:
		if held {
			s.holders = slices.Delete(slices.Clone(s.holders), at, at+1)
		}
		return s, held
	}
}

// grants tells whether a grant is legal: nobody holds what excludes it, and its token is greater than each before. Only those
// who share may have equal ones, between two exclusive grants.
func (s keyState) grants(st step) bool {
	if !st.shared {
		return len(s.holders) == 0 && st.token.Compare(s.greatest) > 0
	}
	return !slices.ContainsFunc(s.holders, func(h holding) bool { return !h.shared }) &&
		st.token.Compare(s.greatest) >= 0 && st.token.Compare(s.exclusive) > 0
}

func (s keyState) String() string {
	if len(s.holders) == 0 {
		return "free"
	}
	var b strings.Builder
	for _, h := range s.holders {
		fmt.Fprintf(&b, "%d ", h.grant)
	}
	return "held by " + strings.TrimSpace(b.String())
}

// keyModel is the model of one key.
func keyModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return keyState{} },
		Step: func(state, input, _ any) (bool, any) {
			next, ok := state.(keyState).after(input.(step)) //nolint:errcheck // nothing else is there
			return ok, next
		},
		Equal: func(a, b any) bool { return a.(keyState).equal(b.(keyState)) }, //nolint:errcheck // nothing else is there
		Hash: func(state any) uint64 {
			s := state.(keyState) //nolint:errcheck // nothing else is there
			hash := s.greatest.Sequence
			for _, h := range s.holders {
				hash = hash*1_000_003 + uint64(h.grant)
			}
			return hash
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprint(input) },
		DescribeState:     func(state any) string { return fmt.Sprint(state) },
	}
}

// attempt is one write to a resource, outcome what came of it.
type attempt struct{ token locks.Token }

type outcome int

const (
	accepted outcome = iota
	refused
	unanswered // it may have been accepted or refused, or may be yet
)

// resourceModel is the model of one resource: it accepts what is not older than what it has accepted, and refuses the rest.
func resourceModel() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{locks.Token{}} },
		Step: func(state, input, output any) []any {
			last, token := state.(locks.Token), input.(attempt).token //nolint:errcheck // nothing else is there
			newer := token.Compare(last) >= 0
			switch {
			case output == accepted && newer:
				return []any{token}
			case output == refused && !newer:
				return []any{last}
			case output == unanswered && newer:
				return []any{last, token}
			case output == unanswered:
				return []any{last}
			default:
				return nil
			}
		},
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("write %d: %d", input.(attempt).token.Sequence, output) //nolint:errcheck // nothing else is there
		},
	}
	return model.ToModel()
}
