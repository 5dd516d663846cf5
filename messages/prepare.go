// SPDX-License-Identifier: Apache-2.0

package messages

import "fmt"

// Prepare is the log record that asks one participant (the subject says which) to prepare its branch.
//
//	{"tx":"…","participants":["bank-a","bank-b"],"expires":1763856000000,"operations":[{"route":{…},"keys":["a/1"],"payload":{…}}],"trace":"00-…"}
type Prepare struct {
	Tx ID
	// Participants are all participants of the transaction, 1 to MaxParticipants, each once. The list is the same in every
	// prepare record of a transaction, so that it is closed before the first vote.
	Participants []string
	// Expires is the log time, in Unix milliseconds, after which an undecided transaction is aborted.
	Expires int64
	// Since is the transaction's age, in Unix microseconds: of two that want the same key, the one with the lesser Since goes
	// first. The same in every prepare of a submission. 0 if it names neither keys nor locks.
	Since int64
	// Routing is Submission.Routing of the submission that the prepare was made of; 0 if none of its operations was routed.
	Routing uint64
	// Locks are Submission.Locks, the same in every prepare of a submission. They may be kept.
	Locks []Lock
	// Operations are the branch: at least one operation, in the client's order.
	Operations []Operation
	// Trace is a W3C traceparent, "" for none.
	Trace string
}

const (
	bitTx = iota
	bitVersion
	bitParticipants
	bitExpires
	bitOperations
	bitTrace
	bitRouting
	bitSince
	bitLocks
)

// AppendPrepare appends the record's JSON, without a newline. Payloads must be valid JSON without newlines.
func AppendPrepare(b []byte, p *Prepare) []byte {
	b = appendID(b, `{"tx":"`, p.Tx)
	b = append(b, `,"participants":[`...)
	for i, name := range p.Participants {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"')
	}
	b = appendNumber(b, `],"expires":`, p.Expires)
	if p.Since != 0 {
		b = appendNumber(b, `,"since":`, p.Since)
	}
	if p.Routing != 0 {
		b = appendNumber(b, `,"routing":`, int64(p.Routing))
	}
	b = appendLocks(b, p.Locks)
	b = appendOperations(b, p.Operations, false)
	b = appendText(b, `,"trace":"`, p.Trace)
	return append(b, '}')
}

// Prepare decodes a record into p, whose Participants and Operations it reuses. Payloads are part of line; names and keys
// are not, and may be kept.
func (d *Decoder) Prepare(line []byte, p *Prepare) error {
	*p = Prepare{Participants: p.Participants[:0], Operations: p.Operations[:0]}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			p.Tx = s.id()
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "participants":
			s.once("participants", bitParticipants)
			p.Participants = d.participants(&s, p.Participants)
		case "expires":
			s.once("expires", bitExpires)
			p.Expires = s.number()
		case "since":
			s.once("since", bitSince)
			p.Since = int64(s.positive())
		case "locks":
			s.once("locks", bitLocks)
			p.Locks = d.locks(&s)
		case "routing":
			s.once("routing", bitRouting)
			p.Routing = s.positive()
		case "operations":
			s.once("operations", bitOperations)
			p.Operations = d.operations(&s, p.Operations, false)
		case "trace":
			s.once("trace", bitTrace)
			p.Trace = s.text(MaxTrace)
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	s.require("participants", bitParticipants)
	s.require("expires", bitExpires)
	s.require("operations", bitOperations)
	return s.end()
}

// participants reads a list of 1 to MaxParticipants different names into names[:0].
func (d *Decoder) participants(s *scanner, names []string) []string {
	names = names[:0]
	for first := true; s.list('[', ']', first); first = false {
		s.index = len(names)
		if len(names) == MaxParticipants {
			s.fail(fmt.Sprintf("more than %d participants", MaxParticipants))
			return nil
		}
		name := d.name(s)
		for _, other := range names {
			if other == name {
				s.fail("named twice")
			}
		}
		names = append(names, name)
	}
	s.index = -1
	if len(names) == 0 {
		s.fail("no participants")
	}
	return names
}
