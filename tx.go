// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/assent-tx/assent/messages"
)

// Tx is a transaction that is being put together. It belongs to one goroutine until Commit, which closes it: what is enlisted or
// locked later is no part of it, and makes every later Commit fail.
type Tx struct {
	client *Client
	// sub is the transaction; of operations that are to be routed the participant is not known yet.
	sub messages.Submission
	// groups has the operations that are to be routed, by the groups of their keys.
	groups []keyGroup
	// locks are the keys that Commit locks, and held what it has locked: nil unless it is at work, or has left an outcome
	// unknown.
	locks []string
	held  *holding
	// given: the id was minted elsewhere, so that it may have been submitted before.
	given bool
	// unsure: a Commit has left its outcome unknown, so it may have been accepted.
	unsure bool
	last   ID
	err    *InvalidError // the first fault of Begin, Enlist or Lock
	// closed: Commit has begun to submit what was enlisted. What is added later can be of no transaction under this id, and late
	// says of it so.
	closed bool
	late   *InvalidError
}

// TxOption sets something of a transaction at Begin.
type TxOption func(*Tx)

// WithID gives the transaction an id that was minted before, by NewID: a program that noted it down can submit the same
// transaction again after its own crash, within a minute of the id's time, and it is done once. Later
// Commit can only look it up in the log's history.
func WithID(id ID) TxOption {
	return func(tx *Tx) {
		tx.sub.Tx, tx.given = id, true
		if fault := badID(id); fault != "" {
			tx.fault("tx", fault)
		}
	}
}

// badID says what is wrong with an id that NewID or ParseID did not give, "" when nothing is. The coordinator's answer about
// one would name no id, and find nobody.
func badID(id ID) string {
	if _, err := messages.ParseID(id.String()); err != nil {
		return err.Error()
	}
	return ""
}

// WithTimeout sets how long the transaction has to be decided, 1 s to 24 h; default 30 s. After it the transaction
// aborts.
func WithTimeout(d time.Duration) TxOption {
	return func(tx *Tx) {
		if d < messages.MinTimeout || d > messages.MaxTimeout {
			tx.fault("timeout_ms", fmt.Sprintf("%v: want %v to %v", d, messages.MinTimeout, messages.MaxTimeout))
			return
		}
		tx.sub.TimeoutMS = d.Milliseconds()
	}
}

// WithTrace gives participants a W3C traceparent, at most 128 bytes.
func WithTrace(traceparent string) TxOption {
	return func(tx *Tx) {
		if len(traceparent) > messages.MaxTrace {
			tx.fault("trace", fmt.Sprintf("%d bytes; at most %d", len(traceparent), messages.MaxTrace))
			return
		}
		tx.sub.Trace = traceparent
	}
}

// Begin starts a transaction. It does no I/O.
func (c *Client) Begin(options ...TxOption) *Tx {
	tx := &Tx{client: c}
	tx.sub.Tx = messages.NewID()
	for _, option := range options {
		option(tx)
	}
	tx.last = tx.sub.Tx
	return tx
}

// ID is the transaction's id: that of its first attempt, by which Wait, Outcome and a later Commit find all of them.
func (tx *Tx) ID() ID { return tx.sub.Tx }

// Last is the id of the last attempt that Commit made: ID(), unless keys had moved and it was tried again, under the next
// id (see messages.ID.Next). It is what the log and the participants know the transaction by. It must not be called while
// Commit runs.
func (tx *Tx) Last() ID { return tx.last }

// Enlist adds an operation for a participant: a payload, as encoding/json marshals it (a json.RawMessage is taken as it
// is, nil is no payload), and, by the options Keys and SharedKeys, what it touches. Several operations for one participant form
// its branch, in this order. It does no I/O; what is wrong with it is Commit's error.
func (tx *Tx) Enlist(participant string, payload any, options ...OpOption) {
	if !tx.open(tx.field("participant")) {
		return
	}
	if !messages.ValidName(participant) {
		tx.fault(tx.field("participant"), badName(participant))
	}
	tx.add(messages.Operation{Participant: participant}, payload, options)
}

