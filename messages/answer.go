// SPDX-License-Identifier: Apache-2.0

package messages

import "fmt"

// Outcome is how a transaction ended. The zero Outcome is Undecided.
type Outcome uint8

// The outcomes.
const (
	Undecided Outcome = iota
	Committed
	Aborted
)

// String is the outcome as records spell it.
func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case Aborted:
		return "aborted"
	default:
		return "undecided"
	}
}

// ParseOutcome reads what String writes, except "undecided".
func ParseOutcome(word string) (Outcome, bool) {
	switch word {
	case "committed":
		return Committed, true
	case "aborted":
		return Aborted, true
	default:
		return Undecided, false
	}
}

// Code says why a submission or a wait has no outcome to tell. The zero Code means that it has one.
type Code string

// The codes. Only CodeTryAgain and CodeOverloaded are worth sending the same submission again.
const (
	// CodeInvalid: a field breaks a rule; Field and Message name both. The transaction was not accepted.
	CodeInvalid Code = "invalid"
	// CodeTooLarge: over MaxRecord. The transaction was not accepted.
	CodeTooLarge Code = "too_large"
	// CodeUnknownParticipant: a participant of that name never registered. The transaction was not accepted.
	CodeUnknownParticipant Code = "unknown_participant"
	// CodeOverloaded: the shard has as many open transactions, or as full a log, as it may. Not accepted; try later.
	CodeOverloaded Code = "overloaded"
	// CodeOutsideWindow: the id's time is outside the de-duplication window, so the leader cannot tell a repeat from a
	// new transaction. Ask for the outcome of the id instead.
	CodeOutsideWindow Code = "outside_window"
	// CodeTryAgain: this coordinator cannot tell now (it is stopping, or too many wait already); the outcome is unknown. Send
	// the same again.
	CodeTryAgain Code = "try_again"
	// CodeNotFound answers a wait: neither the shard's memory nor its history knows the transaction.
	CodeNotFound Code = "not_found"
	// CodeUndecided answers a wait that asked for what is known now: the transaction is open.
	CodeUndecided Code = "undecided"
)

// Answer is what a leader tells a client about one transaction: its outcome, or an error.
//
//	{"tx":"…","outcome":"aborted","participant":"bank-a","reason":"account 7 is overdrawn"}
//	{"tx":"…","outcome":"aborted","participant":"bank-a","reason":"account/7 has moved","wrong_owner":13}
//	{"tx":"…","outcome":"aborted","participant":"bank-a","reason":"account/7 is locked by …","conflict":true}
//	{"tx":"…","error":"invalid","field":"operations[0].participant","message":"…"}
type Answer struct {
	// Tx is zero only when the submission's id could not be read.
	Tx      ID
	Outcome Outcome
	// Participant refused the transaction, when it was aborted by a no.
	Participant string
	// Reason is why it was aborted.
	Reason string
	// WrongOwner is the no's, when it was aborted by one that said that a key has moved: the epoch of Participant's ring.
	// The transaction may be tried again, under Tx.Next().
	WrongOwner uint64
	// Conflict is the no's, when it was aborted by one that said that the transaction met another one on a key. It may be
	// tried again, as a new transaction.
	Conflict bool
	Error    Code
	// Field and Message explain the error.
	Field   string
	Message string
}

// maxMessageText bounds the message of an answer, in bytes.
const maxMessageText = 4096

// AppendAnswer appends the record's JSON, without a newline. Reason and Field are cut at MaxReason bytes, Message at
// 4096; WrongOwner and Conflict are left out unless the outcome is aborted.
func AppendAnswer(b []byte, a *Answer) []byte {
	if a.Tx.IsZero() {
		b = append(b, `{"tx":"`...)
		b = append(b, '"')
	} else {
		b = appendID(b, `{"tx":"`, a.Tx)
	}
	if a.Outcome != Undecided {
		b = append(append(b, `,"outcome":"`...), a.Outcome.String()...)
		b = append(b, '"')
	}
	b = appendText(b, `,"participant":"`, a.Participant)
	b = appendCut(b, `,"reason":"`, a.Reason, MaxReason)
	if a.WrongOwner != 0 && a.Outcome == Aborted {
		b = appendNumber(b, `,"wrong_owner":`, int64(a.WrongOwner))
	}
	if a.Conflict && a.Outcome == Aborted {
		b = append(b, `,"conflict":true`...)
	}
	b = appendText(b, `,"error":"`, string(a.Error))
	b = appendCut(b, `,"field":"`, a.Field, MaxReason)
	b = appendCut(b, `,"message":"`, a.Message, maxMessageText)
	return append(b, '}')
}

const (
	bitOutcome     = 2
	bitParticipant = 4
	bitError       = 5
	bitField       = 6
	bitMessage     = 7
	bitAnswerWrong = 8
	bitAnswerClash = 9
)

// Answer decodes a record into a.
func (d *Decoder) Answer(line []byte, a *Answer) error {
	*a = Answer{}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			a.Tx = s.optionalID()
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "outcome":
			s.once("outcome", bitOutcome)
			a.Outcome = s.outcome()
		case "participant":
			s.once("participant", bitParticipant)
			a.Participant = d.name(&s)
		case "reason":
			s.once("reason", bitReason)
			a.Reason = s.text(MaxReason)
		case "wrong_owner":
			s.once("wrong_owner", bitAnswerWrong)
			a.WrongOwner = s.positive()
		case "conflict":
			s.once("conflict", bitAnswerClash)
			a.Conflict = s.truth()
		case "error":
			s.once("error", bitError)
			a.Error = Code(s.text(MaxName))
		case "field":
			s.once("field", bitField)
			a.Field = s.text(MaxReason)
		case "message":
			s.once("message", bitMessage)
			a.Message = s.text(maxMessageText)
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	if s.fault == nil && (a.Outcome == Undecided) == (a.Error == "") {
		s.field = "outcome"
		s.fail("an answer has either an outcome or an error")
	}
	if s.fault == nil && a.WrongOwner != 0 && a.Outcome != Aborted {
		s.field = "wrong_owner"
		s.fail("only with the outcome aborted")
	}
	if s.fault == nil && a.Conflict && a.Outcome != Aborted {
		s.field = "conflict"
		s.fail("only with the outcome aborted")
	}
	return s.end()
}

func (s *scanner) optionalID() ID {
	if s.peek() == '"' && s.pos+1 < len(s.data) && s.data[s.pos+1] == '"' {
		s.pos += 2
		return ID{}
	}
	return s.id()
}

func (s *scanner) outcome() Outcome {
	word := s.rawString()
	outcome, ok := ParseOutcome(string(word))
	if !ok {
		s.fail(fmt.Sprintf("%.32q is not committed or aborted", word))
	}
	return outcome
}
