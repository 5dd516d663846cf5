// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// intent is what a prepared branch will publish, if it commits.
type intent struct {
	tx messages.ID
	// keys are those that the branch locks.
	keys     []participant.Key
	messages []*planned
	// next is the message that is published next; those before it are published. Invariant: 0 <= next <= len(messages).
	next int
	// await is the acknowledgement of that message, while one is awaited.
	await jetstream.PubAckFuture
	// since: what may have been published of the rest before that moment is known; the zero time stands for "nothing was
	// tried". What was tried since then may be in the stream, or not.
	since time.Time
	// recalled: a process before this one may have published any of the rest, at any time, and this one has not looked yet.
	recalled bool
}

// planned is one message, with where it will be, as its journal entry says it.
type planned struct {
	Message Message `json:"message"`
	// Stream takes the message; "" for a core message.
	Stream string `json:"stream,omitempty"`
	// Created is when that stream was made: one that was made anew counts from 1 again.
	Created time.Time `json:"created,omitzero"`
	// After is a sequence that the stream had reached when the branch was prepared: the message comes after it.
	After uint64 `json:"after,omitempty"`
}

// entry is an intent as the journal keeps it.
type entry struct {
	Keys     []participant.Key `json:"keys,omitempty"`
	Messages []*planned        `json:"messages"`
}

func (in *intent) entry() ([]byte, error) { return json.Marshal(entry{in.keys, in.messages}) }

// recall reads an intent that this process, or one before it, wrote.
func recall(tx messages.ID, data []byte) (*intent, error) {
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("outbox: the journal's entry of transaction %s: %w", tx, err)
	}
	return &intent{tx: tx, keys: e.Keys, messages: e.Messages, recalled: true}, nil
}

// published tells whether all of it is.
func (in *intent) published() bool { return in.next == len(in.messages) }

// acknowledged notes that the next message is published.
func (in *intent) acknowledged() {
	in.next, in.await, in.since = in.next+1, nil, time.Time{}
}

// doubtful tells whether its next message must be looked for in a stream with that duplicate window before it is
// published (again). Half the window is left for clocks that run apart, and for what is on its way.
func (in *intent) doubtful(window time.Duration) bool {
	return in.recalled || (!in.since.IsZero() && elapsed(in.since) >= window/2)
}

// elapsed is the time since a moment, also where the machine slept meanwhile or its clock was set: what is more.
func elapsed(since time.Time) time.Duration {
	return max(time.Since(since), time.Now().Round(0).Sub(since.Round(0)))
}
