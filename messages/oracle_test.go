// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The oracle is the second opinion on every record: the rules of the protocol written down over encoding/json, slowly
// and without sharing code with the decoders.

// rule tells whether a JSON value keeps a rule.
type rule func(raw json.RawMessage) bool

var (
	wireID     = plain(regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`))
	wireNoID   = plain(regexp.MustCompile(`^$`))
	wireName   = plain(regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`))
	wireReason = text(1024)
	wireTrace  = text(128)
	wireToken  = plain(regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`))
	wireKey    = both(text(1024), some)
)

// plain is a string without escapes that matches.
func plain(pattern *regexp.Regexp) rule {
	return func(raw json.RawMessage) bool {
		var value string
		return raw[0] == '"' && json.Unmarshal(raw, &value) == nil &&
			string(raw) == `"`+value+`"` && pattern.MatchString(value)
	}
}

func oneOf(words ...string) rule {
	return func(raw json.RawMessage) bool { return slices.Contains(words, string(raw)) }
}

func either(one, other rule) rule {
	return func(raw json.RawMessage) bool { return one(raw) || other(raw) }
}

func text(limit int) rule {
	return func(raw json.RawMessage) bool {
		var value string
		return raw[0] == '"' && json.Unmarshal(raw, &value) == nil && len(value) <= limit
	}
}

// some is a string that is not empty.
func some(raw json.RawMessage) bool { return string(raw) != `""` }

// only is an object that has the field no or has the field when with the value is.
func only(no, when, is string) rule {
	return func(raw json.RawMessage) bool {
		members, _ := membersOf(raw)
		return members[no] == nil || (members[when] != nil && string(members[when][0]) == is)
	}
}

// truly is an object that has not the field no with the value true, or has the field when with the value is.
func truly(no, when, is string) rule {
	return func(raw json.RawMessage) bool {
		members, _ := membersOf(raw)
		return members[no] == nil || string(members[no][0]) != "true" || only(no, when, is)(raw)
	}
}

// fewKeys is an operation whose keys and shared keys are few enough together, and none of which is both.
func fewKeys(raw json.RawMessage) bool {
	var op wireOperation
	_ = json.Unmarshal(raw, &op)
	apart := !slices.ContainsFunc(op.Shared, func(key string) bool { return slices.Contains(op.Keys, key) })
	return apart && len(op.Keys)+len(op.Shared) <= 1024
}

// lockedOnce is a list of locks of different keys.
func lockedOnce(raw json.RawMessage) bool {
	var locks []wireLock
	_ = json.Unmarshal(raw, &locks)
	keys := map[string]bool{}
	for _, lock := range locks {
		keys[lock.Key] = true
	}
	return len(keys) == len(locks)
}

func number(low, high uint64) rule {
	return func(raw json.RawMessage) bool {
		value, err := strconv.ParseUint(string(raw), 10, 64)
		return err == nil && strconv.FormatUint(value, 10) == string(raw) && value >= low && value <= high
	}
}

func payload(raw json.RawMessage) bool {
	return depth(raw) <= 128 && !bytes.Contains(raw, []byte("\n"))
}

// depth is how many objects and arrays of raw stand inside one another at most.
func depth(raw json.RawMessage) (deepest int) {
	open, decoder := 0, json.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := decoder.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			open++
			deepest = max(deepest, open)
		case json.Delim('}'), json.Delim(']'):
			open--
		}
	}
}

func list(low, high int, each rule) rule {
	return func(raw json.RawMessage) bool {
		var elements []json.RawMessage
		if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil || len(elements) < low || len(elements) > high {
			return false
		}
		return !slices.ContainsFunc(elements, func(element json.RawMessage) bool { return !each(element) })
	}
}

// differ is a list of strings that are all different.
func differ(raw json.RawMessage) bool {
	var words []string
	_ = json.Unmarshal(raw, &words)
	slices.Sort(words)
	return len(slices.Compact(slices.Clone(words))) == len(words)
}

func both(one, other rule) rule {
	return func(raw json.RawMessage) bool { return one(raw) && other(raw) }
}

// object has the fields and no others, each at most once, named without escapes, and all that are required.
func object(fields map[string]rule, required ...string) rule {
	return func(raw json.RawMessage) bool {
		members, ok := membersOf(raw)
		for name, values := range members {
			if check, known := fields[name]; !known || len(values) != 1 || !check(values[0]) {
				return false
			}
		}
		for _, name := range required {
			ok = ok && members[name] != nil
		}
		return ok
	}
}

// membersOf gives the values of an object's fields, of each as often as it is there; ok is false when it is no object.
// A name with escapes is kept as it is written, quotes and all.
func membersOf(raw json.RawMessage) (members map[string][]json.RawMessage, ok bool) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return nil, false
	}
	members, ok = map[string][]json.RawMessage{}, true
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return nil, false
		}
		var value json.RawMessage
		if !bytes.HasSuffix(raw[:decoder.InputOffset()], []byte(`"`+name+`"`)) {
			name = strconv.Quote(name)
		}
		if decoder.Decode(&value) != nil {
			return nil, false
		}
		members[name] = append(members[name], value)
	}
	_, err := decoder.Token()
	return members, ok && err == nil
}

// wireOperation and the other wire types are what encoding/json reads records into.
type wireOperation struct {
	Participant string          `json:"participant,omitempty"`
	Keys        []string        `json:"keys,omitempty"`
	Shared      []string        `json:"shared,omitempty"`
	Payload     json.RawMessage `json:"payload,omitempty"`
	Route       *wireRoute      `json:"route,omitempty"`
}

type wireRoute struct {
	Group       string `json:"group"`
	Key         string `json:"key"`
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
}

type wireLock struct {
	Key   string `json:"key"`
	Token string `json:"token"`
}

type wireHeuristic struct {
	Participant string `json:"participant"`
	Reason      string `json:"reason,omitempty"`
}

// wireRecord is every field that some record has. Vote is a word in votes and a number elsewhere.
type wireRecord struct {
	Tx           string          `json:"tx"`
	Version      int             `json:"v,omitempty"`
	Participants []string        `json:"participants,omitempty"`
	Expires      int64           `json:"expires,omitempty"`
	TimeoutMS    int64           `json:"timeout_ms,omitempty"`
	Since        int64           `json:"since,omitempty"`
	Routing      uint64          `json:"routing,omitempty"`
	Locks        []wireLock      `json:"locks,omitempty"`
	Operations   []wireOperation `json:"operations,omitempty"`
	Trace        string          `json:"trace,omitempty"`
	Held         bool            `json:"held,omitempty"`
	WrongOwner   uint64          `json:"wrong_owner,omitempty"`
	Conflict     bool            `json:"conflict,omitempty"`
	Now          bool            `json:"now,omitempty"`
	Vote         json.RawMessage `json:"vote,omitempty"`
	Through      uint64          `json:"through,omitempty"`
	Heuristics   []wireHeuristic `json:"heuristics,omitempty"`
	Heuristic    string          `json:"heuristic,omitempty"`
	Working      bool            `json:"working,omitempty"`
	Outcome      string          `json:"outcome,omitempty"`
	Participant  string          `json:"participant,omitempty"`
	Reason       string          `json:"reason,omitempty"`
	Error        string          `json:"error,omitempty"`
	Field        string          `json:"field,omitempty"`
	Message      string          `json:"message,omitempty"`
}

// text is the record as one comparable string; empty and absent are the same.
func (w wireRecord) text() string {
	w.Version = 0
	b, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func sequence(n uint64) json.RawMessage { return strconv.AppendUint(nil, n, 10) }

func isNewer(line []byte) bool {
	members, ok := membersOf(line)
	versions := members["v"]
	return ok && depth(line) <= 256 && len(versions) == 1 && number(2, 1<<53-1)(versions[0])
}

// judge gives what encoding/json reads in a line that keeps the rule, and the sentinel for one that does not.
func judge(line []byte, keeps rule) (record wireRecord, err error) {
	if !utf8.Valid(line) || !json.Valid(line) {
		err = ErrMalformed
	} else if isNewer(line) {
		return wireRecord{}, ErrNewerVersion
	} else if !keeps(bytes.TrimSpace(line)) {
		err = ErrMalformed
	}
	if len(line) > 256<<10 {
		err = ErrTooLarge
	}
	if err != nil {
		return wireRecord{}, err
	}
	decoder := json.NewDecoder(strings.NewReader(string(line)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&record); err != nil {
		return wireRecord{}, errors.Join(errors.New("the oracle's rules and types differ"), err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return wireRecord{}, errors.Join(errors.New("the oracle lets bytes follow"), err)
	}
	return record, nil
}
