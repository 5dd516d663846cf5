// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"errors"
	"fmt"

	"github.com/assent-tx/assent/messages"
)

// What a caller branches on; errors.As with the types below gives the details.
var (
	// ErrAborted: no participant applies the transaction. See AbortedError.
	ErrAborted = errors.New("assent: the transaction was aborted")
	// ErrUnknown: the outcome was not learnt; the transaction may have committed, or may yet. See UnknownError.
	ErrUnknown = errors.New("assent: the outcome is unknown")
	// ErrInvalid: a field breaks a rule. See InvalidError.
	ErrInvalid = errors.New("assent: invalid transaction")
	// ErrTooLarge: the transaction is over a size limit. See TooLargeError.
	ErrTooLarge = errors.New("assent: the transaction is too large")
	// ErrUnknownParticipant: a participant of that name has never registered. See UnknownParticipantError.
	ErrUnknownParticipant = errors.New("assent: unknown participant")
	// ErrOverloaded: the shard takes no new transactions now; try later. See OverloadedError.
	ErrOverloaded = errors.New("assent: the coordinator is overloaded")
	// ErrUnroutable: no node can be found for a key; nothing was submitted. See UnroutableError.
	ErrUnroutable = errors.New("assent: no node for a key")
	// ErrMoved: keys of the transaction were moving from node to node, whenever it was tried; no attempt of it was executed.
	// With ErrAborted it is over. With ErrUnknown this client has given up, and nothing will happen unless somebody else
	// who has its id tries again (a Commit of the same id), which is possible until a minute after the id's time.
	ErrMoved = errors.New("assent: its keys were moving")
	// ErrConflict: it met another transaction on a key, or lost a lock before it was submitted. Nothing happened, and trying
	// again, as a new transaction, may succeed: that is what Client.Do does. It is never together with ErrUnknown.
	ErrConflict = errors.New("assent: it met another transaction")
	// ErrNoCoordinator: no coordinator answers. Together with ErrUnknown the transaction may have been accepted before.
	ErrNoCoordinator = errors.New("assent: no coordinator answers")
	// ErrNotFound: neither the coordinator nor its history knows the transaction.
	ErrNotFound = errors.New("assent: transaction not found")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("assent: the client is closed")
)

// AbortedError says why a transaction aborted. It is ErrAborted, and ErrMoved too when WrongOwner is not 0, and ErrConflict
// when Conflict is true.
type AbortedError struct {
	Tx ID
	// Attempt is the id of the attempt that was aborted: Tx itself, unless it was tried again because keys had moved.
	Attempt ID
	// Participant refused; "" when none did.
	Participant string
	// Reason is the participant's, or what an operator gave, or begins with "timeout", which names who has not voted if the
	// coordinator knows: "timeout: no vote of bank-a, bank-b".
	Reason string
	// WrongOwner is the epoch of Participant's ring, if it refused because a key has moved and the transaction is not tried
	// again: it is too old, or names its participants itself.
	WrongOwner uint64
	// Conflict: Participant refused because the transaction met another one on a key.
	Conflict bool
}

// Error names the transaction, who refused, and why.
func (e *AbortedError) Error() string {
	if e.Participant == "" {
		return fmt.Sprintf("%v: %s: %s", ErrAborted, e.Tx, e.Reason)
	}
	if e.WrongOwner != 0 {
		return fmt.Sprintf("%v: %s: %s refused: %s (wrong owner, by epoch %d of its ring)",
			ErrAborted, e.Tx, e.Participant, e.Reason, e.WrongOwner)
	}
	if e.Conflict {
		return fmt.Sprintf("%v: %s: %s met another transaction: %s", ErrAborted, e.Tx, e.Participant, e.Reason)
	}
	return fmt.Sprintf("%v: %s: %s refused: %s", ErrAborted, e.Tx, e.Participant, e.Reason)
}

