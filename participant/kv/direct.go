// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// directs knows from which buckets a client may read by direct gets. They cost the server a fraction of what its leader's answers do, and may
// come from a replica or a mirror that is behind: what was read so is validated like everything that a transaction reads.
type directs struct {
	mu  sync.Mutex
	not map[string]time.Time // until when a bucket is read by its leader
}

const (
	// directTime is how long a direct get waits. A connection that may not send one gets no answer at all.
	directTime = 500 * time.Millisecond
	// leaderTime is how long a bucket is read by its leader, once it has not answered a direct get.
	leaderTime = time.Minute
)

// read gives a key's last record as somebody has it, and asks the leader if nobody else answers.
func (d *directs) read(ctx context.Context, nc *nats.Conn, r ref) (found, error) {
	if d.allowed(r.bucket) {
		if f, ok := direct(ctx, nc, r); ok {
			return f, nil
		}
		if ctx.Err() == nil {
			d.forbid(r.bucket)
		}
	}
	return last(ctx, nc, r)
}

func (d *directs) allowed(bucket string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, known := d.not[bucket]
	return !known || time.Now().After(until)
}

func (d *directs) forbid(bucket string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.not == nil || len(d.not) > maxKnown {
		d.not = make(map[string]time.Time)
	}
	d.not[bucket] = time.Now().Add(leaderTime)
}

// direct is one direct get; not ok if it says nothing: the bucket has none, the connection may send none, or something failed.
func direct(ctx context.Context, nc *nats.Conn, r ref) (f found, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, directTime)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_"+r.bucket+"."+r.subject(), nil)
	if err != nil {
		return found{}, false
	}
	if status := msg.Header.Get("Status"); status != "" {
		return found{}, status == "404" // it has no such key
	}
	f.value = msg.Data
	if f.revision, err = strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return found{}, false
	}
	if f.created, err = time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer)); err != nil {
		return found{}, false
	}
	f.describe(msg.Header)
	return f, true
}
