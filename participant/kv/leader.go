// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
)

// The headers of values.
const (
	// TxHeader has the id of the transaction that wrote a value, or a marker of a deletion. Readers that know nothing of it see
	// the value as it is.
	TxHeader = "Assent-Tx"
	// operationHeader is of the KV protocol; a record without it is a value.
	operationHeader = "KV-Operation"
	deleted         = "DEL"
)

// found is the last record of a key. The zero found is that of a key without one.
type found struct {
	revision uint64
	value    []byte
	created  time.Time
	// gone: the record is the marker of a deletion.
	gone bool
	// expired: it is the marker that a server leaves when a value's time is over.
	expired bool
	// tx is the transaction that wrote it; zero if none did.
	tx messages.ID
}

// nothing: time, or an operator, has taken away what was there.
func (f *found) nothing() bool { return f.revision == 0 || f.expired }

// ErrNoBucket is of a bucket that does not exist.
var ErrNoBucket = errors.New("there is no such bucket")

// last asks the leader of a bucket's stream for a key's last record. The usual way, a direct get, may be answered by a replica or a
// mirror that is behind. (A leader that was deposed a moment ago and does not know it yet may be behind as well; see the package's comment.)
//
// A request whose answer is lost (with a connection, or a server), or is that a replicated stream has no leader now, is made again, until ctx ends, or
// for half a minute where it has no deadline; one that nobody takes (a server has just started) for a few seconds.
func last(ctx context.Context, nc *nats.Conn, r ref) (found, error) {
	begun := time.Now()
	for attempt := 0; ; attempt++ {
		f, err := ask(ctx, nc, r)
		nobody := errors.Is(err, jetstream.ErrJetStreamNotEnabled)
		lost := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrDisconnected) || leaderless(err)
		waited := time.Since(begun)
		if !lost && !nobody || lost && waited > lostTime || nobody && waited > nobodyTime || !pause(ctx, attempt+2) {
			return f, err
		}
	}
}

// leaderless tells whether the servers say that nobody leads now ("JetStream system temporarily unavailable").
func leaderless(err error) bool {
	var refusal *jetstream.APIError
	return errors.As(err, &refusal) && refusal.ErrorCode == 10008
}

// How long one request waits for its answer, and for how long one is made again whose answer is lost, or that nobody takes.
const (
	askTime    = 2 * time.Second
	lostTime   = 30 * time.Second
	nobodyTime = 3 * time.Second
)

// ask is one request of last.
func ask(ctx context.Context, nc *nats.Conn, r ref) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	// A value is JSON's business only if it is asked for by hand: names have no characters that need escapes.
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+r.bucket, []byte(`{"last_by_subj":"`+r.subject()+`"}`))
	if errors.Is(err, nats.ErrNoResponders) {
		err = jetstream.ErrJetStreamNotEnabled
	}
	if err != nil {
		return found{}, fmt.Errorf("key %s: %w", r, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return found{}, fmt.Errorf("key %s: the server's answer: %w", r, err)
	}
	switch refusal := answer.Error; {
	case refusal != nil && refusal.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return found{}, nil
	case refusal != nil && refusal.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return found{}, fmt.Errorf("bucket %s: %w", r.bucket, ErrNoBucket)
	case refusal != nil:
		return found{}, fmt.Errorf("key %s: %w", r, refusal)
	case answer.Message == nil:
		return found{}, fmt.Errorf("key %s: the server's answer has no message", r)
	}
	m := answer.Message
	f := found{revision: m.Sequence, value: m.Data, created: m.Time}
	if len(m.Header) == 0 {
		return f, nil
	}
	h, err := nats.DecodeHeadersMsg(m.Header)
	if err != nil {
		return found{}, fmt.Errorf("key %s: the headers of its revision %d: %w", r, m.Sequence, err)
	}
	f.describe(h)
	return f, nil
}

// describe takes what the headers of a record say of it.
func (f *found) describe(h nats.Header) {
	f.expired = h.Get(jetstream.MarkerReasonHeader) == "MaxAge"
	f.gone = h.Get(operationHeader) != "" || h.Get(jetstream.MarkerReasonHeader) != ""
	if id, err := messages.ParseID(h.Get(TxHeader)); err == nil { // another text is a foreign writer's
		f.tx = id
	}
}
