// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// Submission is a whole transaction, as a client gives it to a shard's leader.
//
//	{"tx":"…","timeout_ms":30000,"operations":[{"participant":"bank-a","keys":["a/1"],"payload":{…}}],"trace":"00-…"}
type Submission struct {
	Tx ID
	// TimeoutMS is the time to be decided, in milliseconds, from MinTimeout to MaxTimeout; 0 means DefaultTimeout, and
	// is written by leaving the field out.
	TimeoutMS int64
	// Since is the age that the transaction has already, in Unix microseconds, when it is tried again: what the leader
	// gave the first attempt, or the client's time of it. 0 means that the leader gives it one. It matters only to a transaction that
	// names keys or locks: an older one goes before a younger one.
	Since int64
	// Locks are what the client has locked for the transaction, at most MaxLocks, each of another key.
	Locks []Lock
	// Operations are 1 to MaxOperations; those of one participant form its branch, in this order.
	Operations []Operation
	// Trace is a W3C traceparent, "" for none.
	Trace string
}

// Timeout is the time to be decided.
func (s *Submission) Timeout() time.Duration {
	if s.TimeoutMS == 0 {
		return DefaultTimeout
	}
	return time.Duration(s.TimeoutMS) * time.Millisecond
}

// Routing is a fingerprint of which operation went to which participant: the first 53 bits of the SHA-256 of the
// participants' names, one for each operation and each followed by a newline, or 1 should they be 0. It is 0 when no
// operation was routed: whoever names the participants himself repeats what he submitted.
//
// A leader writes it into every prepare, because programs that share an id may route what they submit differently, by rings
// of different ages. Two leaders might make of that one transaction that is neither. scratch is room to work in.
func (s *Submission) Routing(scratch []byte) (routing uint64, grown []byte) {
	routed := false
	scratch = scratch[:0]
	for i := range s.Operations {
		routed = routed || s.Operations[i].Route != nil
		scratch = append(append(scratch, s.Operations[i].Participant...), '\n')
	}
	if !routed {
		return 0, scratch
	}
	sum := sha256.Sum256(scratch)
	return max(binary.BigEndian.Uint64(sum[:8])>>11, 1), scratch
}

// Keyed tells whether the transaction names keys or locks, which others may have to wait for: only then its age matters.
func (s *Submission) Keyed() bool {
	if len(s.Locks) > 0 {
		return true
	}
	for i := range s.Operations {
		if op := &s.Operations[i]; len(op.Keys)+len(op.Shared) > 0 {
			return true
		}
	}
	return false
}

const bitTimeout = 2

// AppendSubmission appends the record's JSON, without a newline. Payloads must be valid JSON without newlines.
func AppendSubmission(b []byte, sub *Submission) []byte {
	b = appendID(b, `{"tx":"`, sub.Tx)
	if sub.TimeoutMS != 0 {
		b = appendNumber(b, `,"timeout_ms":`, sub.TimeoutMS)
	}
	if sub.Since != 0 {
		b = appendNumber(b, `,"since":`, sub.Since)
	}
	b = appendLocks(b, sub.Locks)
	b = appendOperations(b, sub.Operations, true)
	b = appendText(b, `,"trace":"`, sub.Trace)
	return append(b, '}')
}

// Submission decodes a record into sub, whose Operations it reuses, and checks every limit. Payloads are part of line. On an
// error sub.Tx still holds the id when the record had a readable one (the first of two), so that the error can be
// answered.
func (d *Decoder) Submission(line []byte, sub *Submission) error {
	*sub = Submission{Operations: sub.Operations[:0]}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			if id := s.id(); s.fault == nil {
				sub.Tx = id
			}
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "timeout_ms":
			s.once("timeout_ms", bitTimeout)
			sub.TimeoutMS = s.timeout()
		case "since":
			s.once("since", bitSince)
			sub.Since = int64(s.positive())
		case "locks":
			s.once("locks", bitLocks)
			sub.Locks = d.locks(&s)
		case "operations":
			s.once("operations", bitOperations)
			sub.Operations = d.operations(&s, sub.Operations, true)
		case "trace":
			s.once("trace", bitTrace)
			sub.Trace = s.text(MaxTrace)
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	s.require("operations", bitOperations)
	if s.fault == nil {
		s.field = "operations"
		checkParticipants(&s, sub.Operations)
	}
	err := s.end()
	if err != nil && sub.Tx.IsZero() {
		sub.Tx = salvageID(line)
	}
	return err
}

func (s *scanner) timeout() int64 {
	ms := s.number()
	if s.fault == nil && (ms < MinTimeout.Milliseconds() || ms > MaxTimeout.Milliseconds()) {
		s.fail(fmt.Sprintf("%d ms; from %d to %d", ms, MinTimeout.Milliseconds(), MaxTimeout.Milliseconds()))
	}
	return ms
}

// checkParticipants counts the different participants of a submission.
func checkParticipants(s *scanner, ops []Operation) {
	var names [MaxParticipants]string
	count := 0
next:
	for i := range ops {
		for _, name := range names[:count] {
			if name == ops[i].Participant {
				continue next
			}
		}
		if count == MaxParticipants {
			s.fail(fmt.Sprintf("more than %d participants", MaxParticipants))
			return
		}
		names[count] = ops[i].Participant
		count++
	}
}

// salvageID finds the id in a submission that could not be decoded; the zero ID when there is none.
func salvageID(line []byte) ID {
	var only struct {
		Tx ID `json:"tx"`
	}
	if json.Unmarshal(line, &only) != nil {
		return ID{}
	}
	return only.Tx
}
