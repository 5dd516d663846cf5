// SPDX-License-Identifier: Apache-2.0

package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
)

// ErrRefused marks a message that JetStream refused for good: it is not in the log. Every other error of a publish leaves
// open whether it is.
var ErrRefused = errors.New("the log refused the message")

// MaxBytes is the largest message body for a connection: messages.MaxMessage, or less where the server's max_payload is small.
func MaxBytes(nc *nats.Conn) int {
	const headers = 1 << 10
	if limit := int(nc.MaxPayload()) - headers; limit > 0 {
		return min(limit, messages.MaxMessage)
	}
	return messages.MaxMessage
}

// LogConfig is for Log.
type LogConfig struct {
	// Patience is how long one attempt waits for its acknowledgement; default 5 s. It is repeated after that.
	Patience time.Duration
	// Backoff is the pause after a failed attempt; it doubles up to 32 times itself. Default 20 ms.
	Backoff time.Duration
	// GiveUp tells whether a refusal settles the message; nil never does, and it is tried again until ctx ends. (A message
	// larger than the server's max_payload settles at once, refused: it could only hold up its lane.)
	GiveUp func(refusal error) bool
	// Failed, when not nil, hears of every failed attempt.
	Failed func(subject string, err error)

	reconnects *reconnects
}

// Log is the Send for a JetStream log. An attempt whose acknowledgement does not come may have been stored: it is repeated
// under the same message id, so that JetStream stores it once, until it is acknowledged, refused, or ctx ends: after Patience, and
// at once when the connection is back that it was made on. (After
// the stream's de-duplication window a repeat may be stored twice; every reader of the log bears that.)
func Log(js jetstream.JetStream, cfg LogConfig) Send {
	if cfg.Patience <= 0 {
		cfg.Patience = 5 * time.Second
	}
	if cfg.Backoff <= 0 {
		cfg.Backoff = 20 * time.Millisecond
	}
	cfg.reconnects = &reconnects{nc: js.Conn(), waiting: make(map[uint64]context.CancelFunc)}
	writer := messages.NewID().String()
	var count atomic.Uint64
	return func(ctx context.Context, subject string, body []byte) (uint64, error) {
		id := writer + "-" + strconv.FormatUint(count.Add(1), 36)
		return cfg.publish(ctx, js, subject, id, body)
	}
}

func (cfg *LogConfig) publish(ctx context.Context, js jetstream.JetStream, subject, id string, body []byte) (uint64, error) {
	pause, unknown := cfg.Backoff, false
	for {
		sequence, err := cfg.attempt(ctx, js, subject, id, body)
		if err == nil {
			return sequence, nil
		}
		if cfg.Failed != nil {
			cfg.Failed(subject, err)
		}
		if !unknown && cfg.settles(err) {
			return 0, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		unknown = unknown || !isRefusal(err)
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("whether the log has the message is unknown: %w", err)
		case <-time.After(pause):
		}
		pause = min(2*pause, 32*cfg.Backoff)
	}
}

func (cfg *LogConfig) attempt(ctx context.Context, js jetstream.JetStream, subject, id string, body []byte) (uint64, error) {
	timed, cancel := context.WithTimeout(ctx, cfg.Patience)
	defer cancel()
	defer cfg.reconnects.end(ctx, cancel)()
	msg := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	ack, err := js.PublishMsg(timed, msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// settles tells whether a first refusal is the message's fate.
func (cfg *LogConfig) settles(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload) || (isRefusal(err) && cfg.GiveUp != nil && cfg.GiveUp(err))
}

// isRefusal tells whether the message is known not to be stored: the server said so, or it was never sent.
func isRefusal(err error) bool {
	var refusal *jetstream.APIError
	return errors.As(err, &refusal) || errors.Is(err, nats.ErrMaxPayload)
}
