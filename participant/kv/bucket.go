// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
)

// ErrBucket is of a bucket that transactions cannot write: a mirror, a sealed one, one of Assent's own, one that is not allowed here.
var ErrBucket = errors.New("transactions cannot use this bucket")

// ErrTooLarge is of a value that its bucket does not take.
var ErrTooLarge = errors.New("the value is too large")

// buckets knows the settings of the buckets that were used lately.
type buckets struct {
	js jetstream.JetStream
	// reserved is what the names of Assent's own buckets begin with. allowed are the names of those that may be used; nil: all others.
	reserved string
	allowed  []string

	mu    sync.Mutex
	known map[string]*bucket
}

// bucket is what is known of one; mu is held while it is asked for.
type bucket struct {
	mu      sync.Mutex
	fault   error
	largest int // value and headers, in bytes; 0: as large as a message may be
	expires time.Time
}

// How long what is known of a bucket is believed: a change of its settings takes that long to be noticed. A fault is looked at again sooner.
const (
	bucketTime = 10 * time.Second
	faultTime  = time.Second
	// maxKnown bounds the buckets that are known; beyond it all are forgotten.
	maxKnown = 4096
)

// get gives a bucket whose settings were read lately; its error is the bucket's fault (ErrNoBucket, ErrBucket), or that it cannot be told now.
func (b *buckets) get(ctx context.Context, name string) (largest int, err error) {
	if strings.HasPrefix(name, b.reserved) {
		return 0, fmt.Errorf("bucket %s: %w: it is one of Assent's own", name, ErrBucket)
	}
	if b.allowed != nil && !slices.Contains(b.allowed, name) {
		return 0, fmt.Errorf("bucket %s: %w: it is not among those that this participant may use", name, ErrBucket)
	}
	b.mu.Lock()
	if len(b.known) > maxKnown {
		clear(b.known)
	}
	it := b.known[name]
	if it == nil {
		it = &bucket{}
		b.known[name] = it
	}
	b.mu.Unlock()
	it.mu.Lock()
	defer it.mu.Unlock()
	if time.Now().Before(it.expires) {
		return it.largest, it.fault
	}
	stream, err := streams.Find(ctx, b.js, "KV_"+name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		it.fault, it.expires = fmt.Errorf("bucket %s: %w", name, ErrNoBucket), time.Now().Add(faultTime)
	case err != nil:
		return 0, fmt.Errorf("bucket %s: %w", name, err)
	default:
		info := stream.CachedInfo()
		it.largest, it.fault, it.expires = int(max(info.Config.MaxMsgSize, 0)), check(name, info), time.Now().Add(bucketTime)
		if it.fault != nil {
			it.expires = time.Now().Add(faultTime)
		}
	}
	return it.largest, it.fault
}

// check tells why transactions cannot use a bucket.
func check(name string, info *jetstream.StreamInfo) error {
	c := &info.Config
	var fault string
	switch {
	case c.Mirror != nil:
		fault = "it is a mirror of " + strings.TrimPrefix(c.Mirror.Name, "KV_") + ": name that one"
	case len(c.Sources) > 0:
		fault = "it takes values from other buckets, which no transaction can hold back: name those"
	case !slices.Contains(c.Subjects, "$KV."+name+".>"):
		fault = fmt.Sprintf("its stream has the subjects %v, not those of a bucket", c.Subjects)
	case c.SubjectTransform != nil:
		fault = "its stream moves keys to other subjects"
	case c.Retention != jetstream.LimitsPolicy:
		fault = "its stream drops what was read"
	case c.Sealed:
		fault = "it is sealed"
	case c.NoAck:
		fault = "its stream does not acknowledge what is written"
	case c.DiscardNewPerSubject:
		fault = "its stream refuses new values of a key that has its number of values"
	case c.Discard == jetstream.DiscardNew && (c.MaxBytes > 0 && info.State.Bytes >= uint64(c.MaxBytes) || c.MaxMsgs > 0 && info.State.Msgs >= uint64(c.MaxMsgs)):
		fault = fmt.Sprintf("it is full: %d values, %d bytes", info.State.Msgs, info.State.Bytes)
	default:
		return nil
	}
	return fmt.Errorf("bucket %s: %w: %s", name, ErrBucket, fault)
}

// fits tells whether a change would be taken: largest is the bucket's, payload the server's. Headers count.
func (c *change) fits(largest, payload int) error {
	size := len(c.value) + headerSize
	limit := payload
	if largest > 0 {
		limit = min(largest, payload)
	}
	if size > limit {
		return fmt.Errorf("key %s: %w: %d bytes and %d for headers, at most %d: raise the bucket's max_value_size, or write less",
			c.ref, ErrTooLarge, len(c.value), headerSize, limit)
	}
	return nil
}

// headerSize is at least what the headers of a change take, in bytes: its transaction, the revision that is expected, and a deletion.
const headerSize = len("NATS/1.0\r\n"+TxHeader+": 01996d3e-0000-7000-8000-000000000000\r\n"+
	jetstream.ExpectedLastSubjSeqHeader+": 18446744073709551615\r\n\r\n") + 8
