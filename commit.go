// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// Commit submits the transaction and waits for its outcome.
//
//   - nil: committed; it survives every crash.
//   - ErrAborted (an *AbortedError says who refused, and why): no participant applies it.
//   - ErrConflict (with ErrAborted): the same, because it met another transaction; see Do.
//   - ErrUnknown (an *UnknownError has the id): the outcome was not learnt in time. The transaction may still commit: ask with
//     Wait, or Commit again (the same Tx, or one WithID), which is the same transaction. With ErrMoved as well: see there. With
//     ErrInvalid as well: something was enlisted after a Commit, which may have done what was enlisted before.
//   - ErrInvalid, ErrTooLarge, ErrUnknownParticipant, ErrOverloaded, ErrUnroutable, ErrNoCoordinator without ErrUnknown: it was not
//     accepted. (Of a Tx WithID: not now. It says nothing about what somebody submitted under that id before.)
//
// Keys of Lock are locked first. Operations of EnlistKey are routed now. While a key is moving from node to node, Commit waits; when a node refuses because
// a key has moved, it tries again, by a newer ring. All that is one transaction, that happens once.
//
// Cancelling ctx stops the waiting, never the transaction. Without a deadline of its own, ctx ends Config.Patience after the
// transaction's timeout.
func (tx *Tx) Commit(ctx context.Context) error {
	if err := tx.check(); err != nil {
		return err
	}
	ctx, cancel := within(ctx, tx.sub.Timeout()+tx.client.cfg.Patience)
	defer cancel()
	tx.closed = true
	err := tx.commit(ctx)
	tx.given = true // what is committed again may have been submitted before
	tx.unsure = tx.unsure || errors.Is(err, ErrUnknown)
	return err
}

func (tx *Tx) commit(ctx context.Context) error {
	at := &chain{first: tx.sub.Tx, last: tx.sub.Tx}
	tx.last = at.last
	if len(tx.locks) > 0 {
		return tx.commitLocked(ctx, at)
	}
	return tx.attempt(ctx, at)
}

// attempt is Commit once what has to be locked is.
func (tx *Tx) attempt(ctx context.Context, at *chain) error {
	if len(tx.groups) > 0 {
		return tx.commitRouted(ctx, at)
	}
	if err := tx.stillHeld(at); err != nil {
		return tx.unsubmitted(ctx, at, err)
	}
	answer, err := tx.submit(ctx, &tx.sub)
	if err != nil {
		return err
	}
	return tx.verdict(ctx, at, &answer)
}

// stillHeld looks at the locks for the last time before an attempt is submitted; whatever is lost later, participants have
// to refuse. That it met another transaction is said only when no attempt can have been submitted: else somebody would
// try again, under another id, what may have happened under this one.
func (tx *Tx) stillHeld(at *chain) error {
	if tx.held == nil || tx.held.locks.Err() == nil {
		return nil
	}
	err := tx.held.locks.Err()
	if tx.given || at.met() {
		return fmt.Errorf("assent: nothing was submitted now: %w", err)
	}
	return &LockLostError{Tx: at.first, Err: err}
}

// submit submits one attempt.
func (tx *Tx) submit(ctx context.Context, sub *messages.Submission) (messages.Answer, error) {
	if sub.Since != 0 && !sub.Keyed() { // nobody waits for it, so its age says nothing
		plain := *sub
		plain.Since, sub = 0, &plain
	}
	record := messages.AppendSubmission(make([]byte, 0, 512), sub)
	if len(record) > messages.MaxRecord {
		return messages.Answer{}, &TooLargeError{Tx: tx.sub.Tx, Message: fmt.Sprintf("the transaction has %d bytes; at most %d", len(record), messages.MaxRecord)}
	}
	if limit := tx.client.nc.MaxPayload(); limit > 0 && int64(len(record)) >= limit {
		return messages.Answer{}, &TooLargeError{Tx: tx.sub.Tx, Message: fmt.Sprintf("the transaction has %d bytes; the server's max_payload is %d", len(record), limit)}
	}
	return tx.client.call(ctx, submits, sub.Tx, record, tx.client.cfg.Patience)
}

