// SPDX-License-Identifier: Apache-2.0

package messages

// Effect tells a participant the outcome of a transaction: the subject says which (commit or rollback) and to whom.
// It is sent, never stored: the outcome follows from the log.
//
//	{"tx":"…","vote":1234,"expires":1763856000000}
type Effect struct {
	Tx ID
	// Vote is the log sequence of the yes that is answered; 0 when the participant's yes was never seen. It is echoed in
	// the participant's done.
	Vote uint64
	// Expires is the transaction's, in Unix milliseconds, 0 when unknown: a participant that hears a rollback first
	// remembers it until then, to refuse the prepare that was overtaken.
	Expires int64
}

// Done is a participant's answer to an Effect: it applied the outcome, or is still at it.
//
//	{"tx":"…","vote":1234}
type Done struct {
	Tx ID
	// Vote echoes the effect's.
	Vote uint64
	// Heuristic, when not empty, says that the participant's resource had decided against the outcome, and how; at
	// most MaxReason bytes.
	Heuristic string
	// Working says that the participant is still applying the outcome: the leader need not send it again yet.
	Working bool
}

const (
	bitEffectVote    = 2
	bitEffectExpires = 3
	bitHeuristic     = 4
	bitWorking       = 5
)

// AppendEffect appends the record's JSON, without a newline.
func AppendEffect(b []byte, e *Effect) []byte {
	b = appendID(b, `{"tx":"`, e.Tx)
	b = appendNumber(b, `,"vote":`, int64(e.Vote))
	if e.Expires != 0 {
		b = appendNumber(b, `,"expires":`, e.Expires)
	}
	return append(b, '}')
}

// Effect decodes a record into e.
func (d *Decoder) Effect(line []byte, e *Effect) error {
	*e = Effect{}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			e.Tx = s.id()
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "vote":
			s.once("vote", bitEffectVote)
			e.Vote = uint64(s.number())
		case "expires":
			s.once("expires", bitEffectExpires)
			e.Expires = s.number()
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	s.require("vote", bitEffectVote)
	return s.end()
}

// AppendDone appends the record's JSON, without a newline. The heuristic is cut as by CutReason.
func AppendDone(b []byte, d *Done) []byte {
	b = appendID(b, `{"tx":"`, d.Tx)
	b = appendNumber(b, `,"vote":`, int64(d.Vote))
	b = appendCut(b, `,"heuristic":"`, d.Heuristic, MaxReason)
	if d.Working {
		b = append(b, `,"working":true`...)
	}
	return append(b, '}')
}

// Done decodes a record into done.
func (d *Decoder) Done(line []byte, done *Done) error {
	*done = Done{}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			done.Tx = s.id()
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "vote":
			s.once("vote", bitEffectVote)
			done.Vote = uint64(s.number())
		case "heuristic":
			s.once("heuristic", bitHeuristic)
			done.Heuristic = s.text(MaxReason)
		case "working":
			s.once("working", bitWorking)
			done.Working = s.truth()
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	s.require("vote", bitEffectVote)
	return s.end()
}