// EnlistKey adds an operation for the node that owns a key in a group of nodes (see package router): Commit finds it, and
// finds it again if the key moves meanwhile. The group is a name, the key 1 to 1024 bytes of UTF-8; payload and options are
// as Enlist's, and the node sees the key whether or not it is among Keys: it is locked only if it is. It does no I/O;
// what is wrong with it is Commit's error.
func (tx *Tx) EnlistKey(group, key string, payload any, options ...OpOption) {
	if !tx.open(tx.field("route")) {
		return
	}
	if !messages.ValidName(group) {
		tx.fault(tx.field("route.group"), badName(group))
	}
	switch {
	case key == "" || len(key) > messages.MaxRouteKey:
		tx.fault(tx.field("route.key"), fmt.Sprintf("%d bytes; 1 to %d", len(key), messages.MaxRouteKey))
	case !utf8.ValidString(key): // records are UTF-8: the node would see another key, which is elsewhere
		tx.fault(tx.field("route.key"), "not valid UTF-8")
	}
	at := slices.IndexFunc(tx.groups, func(g keyGroup) bool { return g.name == group })
	if at < 0 {
		at = len(tx.groups)
		tx.groups = append(tx.groups, keyGroup{name: group})
	}
	g := &tx.groups[at]
	g.keys, g.operations = append(g.keys, key), append(g.operations, len(tx.sub.Operations))
	tx.add(messages.Operation{}, payload, options)
}

func badName(name string) string {
	return fmt.Sprintf("name %.80q: want 1 to %d of [A-Za-z0-9_-]", name, messages.MaxName)
}

// field is the path of a field of the operation that is being added.
func (tx *Tx) field(name string) string {
	return fmt.Sprintf("operations[%d].%s", len(tx.sub.Operations), name)
}

// add adds an operation with its payload and options.
func (tx *Tx) add(op messages.Operation, payload any, options []OpOption) {
	body, err := encode(payload)
	if err != nil {
		tx.fault(tx.field("payload"), err.Error())
	}
	op.Payload = body
	for _, option := range options {
		option(&op)
	}
	tx.checkKeys(&op)
	tx.sub.Operations = append(tx.sub.Operations, op)
}

// encode makes a payload one line of JSON.
func encode(payload any) (json.RawMessage, error) {
	raw, isRaw := payload.(json.RawMessage)
	if payload == nil || (isRaw && len(raw) == 0) {
		return nil, nil
	}
	var body bytes.Buffer
	if isRaw {
		err := json.Compact(&body, raw)
		return body.Bytes(), err
	}
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // this is no web page, and the size counts
	err := encoder.Encode(payload)
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), err
}

func (tx *Tx) fault(field, message string) {
	if tx.err == nil {
		tx.err = &InvalidError{Field: field, Message: message}
	}
}

// open tells whether something may still be added.
func (tx *Tx) open(field string) bool {
	if tx.closed && tx.late == nil {
		tx.late = &InvalidError{Tx: tx.sub.Tx, Field: field, Message: "added after Commit, and no part of the transaction: begin another one for it"}
	}
	return !tx.closed
}

func (tx *Tx) check() error {
	switch {
	case tx.late != nil: // what was enlisted before may have happened
		return &UnknownError{Tx: tx.sub.Tx, Err: tx.late}
	case tx.err != nil:
		tx.err.Tx = tx.sub.Tx
		return tx.err
	case len(tx.sub.Operations) == 0:
		return &InvalidError{Tx: tx.sub.Tx, Field: "operations", Message: "no operations: Enlist at least one"}
	case len(tx.sub.Operations) > messages.MaxOperations:
		return &InvalidError{Tx: tx.sub.Tx, Field: "operations", Message: fmt.Sprintf("more than %d operations", messages.MaxOperations)}
	}
	return nil
}
