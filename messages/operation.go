// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Operation is one payload for one participant, with the keys that it touches.
type Operation struct {
	// Participant is the name of the participant. It is part of a submission only: in a prepare record the subject
	// says it, and the field is empty.
	Participant string
	// Route is the key by which the client found the participant; nil when it named the participant itself.
	Route *Route
	// Keys are what the operation touches and no other transaction may touch meanwhile; Shared are those that others may
	// touch too, as long as they name them as shared. Together at most MaxKeys, of 1 to MaxKey bytes, and no key is in
	// both; nil when it names none.
	Keys   []string
	Shared []string
	// Payload is one JSON value, without newlines; nil when there is none. A decoded payload is part of the line that
	// was decoded: copy it to keep it.
	Payload json.RawMessage
}

const (
	bitOpParticipant = iota
	bitOpKeys
	bitOpPayload
	bitOpRoute
	bitOpShared
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
			op.Keys = d.keys(s, len(op.Shared))
		case string(key) == "shared":
			s.onceIn("shared", bitOpShared)
			op.Shared = d.keys(s, len(op.Keys))
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
	if i := SharedTwice(op.Keys, op.Shared); s.fault == nil && i >= 0 {
		s.sub, s.element = "shared", i
		s.fail("shared, and in keys too; name it in one of the two")
	}
	return op
}

// manyKeys is from how many comparisons on SharedTwice makes a set of the keys instead.
const manyKeys = 1024

// SharedTwice gives the index of the first of an operation's shared keys that is one of its exclusive keys too, which
// none may be; -1 when there is none.
func SharedTwice(keys, shared []string) int {
	if len(keys) == 0 || len(shared) == 0 {
		return -1
	}
	if len(keys)*len(shared) < manyKeys {
		return slices.IndexFunc(shared, func(key string) bool { return slices.Contains(keys, key) })
	}
	set := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		set[key] = struct{}{}
	}
	return slices.IndexFunc(shared, func(key string) bool { _, both := set[key]; return both })
}

// onceIn is once for a field inside the element of a list.
func (s *scanner) onceIn(name string, bit uint32) {
	s.sub = name
	if s.seen&(1<<bit) != 0 {
		s.fail("given twice")
	}
	s.seen |= 1 << bit
}

// keys reads a list of keys; nil for the empty list. others is how many keys the operation has in the other list.
func (d *Decoder) keys(s *scanner, others int) []string {
	if cap(d.spare) == 0 {
		d.spare = make([]string, 0, spareKeys)
	}
	keys := d.spare
	for first := true; s.list('[', ']', first); first = false {
		s.element = len(keys)
		if len(keys)+others == MaxKeys {
			s.fail(fmt.Sprintf("more than %d keys", MaxKeys))
			return nil
		}
		keys = append(keys, s.someText(MaxKey))
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
		b = appendKeys(append(comma(b, start), `"keys":[`...), op.Keys)
	}
	if len(op.Shared) > 0 {
		b = appendKeys(append(comma(b, start), `"shared":[`...), op.Shared)
	}
	if len(op.Payload) > 0 {
		b = append(comma(b, start), `"payload":`...)
		b = append(b, op.Payload...)
	}
	return append(b, '}')
}

// appendKeys appends a list of keys, after its opening bracket.
func appendKeys(b []byte, keys []string) []byte {
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendEscaped(append(b, '"'), key), '"')
	}
	return append(b, ']')
}

func comma(b []byte, start int) []byte {
	if len(b) > start {
		return append(b, ',')
	}
	return b
}
