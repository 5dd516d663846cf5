// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"encoding/json"
	"fmt"
)

// Operation is one payload for one participant, with the keys that it touches.
type Operation struct {
	// Participant is the name of the participant. It is part of a submission only: in a prepare record the subject
	// says it, and the field is empty.
	Participant string
	// Route is the key by which the client found the participant; nil when it named the participant itself.
	Route *Route
	// Keys are what the operation touches, at most MaxKeys of at most MaxKey bytes; nil when it names none.
	Keys []string
	// Payload is one JSON value, without newlines; nil when there is none. A decoded payload is part of the line that
	// was decoded: copy it to keep it.
	Payload json.RawMessage
}

const (
	bitOpParticipant = iota
	bitOpKeys
	bitOpPayload
	bitOpRoute
)

// operations reads the list of operations into ops[:0]. Submissions name the participant of each, prepares must not.
func (d *Decoder) operations(s *scanner, ops []Operation, submission bool) []Operation {
	ops = ops[:0]
	for first := true; s.list('[', ']', first); first = false {
		s.index, s.sub = len(ops), ""
		if len(ops) == MaxOperations {
			s.fail(fmt.Sprintf("more than %d operations", MaxOperations))
			return nil
		}
		ops = append(ops, d.operation(s, submission))
	}
	s.index, s.sub = -1, ""
	if len(ops) == 0 {
		s.fail("no operations")
	}
	return ops
}

func (d *Decoder) operation(s *scanner, submission bool) (op Operation) {
	record := s.seen
	s.seen = 0
	defer func() { s.seen = record }()
	for first := true; s.list('{', '}', first); first = false {
		key := s.key()
		switch {
		case string(key) == "participant" && submission:
			s.onceIn("participant", bitOpParticipant)
			op.Participant = d.name(s)
		case string(key) == "route":
			s.onceIn("route", bitOpRoute)
			op.Route = d.route(s)
		case string(key) == "keys":
			s.onceIn("keys", bitOpKeys)
			op.Keys = d.keys(s)
		case string(key) == "payload":
			s.onceIn("payload", bitOpPayload)
			op.Payload = s.value()
		default:
			s.unknown(key)
		}
	}
	if submission && s.fault == nil && s.seen&(1<<bitOpParticipant) == 0 {
		s.sub = "participant"
		s.fail("missing")
	}
	return op
}

// onceIn is once for a field inside the element of a list.
func (s *scanner) onceIn(name string, bit uint32) {
	s.sub = name
	if s.seen&(1<<bit) != 0 {
		s.fail("given twice")
	}
	s.seen |= 1 << bit
}

// keys reads the list of keys; nil for the empty list.
func (d *Decoder) keys(s *scanner) []string {
	if cap(d.spare) == 0 {
		d.spare = make([]string, 0, spareKeys)
	}
	keys := d.spare
	for first := true; s.list('[', ']', first); first = false {
		s.element = len(keys)
		if len(keys) == MaxKeys {
			s.fail(fmt.Sprintf("more than %d keys", MaxKeys))
			return nil
		}
		keys = append(keys, s.text(MaxKey))
	}
	s.element = -1
	if s.fault != nil || len(keys) == 0 {
		return nil
	}
	d.spare = keys[len(keys):]
	return keys[:len(keys):len(keys)]
}

// appendOperations appends the list, with the participant of each when it is for a submission.
func appendOperations(b []byte, ops []Operation, submission bool) []byte {
	b = append(b, `,"operations":[`...)
	for i := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOperation(b, &ops[i], submission)
	}
	return append(b, ']')
}

func appendOperation(b []byte, op *Operation, submission bool) []byte {
	b = append(b, '{')
	start := len(b)
	if submission {
		b = append(append(append(b, `"participant":"`...), op.Participant...), '"')
	}
	if op.Route != nil {
		b = appendRoute(append(comma(b, start), `"route":`...), op.Route)
	}
	if len(op.Keys) > 0 {
		b = append(comma(b, start), `"keys":[`...)
		for i, key := range op.Keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendEscaped(append(b, '"'), key), '"')
		}
		b = append(b, ']')
	}
	if len(op.Payload) > 0 {
		b = append(comma(b, start), `"payload":`...)
		b = append(b, op.Payload...)
	}
	return append(b, '}')
}

func comma(b []byte, start int) []byte {
	if len(b) > start {
		return append(b, ',')
	}
	return b
}
