// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// field is a field of a JSON object, as it is written.
type field struct {
	name  string
	value json.RawMessage
}

// fieldsOf gives an object's fields in their order, repeated ones too; ok is false for what is no object.
func fieldsOf(object json.RawMessage) (fields []field, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, false
		}
		text, isName := name.(string)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil || !isName {
			return nil, false
		}
		fields = append(fields, field{text, value})
	}
	return fields, true
}

// appendObject writes fields as an object.
func appendObject(b []byte, fields []field) []byte {
	b = append(b, '{')
	for i, f := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(f.name) // a string always marshals
		b = append(append(append(b, name...), ':'), f.value...)
	}
	return append(b, '}')
}

// takeRoutes takes the fields "group" and "key" out of a transaction's operations, for which the protocol has no place: its
// client turns them into a participant. Operations that have them get some participant in their place, so that the rest can be
// read as the protocol's own. Whatever is wrong with anything else is left for whoever reads it.
func takeRoutes(record []byte) (rest []byte, routes map[int]*messages.Route, err error) {
	fields, ok := fieldsOf(record)
	if !ok {
		return record, nil, nil
	}
	for i := range fields {
		var operations []json.RawMessage
		if fields[i].name != "operations" || json.Unmarshal(fields[i].value, &operations) != nil {
			continue
		}
		routes = make(map[int]*messages.Route)
		for at := range operations {
			operation, isObject := fieldsOf(operations[at])
			if !isObject {
				continue
			}
			others, route, err := takeRoute(at, operation)
			if err != nil {
				return nil, nil, err
			}
			if route != nil {
				routes[at], operations[at] = route, appendObject(nil, others)
			}
		}
		list := []byte("[")
		list = append(append(list, bytes.Join(rawBytes(operations), []byte(","))...), ']')
		fields[i].value = list
	}
	if len(routes) == 0 {
		return record, nil, nil // as it was written, escapes and all
	}
	return appendObject(nil, fields), routes, nil
}

func rawBytes(messages []json.RawMessage) [][]byte {
	all := make([][]byte, len(messages))
	for i := range messages {
		all[i] = messages[i]
	}
	return all
}

// takeRoute takes the route out of an operation's fields; nil when it names its participant.
func takeRoute(at int, operation []field) (others []field, route *messages.Route, err error) {
	fault := func(name, message string) error {
		return &assent.InvalidError{Field: fmt.Sprintf("operations[%d]%s", at, name), Message: message}
	}
	texts := map[string]*string{"group": nil, "key": nil}
	named := false
	for _, f := range operation {
		named = named || f.name == "participant"
		known, isRoute := texts[f.name]
		switch {
		case f.name == "route":
			return nil, nil, fault(".route", `give "group" and "key": the command finds the node`)
		case !isRoute:
			others = append(others, f)
			continue
		case known != nil:
			return nil, nil, fault("."+f.name, "given twice")
		}
		text := new(string)
		if f.value[0] != '"' || json.Unmarshal(f.value, text) != nil {
			return nil, nil, fault("."+f.name, "not a string")
		}
		texts[f.name] = text
	}
	group, key := texts["group"], texts["key"]
	switch {
	case group == nil && key == nil && named:
		return others, nil, nil
	case group == nil && key == nil:
		return nil, nil, fault("", `says not where it goes: want "participant", or "group" and "key"`)
	case named:
		return nil, nil, fault("", `has both "participant" and "group" or "key": want the one or the other`)
	case group == nil:
		return nil, nil, fault(".group", `missing: a "key" is one of a group`)
	case key == nil:
		return nil, nil, fault(".key", `missing: in a "group" a key says which node`)
	case !messages.ValidName(*group):
		return nil, nil, fault(".group", fmt.Sprintf("name %.80q: want 1 to %d of [A-Za-z0-9_-]", *group, messages.MaxName))
	case *key == "" || len(*key) > messages.MaxRouteKey:
		return nil, nil, fault(".key", fmt.Sprintf("%d bytes; 1 to %d", len(*key), messages.MaxRouteKey))
	}
	// Any name will do.
	return append(others, field{"participant", json.RawMessage(`"node"`)}), &messages.Route{Group: *group, Key: *key}, nil
}
