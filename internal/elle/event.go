// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// EventType says what an Event is.
type EventType string

// The types of events.
const (
	// Start is the first line of a history, and optional: what it is a history of.
	Start EventType = "start"
	// Invoke: a client begins a transaction.
	Invoke EventType = "invoke"
	// OK: it learnt that the transaction is committed.
	OK EventType = "ok"
	// Fail: it learnt that the transaction did not happen, and never will.
	Fail EventType = "fail"
	// Info: it does not know. The transaction may have happened, or may yet.
	Info EventType = "info"
)

// Func is what an operation does.
type Func string

// The functions of operations: the first two are those of the workload append, the others of the workload bank.
const (
	Append  Func = "append"
	Read    Func = "read"
	Add     Func = "add"
	Balance Func = "balance"
)

// Operation is one of a transaction's.
type Operation struct {
	Op  Func   `json:"op"`
	Key string `json:"key"`
	// Value is what is appended (each value once to a key), added, or the balance that was read.
	Value *int64 `json:"value,omitempty"`
	// Values are the list that was read, from its first element on. Nil: it is not known, of a read that has not ended or of
	// which the client did not hear.
	Values []int64 `json:"values,omitzero"`
}

// Event is one line of a history. The order of the lines is the order in which the events happened.
type Event struct {
	Type EventType `json:"type"`
	// Process is who does one transaction after the other, from 0.
	Process int32 `json:"process"`
	// Tx names the transaction for people; by default T1, T2, … in the order of the invocations.
	Tx string `json:"tx,omitempty"`
	// Time is for people: microseconds since the beginning.
	Time int64 `json:"time,omitempty"`
	// Operations are the transaction's; in the event that ends it they may be left out when it read nothing.
	Operations []Operation `json:"ops,omitempty"`
	// Error is for people: why it failed, or is not known.
	Error string `json:"error,omitempty"`

	// Workload, Accounts and Total belong to Start: "append" (the default) or "bank"; a bank's number of accounts and what they
	// have together.
	Workload string `json:"workload,omitempty"`
	Accounts int    `json:"accounts,omitempty"`
	Total    int64  `json:"total,omitempty"`
}

// Bounds of a history.
const (
	// MaxOperations is the most that a transaction may have, and MaxTransactions a history.
	MaxOperations   = 1024
	MaxTransactions = 1 << 28
	maxLine         = 16 << 20
)

// Decode reads a history of JSON lines. Its error says which line is wrong, and how.
func Decode(r io.Reader) (*History, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	b := NewBuilder()
	number := 0
	for lines.Scan() {
		number++
		if len(lines.Bytes()) == 0 {
			continue
		}
		event, err := decodeLine(lines.Bytes())
		if err == nil {
			err = b.Add(&event)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	}
	return b.History()
}

func decodeLine(line []byte) (event Event, err error) {
	if err = json.Unmarshal(line, &event); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return event, fmt.Errorf("not JSON, at byte %d: %w", syntax.Offset, err)
		}
		return event, fmt.Errorf("not an event: %w", err)
	}
	return event, nil
}

// Encoder writes a history as JSON lines.
type Encoder struct{ json *json.Encoder }

// NewEncoder gives an encoder, which writes each event at once.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{json.NewEncoder(w)} }

// Encode writes one event.
func (e *Encoder) Encode(event *Event) error { return e.json.Encode(event) }
