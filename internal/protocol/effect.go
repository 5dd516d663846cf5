// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/assent-tx/assent/messages"

// EffectKind is what an Effect asks of the fold's owner.
type EffectKind uint8

// The effects of the fold.
const (
	// Decided: tell the clients that wait for Tx its Outcome; Participant refused it and Reason says why, when it did, and
	// WrongOwner and Conflict are its no's.
	Decided EffectKind = iota + 1
	// Send: Participant is owed Outcome, in answer to its yes at Vote (0: none was seen), until it is done.
	Send
	// Finished: every participant is done; nothing of Tx is owed any more.
	Finished
	// Ignored: a prepare of Tx was ignored, for Tx may have been finished and forgotten (FoldStats.Late). Tell the clients
	// that wait for Tx that its outcome is not known any more, unless it was.
	Ignored
)

// Effect is what the fold wants done. It performs nothing itself.
type Effect struct {
	Kind        EffectKind
	Outcome     messages.Outcome
	Presumed    bool // a Send for a transaction that is not known: send it once, keep nothing
	Tx          messages.ID
	Vote        uint64
	Expires     int64
	Participant string
	Reason      string
	WrongOwner  uint64
	Conflict    bool
}

func (f *Fold) emit(e Effect) {
	if !f.replaying {
		f.effects = append(f.effects, e)
	}
}

// Take gives the effects since the last Take, in order. The slice is used again: it is valid until the next Message or
// Live.
func (f *Fold) Take() []Effect {
	taken := f.effects
	f.effects = f.effects[:0]
	return taken
}
