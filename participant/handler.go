// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/assent-tx/assent/messages"
)

// Vote is what Prepare answers: Yes or ReadOnly. (A no is an error: see Refuse.)
type Vote = messages.Vote

// The votes of a handler.
const (
	// Yes: the branch is durable, and can be committed and rolled back.
	Yes = messages.VoteYes
	// ReadOnly: the branch changed nothing, so no outcome is wanted.
	ReadOnly = messages.VoteReadOnly
)

// Branch is all that one transaction asks of this participant.
type Branch struct {
	// Tx is the transaction's id.
	Tx messages.ID
	// Operations are one or more, in the client's order. Operation.Route is the key and the group by which the client found this
	// participant, nil when it named it.
	Operations []messages.Operation
	// Expires is when the transaction aborts unless it is decided, by this machine's clock.
	Expires time.Time
	// Trace is the client's W3C traceparent, "" for none.
	Trace string
	// Sole: the transaction has no other participant.
	Sole bool
	// Locks are what the client locked for the transaction (Tx.Lock), with the fencing tokens by which a resource can refuse whoever
	// holds them no more.
	Locks []messages.Lock

	// keys are what Keys gives, once they were collected (keyed).
	keys  []Key
	keyed bool
	// since is the transaction's age, in Unix microseconds.
	since int64
}

// Decode reads the payload of operation i into a value, as encoding/json does, and refuses unknown fields. Its error is a
// refusal already: the client hears that the payload is wrong.
func (b *Branch) Decode(i int, into any) error {
	payload := b.Operations[i].Payload
	if len(payload) == 0 {
		return Refuse(fmt.Errorf("operation %d has no payload", i))
	}
	decoder := decoders.Get().(*strictDecoder) //nolint:errcheck // the pool has no others
	decoder.payload.Reset(payload)             // of one JSON value: the protocol has checked that
	end := decoder.json.InputOffset() + int64(len(payload))
	if err := decoder.json.Decode(into); err != nil {
		return Refuse(fmt.Errorf("payload of operation %d: %w", i, err))
	}
	if decoder.json.InputOffset() == end { // or it would have something for the next one
		decoders.Put(decoder)
	}
	return nil
}

// strictDecoder decodes one payload after the other, as values of one stream: a new json.Decoder costs more than to decode a small payload.
type strictDecoder struct {
	payload bytes.Reader
	json    *json.Decoder
}

var decoders = sync.Pool{New: func() any {
	d := new(strictDecoder)
	d.json = json.NewDecoder(&d.payload)
	d.json.DisallowUnknownFields()
	return d
}}

// Handler is what an application implements. Its methods are called by several goroutines at once (Config.Concurrency),
// but never twice at once for one transaction in one instance. A panic counts as an error. The package comment says
// what a handler has to bear.
type Handler interface {
	// Prepare makes the branch durable and able to go either way. The context ends at Config.CallTimeout, and at
	// Branch.Expires.
	Prepare(ctx context.Context, b *Branch) (Vote, error)
	// Commit applies a prepared branch.
	Commit(ctx context.Context, tx messages.ID) error
	// Rollback undoes a prepared branch.
	Rollback(ctx context.Context, tx messages.ID) error
}

// BatchHandler is for a store that makes many branches durable with one sync. While a call runs, what arrives gathers for
// the next one; of each kind of call one runs at a time.
type BatchHandler interface {
	// PrepareBatch prepares 1 to 512 branches of different transactions and gives as many results, in the same order.
	PrepareBatch(ctx context.Context, branches []*Branch) []Result
	// FinishBatch applies 1 to 512 outcomes of different transactions and gives as many errors, in the same order; nil
	// means applied.
	FinishBatch(ctx context.Context, outcomes []Outcome) []error
}

// Result is the answer to one branch of a batch: a vote, or an error as Prepare's.
type Result struct {
	Vote Vote
	Err  error
}

// Outcome is one transaction's, for a batch.
type Outcome struct {
	Tx messages.ID
	// Commit it, or roll it back.
	Commit bool
}

// InDoubt is an optional interface of a Handler or BatchHandler: at the start the SDK asks which branches the store holds
// prepared, repeats their votes, which brings their outcomes without waiting for the coordinator to send them again, and
// locks their keys before it takes any prepare. A handler without it cannot isolate: its branches may have no keys.
type InDoubt interface {
	InDoubt(ctx context.Context) ([]Prepared, error)
}

// Watermark is an optional interface of a Handler or BatchHandler: the SDK keeps there how far each log had come when it
// took this participant's last vote. With it, a log that lost data (ErrLogLost) is recognised across restarts of the
// participant; without it, only while it runs.
type Watermark interface {
	// Watermark gives what SetWatermark kept for a stream last; an empty incarnation when there is nothing.
	Watermark(ctx context.Context, stream string) (incarnation string, sequence uint64, err error)
	// SetWatermark keeps it. It is called every few seconds while votes are cast, and at the end of Run.
	SetWatermark(ctx context.Context, stream, incarnation string, sequence uint64) error
}

// Memory is an optional interface of a Handler or BatchHandler, of a store that keeps for some time what it has committed: at the
// start the SDK asks it for the newest transaction that this participant voted yes for and that was committed. A store that does not have it
// was restored from a backup, failed over to a standby that was behind, or does not keep what it acknowledged: that is logged as an error
// (ErrStoreLost), and the participant goes on.
type Memory interface {
	// Remembers tells whether the branch of a transaction is prepared here, or was committed here, or was long enough ago that it
	// may have been forgotten.
	Remembers(ctx context.Context, tx messages.ID) (bool, error)
}

var (
	// ErrStoreLost is what is logged of a store that has lost a transaction which it voted yes for. An operator has to
	// compare the stores by hand.
	ErrStoreLost = errors.New("participant: the store has lost data")
	// ErrLogLost is why Run stops when the log ends before a vote that it had acknowledged, or is another log: the server
	// has lost data. An operator has to compare the stores by hand.
	ErrLogLost = errors.New("participant: the log has lost data")
	// ErrRefused is wrapped by Refuse.
	ErrRefused = errors.New("refused")
	// ErrConflict is wrapped by Conflict.
	ErrConflict = errors.New("another transaction is in the way")
	// ErrHeuristic is wrapped by Heuristic.
	ErrHeuristic = errors.New("the resource decided against the outcome")
)

// Refuse makes an error of Prepare a vote of no: the transaction aborts and its client hears err's text. The branch must
// hold nothing.
func Refuse(err error) error { return mark(err, ErrRefused) }

// Conflict makes an error of Prepare a vote of no as Refuse does, and has the client hear that another transaction was in
// the way (assent.ErrConflict), so that trying again may succeed: lock time-outs, serialization failures that did not go
// away. The branch must hold nothing.
func Conflict(err error) error { return mark(err, ErrConflict) }

// Heuristic makes an error of Commit or Rollback a report that the resource has already decided otherwise. It ends the
// branch; the transaction is reported as damaged.
func Heuristic(err error) error { return mark(err, ErrHeuristic) }

// mark adds a sentinel that does not show in err's text; it stands in for an error that says nothing.
func mark(err, sentinel error) error {
	if err == nil || err.Error() == "" {
		return sentinel
	}
	return &marked{err, sentinel}
}

type marked struct{ err, mark error }

func (m *marked) Error() string   { return m.err.Error() }
func (m *marked) Unwrap() []error { return []error{m.err, m.mark} }
