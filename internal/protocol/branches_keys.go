// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/assent-tx/assent/messages"

// Guard has a LeaveBranch emitted when the branch is over. Unlike one that is not guarded, it stays here after a no that is
// held, and asks for its rollback by repeating it, until that has been applied: here, or by another instance that says so.
func (b *Branches) Guard(tx messages.ID) {
	if br := b.branches[tx]; br != nil {
		br.guarded = true
	}
}

// Wait takes, in place of the handler's answer to Prepare, that keys of the branch are not free, and why. It is guarded from here
// on. Granted has the handler asked again; until then it waits, but not longer than a handler would be asked: then it votes
// no, held, for a conflict. An outcome ends the waiting, too; both show in the steps.
func (b *Branches) Wait(tx messages.ID, reason string) {
	br := b.answered(tx)
	br.guarded = true
	switch {
	case br.outcome != messages.Undecided:
		b.apply(tx, br)
	case br.wounded:
		b.yield(tx, br)
	default:
		br.waiting, br.reason = true, messages.CutReason(reason)
		b.wake(tx, br, br.patience)
	}
}

// Granted says that a branch which waited has its keys. One that does not wait any more has use for them no more; known tells whether
// there is any such branch, which gives them up by a LeaveBranch. No vote follows at once.
func (b *Branches) Granted(tx messages.ID, now int64) (known bool) {
	br := b.branches[tx]
	switch {
	case br == nil || !br.waiting:
	case now >= br.patience: // its no is the next Tick's: keys become free when a vote is stored, and who tells of that must not have to store another
	default:
		b.ask(tx, br)
	}
	return br != nil
}

func (b *Branches) waitedTooLong(tx messages.ID, br *branch) {
	br.wound = br.reason
	b.yield(tx, br)
}

// Conflict takes, in place of the handler's answer to Prepare, that another transaction was in the way, and nothing is held. That
// is a no, as a refusal is.
func (b *Branches) Conflict(tx messages.ID, reason string) {
	br := b.answered(tx)
	if br.outcome != messages.Undecided {
		b.apply(tx, br)
		return
	}
	br.vote, br.conflict, br.reason = messages.VoteNo, true, messages.CutReason(reason)
	b.cast(tx, br)
}

// Wound makes a branch give way to an older one, if that is still possible: it votes no, held, for a conflict. One that waits
// does so at once; the handler's yes becomes that no; a yes that is on its way or stored is followed by it. After that the log
// decides: a no that comes after the last missing yes changes nothing. Nothing is given up here before the outcome has come.
func (b *Branches) Wound(tx messages.ID, reason string) {
	br := b.branches[tx]
	if br == nil || br.wounded || br.outcome != messages.Undecided || (br.vote != 0 && br.vote != messages.VoteYes) {
		return
	}
	br.wounded, br.wound = true, messages.CutReason(reason)
	if br.waiting || br.unasked || (br.stored && !br.voting) {
		b.yield(tx, br)
	}
}

// yield casts the no of a branch that gives way.
func (b *Branches) yield(tx messages.ID, br *branch) {
	br.waiting, br.conflict = false, true
	b.abandon(tx, br, br.wound)
}