// commitRouted is Commit for a transaction that has operations to be routed.
//
// Each attempt has an id of its own, because it is another transaction: other participants, or other operations for them.
// Under the id of the one before it would be neither. To the log an id is the transaction of its first prepare; what an
// earlier attempt has left on its way (a prepare that a leader writes late, a vote that comes late) would count for the
// new one: a participant of both could be prepared with the operations of the one, and told to commit by the votes of the
// other. So the next id is submitted only after the one before was aborted, for good, and by a no of a participant which
// says that a key has moved; and it is a function of the id before, so that whoever else commits the same transaction (a
// program that noted its id, and runs again after a crash) comes to the same ids, of each of which the log lets one
// attempt happen at the most.
func (tx *Tx) commitRouted(ctx context.Context, at *chain) error {
	r, err := tx.client.resolver()
	if err != nil {
		return err
	}
	sub := tx.sub
	sub.Operations = slices.Clone(tx.sub.Operations)
	for pause := hurry; ; {
		if err := tx.resolve(ctx, r, sub.Operations); err != nil {
			return tx.unsubmitted(ctx, at, err)
		}
		if ctx.Err() != nil {
			return at.unknown(nothingSubmitted(ctx))
		}
		if err := tx.stillHeld(at); err != nil {
			return tx.unsubmitted(ctx, at, err)
		}
		sub.Tx, tx.last = at.last, at.last
		answer, err := tx.submit(ctx, &sub)
		if err != nil {
			return at.unknown(err)
		}
		if !isMove(&answer) {
			return tx.verdict(ctx, at, &answer)
		}
		at.next(&answer)
		sub.Since = tx.since() // it is the same transaction, and as old
		if tx.awaitRing(ctx, r, &answer, pause) {
			pause = hurry
		} else {
			pause = min(2*pause, restMax)
		}
	}
}

// resolve routes what is to be routed, each group by one view of its ring.
func (tx *Tx) resolve(ctx context.Context, r resolver, operations []messages.Operation) error {
	for i := range tx.groups {
		if err := tx.groups[i].resolve(ctx, tx.sub.Tx, r, operations); err != nil {
			return err
		}
	}
	return nil
}

// unsubmitted is Commit's error for an attempt that could not be routed, or for which the locks could not be had. If it is the first, and its id is one that may
// have been submitted before, it is looked up: what has run is not undone by a group that is gone.
func (tx *Tx) unsubmitted(ctx context.Context, at *chain, err error) error {
	if at.met() || !tx.given || ctx.Err() != nil {
		return at.unknown(err)
	}
	answer, askErr := tx.client.follow(ctx, waits, at)
	switch {
	case askErr != nil:
		return &UnknownError{Tx: at.first, Err: errors.Join(err, askErr)}
	case answer.Error == messages.CodeNotFound:
		return err
	default:
		return tx.verdict(ctx, at, &answer)
	}
}

// verdict is Commit's error for the answer about the last attempt. An id that is too old to be submitted is looked up: it
// may have run, long ago.
func (tx *Tx) verdict(ctx context.Context, at *chain, answer *messages.Answer) error {
	if answer.Error == messages.CodeOutsideWindow {
		outside := *answer
		found, err := tx.client.follow(ctx, waits, at)
		if err != nil {
			return err
		}
		if answer = &found; found.Error == messages.CodeNotFound {
			return &UnknownError{Tx: at.first, Err: refusal(&outside)}
		}
	}
	if answer.Error != "" {
		err := at.unknown(refusal(answer))
		if isForNow(answer) && tx.unsure && !errors.Is(err, ErrUnknown) { // it is no proof about what was submitted before
			err = &UnknownError{Tx: at.first, Err: err}
		}
		return err
	}
	tx.last = answer.Tx
	if answer.Outcome == Committed {
		return nil
	}
	return &AbortedError{
		Tx: at.first, Attempt: answer.Tx, Participant: answer.Participant, Reason: answer.Reason, WrongOwner: answer.WrongOwner,
		Conflict: answer.Conflict,
	}
}

// isForNow tells whether an answer says that a submission was not accepted, of which another one may have been.
func isForNow(answer *messages.Answer) bool {
	return answer.Error == messages.CodeOverloaded || answer.Error == messages.CodeUnknownParticipant
}
