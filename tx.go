// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/assent-tx/assent/messages"
)

// Tx is a transaction that is being put together. It belongs to one goroutine until Commit.
type Tx struct {
	client *Client
	sub    messages.Submission
	err    *InvalidError // the first fault of Begin or Enlist
}

// TxOption sets something of a transaction at Begin.
type TxOption func(*Tx)

// WithID gives the transaction an id that was minted before, by NewID: a program that noted it down can submit the same
// transaction again after its own crash, within a minute of the id's time, and it is done once. Later
// Commit can only look it up in the log's history.
func WithID(id ID) TxOption {
	return func(tx *Tx) {
		tx.sub.Tx = id
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
	return tx
}

// ID is the transaction's id.
func (tx *Tx) ID() ID { return tx.sub.Tx }

// Enlist adds an operation for a participant: a payload, as encoding/json marshals it (a json.RawMessage is taken as it
// is, nil is no payload), and the keys that it touches. Several operations for one participant form its branch, in this order. It does no I/O;
// what is wrong with it is Commit's error.
func (tx *Tx) Enlist(participant string, payload any, keys ...string) {
	at := len(tx.sub.Operations)
	field := func(name string) string { return fmt.Sprintf("operations[%d].%s", at, name) }
	if !messages.ValidName(participant) {
		tx.fault(field("participant"), fmt.Sprintf("name %.80q: want 1 to %d of [A-Za-z0-9_-]", participant, messages.MaxName))
	}
	body, err := encode(payload)
	if err != nil {
		tx.fault(field("payload"), err.Error())
	}
	if len(keys) > messages.MaxKeys {
		tx.fault(field("keys"), fmt.Sprintf("more than %d keys", messages.MaxKeys))
	}
	for i, key := range keys {
		if len(key) > messages.MaxKey {
			tx.fault(field(fmt.Sprintf("keys[%d]", i)), fmt.Sprintf("%d bytes; at most %d", len(key), messages.MaxKey))
		}
	}
	tx.sub.Operations = append(tx.sub.Operations, messages.Operation{Participant: participant, Keys: keys, Payload: body})
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

// Commit submits the transaction and waits for its outcome.
//
//   - nil: committed; it survives every crash.
//   - ErrAborted (an *AbortedError says who refused, and why): no participant applies it.
//   - ErrUnknown (an *UnknownError has the id): the outcome was not learnt in time. The transaction may still commit: ask with
//     Wait, or Commit again (the same Tx, or one WithID), which is the same transaction.
//   - ErrInvalid, ErrTooLarge, ErrUnknownParticipant, ErrOverloaded, ErrNoCoordinator without ErrUnknown: it was not accepted.
//
// Cancelling ctx stops the waiting, never the transaction. Without a deadline of its own, ctx ends Config.Patience after the
// transaction's timeout.
func (tx *Tx) Commit(ctx context.Context) error {
	if err := tx.check(); err != nil {
		return err
	}
	record := messages.AppendSubmission(make([]byte, 0, 512), &tx.sub)
	if len(record) > messages.MaxRecord {
		return &TooLargeError{Tx: tx.sub.Tx, Message: fmt.Sprintf("the transaction has %d bytes; at most %d", len(record), messages.MaxRecord)}
	}
	if limit := tx.client.nc.MaxPayload(); limit > 0 && int64(len(record)) >= limit {
		return &TooLargeError{Tx: tx.sub.Tx, Message: fmt.Sprintf("the transaction has %d bytes; the server's max_payload is %d", len(record), limit)}
	}
	answer, err := tx.client.call(ctx, submits, tx.sub.Tx, record, tx.sub.Timeout()+tx.client.cfg.Patience)
	if err != nil {
		return err
	}
	if answer.Error == messages.CodeOutsideWindow {
		return tx.lookUp(ctx, &answer)
	}
	return verdict(&answer)
}

func (tx *Tx) check() error {
	switch {
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

// lookUp settles a transaction whose id is too old to be submitted: it may have run, long ago.
func (tx *Tx) lookUp(ctx context.Context, outside *messages.Answer) error {
	answer, err := tx.client.call(ctx, waits, tx.sub.Tx, messages.AppendWait(nil, &messages.Wait{Tx: tx.sub.Tx}), tx.client.cfg.Patience)
	if err != nil {
		return err
	}
	if answer.Error == messages.CodeNotFound {
		return &UnknownError{Tx: tx.sub.Tx, Err: refusal(outside)}
	}
	return verdict(&answer)
}

// verdict is Commit's error for an answer.
func verdict(a *messages.Answer) error {
	switch {
	case a.Error != "":
		return refusal(a)
	case a.Outcome == Committed:
		return nil
	default:
		return &AbortedError{Tx: a.Tx, Participant: a.Participant, Reason: a.Reason}
	}
}
