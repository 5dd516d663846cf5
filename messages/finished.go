// SPDX-License-Identifier: Apache-2.0

package messages

import "fmt"

// Finished is the log record by which a leader notes that every participant that was owed the outcome has applied it.
//
//	{"tx":"…","through":1234,"heuristics":[{"participant":"bank-a","reason":"rolled back by hand"}]}
type Finished struct {
	Tx ID
	// Through is the log sequence of the newest yes that is covered: the record counts only while no yes of the
	// transaction is newer. 0 when no participant voted yes.
	Through uint64
	// Heuristics are the participants whose resource decided against the outcome.
	Heuristics []HeuristicReport
}

// HeuristicReport is one participant's word that its resource decided against the outcome.
type HeuristicReport struct {
	Participant string
	// Reason is for people; at most MaxReason bytes.
	Reason string
}

const (
	bitThrough    = 2
	bitHeuristics = 3
)

// AppendFinished appends the record's JSON, without a newline.
//
// Reasons are cut at MaxReason, and left out altogether when the record would be over MaxRecord with them (reasons of
// control characters grow sixfold): who decided against the outcome is worth more than why.
func AppendFinished(b []byte, f *Finished) []byte {
	start := len(b)
	b = appendFinished(b, f, MaxReason)
	if len(b)-start > MaxRecord {
		b = appendFinished(b[:start], f, 0)
	}
	return b
}

func appendFinished(b []byte, f *Finished, maxReason int) []byte {
	b = appendID(b, `{"tx":"`, f.Tx)
	b = appendNumber(b, `,"through":`, int64(f.Through))
	if len(f.Heuristics) > 0 {
		b = append(b, `,"heuristics":[`...)
		for i, h := range f.Heuristics {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, `{"participant":"`...), h.Participant...), '"')
			b = append(appendCut(b, `,"reason":"`, h.Reason, maxReason), '}')
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// Finished decodes a record into f.
func (d *Decoder) Finished(line []byte, f *Finished) error {
	*f = Finished{}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			f.Tx = s.id()
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "through":
			s.once("through", bitThrough)
			f.Through = uint64(s.number())
		case "heuristics":
			s.once("heuristics", bitHeuristics)
			f.Heuristics = d.heuristics(&s)
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	s.require("through", bitThrough)
	return s.end()
}

func (d *Decoder) heuristics(s *scanner) (reports []HeuristicReport) {
	for first := true; s.list('[', ']', first); first = false {
		s.index, s.sub = len(reports), ""
		if len(reports) == MaxParticipants {
			s.fail(fmt.Sprintf("more than %d participants", MaxParticipants))
			return nil
		}
		reports = append(reports, d.heuristic(s))
	}
	s.index, s.sub = -1, ""
	return reports
}

func (d *Decoder) heuristic(s *scanner) (h HeuristicReport) {
	record := s.seen
	s.seen = 0
	defer func() { s.seen = record }()
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "participant":
			s.onceIn("participant", 0)
			h.Participant = d.name(s)
		case "reason":
			s.onceIn("reason", 1)
			h.Reason = s.text(MaxReason)
		default:
			s.unknown(key)
		}
	}
	if s.fault == nil && h.Participant == "" {
		s.sub = "participant"
		s.fail("missing")
	}
	return h
}