// Unwrap gives ErrAborted, and ErrMoved or ErrConflict if that was why.
func (e *AbortedError) Unwrap() []error {
	kinds := []error{ErrAborted}
	if e.WrongOwner != 0 {
		kinds = append(kinds, ErrMoved)
	}
	if e.Conflict {
		kinds = append(kinds, ErrConflict)
	}
	return kinds
}

// UnknownError says that the outcome of Tx was not learnt, and why. It is ErrUnknown, and whatever Err is.
type UnknownError struct {
	Tx  ID
	Err error
}

// Error names the transaction and what to do.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("%v: ask again with id %s: %v", ErrUnknown, e.Tx, e.Err)
}

// Unwrap gives ErrUnknown and the cause.
func (e *UnknownError) Unwrap() []error { return []error{ErrUnknown, e.Err} }

// InvalidError names the field that is wrong and the rule that it breaks. It is ErrInvalid.
type InvalidError struct {
	Tx ID
	// Field is the path of the field, such as "operations[0].payload"; "" for the transaction as a whole.
	Field   string
	Message string
}

// Error names the field and the rule.
func (e *InvalidError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%v: %s", ErrInvalid, e.Message)
	}
	return fmt.Sprintf("%v: %s: %s", ErrInvalid, e.Field, e.Message)
}

// Unwrap gives ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// TooLargeError names the size and the limit. It is ErrTooLarge.
type TooLargeError struct {
	Tx      ID
	Message string
}

// Error names the size and the limit.
func (e *TooLargeError) Error() string { return fmt.Sprintf("%v: %s", ErrTooLarge, e.Message) }

// Unwrap gives ErrTooLarge.
func (e *TooLargeError) Unwrap() error { return ErrTooLarge }

// UnknownParticipantError names the participant that has never registered. It is ErrUnknownParticipant.
type UnknownParticipantError struct {
	Tx      ID
	Message string
}

// Error names the participant.
func (e *UnknownParticipantError) Error() string {
	return fmt.Sprintf("%v: %s", ErrUnknownParticipant, e.Message)
}

// Unwrap gives ErrUnknownParticipant.
func (e *UnknownParticipantError) Unwrap() error { return ErrUnknownParticipant }

// UnroutableError names the key for which no node can be found, and why. It is ErrUnroutable, and whatever Err is:
// router.ErrNoGroup, router.ErrNoNodes, router.ErrRecord and others. Nothing was submitted.
type UnroutableError struct {
	Tx         ID
	Group, Key string
	Err        error
}

// Error names the group, the key and the reason.
func (e *UnroutableError) Error() string {
	return fmt.Sprintf("%v: group %s, key %.80q: %v", ErrUnroutable, e.Group, e.Key, e.Err)
}

// Unwrap gives ErrUnroutable and the cause.
func (e *UnroutableError) Unwrap() []error { return []error{ErrUnroutable, e.Err} }

// OverloadedError says what there is too much of. It is ErrOverloaded; the transaction was not accepted.
type OverloadedError struct {
	Tx      ID
	Message string
}

// Error says what there is too much of.
func (e *OverloadedError) Error() string { return fmt.Sprintf("%v: %s", ErrOverloaded, e.Message) }

// Unwrap gives ErrOverloaded.
func (e *OverloadedError) Unwrap() error { return ErrOverloaded }

// refusal is the error for an answer that has no outcome.
func refusal(a *messages.Answer) error {
	switch a.Error {
	case messages.CodeInvalid, messages.CodeOutsideWindow:
		return &InvalidError{Tx: a.Tx, Field: a.Field, Message: a.Message}
	case messages.CodeTooLarge:
		return &TooLargeError{Tx: a.Tx, Message: a.Message}
	case messages.CodeUnknownParticipant:
		return &UnknownParticipantError{Tx: a.Tx, Message: a.Message}
	case messages.CodeOverloaded:
		return &OverloadedError{Tx: a.Tx, Message: a.Message}
	default:
		return &UnknownError{Tx: a.Tx, Err: fmt.Errorf("the coordinator says %s: %s", a.Error, a.Message)}
	}
}
