// SPDX-License-Identifier: Apache-2.0

package messages

import "fmt"

// Vote is a participant's answer to a prepare.
type Vote uint8

// The votes. The zero Vote is none of them.
const (
	// VoteYes: the branch is durable and can be committed and rolled back; the participant is bound until the outcome.
	VoteYes Vote = iota + 1
	// VoteNo: the participant refuses; the transaction aborts and nothing is held here.
	VoteNo
	// VoteReadOnly: the branch changed nothing, so its participant needs no outcome.
	VoteReadOnly
)

// String is the vote as records spell it.
func (v Vote) String() string {
	switch v {
	case VoteYes:
		return "yes"
	case VoteNo:
		return "no"
	case VoteReadOnly:
		return "read-only"
	default:
		return "none"
	}
}

// VoteRecord is the log record of a vote; the subject says whose it is.
//
//	{"tx":"…","vote":"no","reason":"account 7 is overdrawn"}
//	{"tx":"…","vote":"no","reason":"gave up: no answer from the store","held":true}
//	{"tx":"…","vote":"no","reason":"account/7 has moved","held":true,"wrong_owner":13}
//	{"tx":"…","vote":"no","reason":"account/7 is locked by …","held":true,"conflict":true}
type VoteRecord struct {
	Tx   ID
	Vote Vote
	// Reason says why the vote is no, for people; at most MaxReason bytes.
	Reason string
	// Held qualifies a no that is not a refusal: something may be held all the same, so the rollback is wanted.
	Held bool
	// WrongOwner qualifies a no that is not a refusal: an operation's key belongs to another node, by the participant's
	// ring, whose epoch this is. 0 with every other vote. See ID.Next for what the client makes of it.
	WrongOwner uint64
	// Conflict qualifies a no that is not a refusal: the branch met another transaction on a key, and trying again, as a new
	// transaction, may succeed. False with every other vote.
	Conflict bool
}

const (
	bitVote   = 2
	bitReason = 3
	bitHeld   = 4
	bitWrong  = 5
	bitClash  = 6
)

// AppendVote appends the record's JSON, without a newline. The reason is cut as by CutReason, and WrongOwner and Conflict are
// left out unless the vote is no.
func AppendVote(b []byte, v *VoteRecord) []byte {
	b = appendID(b, `{"tx":"`, v.Tx)
	b = append(append(b, `,"vote":"`...), v.Vote.String()...)
	b = append(b, '"')
	b = appendCut(b, `,"reason":"`, v.Reason, MaxReason)
	if v.Held {
		b = append(b, `,"held":true`...)
	}
	if v.WrongOwner != 0 && v.Vote == VoteNo {
		b = appendNumber(b, `,"wrong_owner":`, int64(v.WrongOwner))
	}
	if v.Conflict && v.Vote == VoteNo {
		b = append(b, `,"conflict":true`...)
	}
	return append(b, '}')
}

// Vote decodes a record into v.
func (d *Decoder) Vote(line []byte, v *VoteRecord) error {
	*v = VoteRecord{}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			v.Tx = s.id()
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "vote":
			s.once("vote", bitVote)
			v.Vote = s.vote()
		case "reason":
			s.once("reason", bitReason)
			v.Reason = s.text(MaxReason)
		case "held":
			s.once("held", bitHeld)
			v.Held = s.truth()
		case "wrong_owner":
			s.once("wrong_owner", bitWrong)
			v.WrongOwner = s.positive()
		case "conflict":
			s.once("conflict", bitClash)
			v.Conflict = s.truth()
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	s.require("vote", bitVote)
	if s.fault == nil && v.WrongOwner != 0 && v.Vote != VoteNo {
		s.field = "wrong_owner"
		s.fail("only with a no")
	}
	if s.fault == nil && v.Conflict && v.Vote != VoteNo {
		s.field = "conflict"
		s.fail("only with a no")
	}
	return s.end()
}

func (s *scanner) vote() Vote {
	switch word := s.rawString(); string(word) {
	case "yes":
		return VoteYes
	case "no":
		return VoteNo
	case "read-only":
		return VoteReadOnly
	default:
		s.fail(fmt.Sprintf("%.32q is not yes, no or read-only", word))
		return 0
	}
}
