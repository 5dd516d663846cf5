// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/locks/internal/agent"
	"github.com/assent-tx/assent/locks/internal/record"
)

// Info is what is stored of a key.
type Info struct {
	Kind Kind   `json:"kind"`
	Key  string `json:"key"`
	// Permits is how many may hold a semaphore; 0 for the other kinds.
	Permits int `json:"permits"`
	// Holders hold it, in the order in which they came; Waiters wait, first come first. A waiter is stored a tenth of a second
	// after it came.
	Holders []Holder `json:"holders"`
	Waiters []Waiter `json:"waiters"`
	// Problem says why the record cannot be read; "" when it can.
	Problem string `json:"problem,omitempty"`
}

func holders(b *bucket, at place, r *record.Record) []Holder {
	list := make([]Holder, len(r.Holders))
	for i := range r.Holders {
		h := &r.Holders[i]
		list[i] = Holder{h.Session(), h.Owner, h.Shared, time.UnixMilli(h.Since).UTC(), b.token(at, h.Token)}
	}
	return list
}

func info(b *bucket, kind Kind, key string, at place, r *record.Record) Info {
	waiters := make([]Waiter, len(r.Queue))
	for i := range r.Queue {
		op := &r.Queue[i]
		waiters[i] = Waiter{op.Session(), op.Owner, op.Shared, time.UnixMilli(op.Since).UTC()}
	}
	return Info{Kind: kind, Key: key, Permits: r.Permits, Holders: holders(b, at, r), Waiters: waiters}
}

// List gives what is held or waited for in a bucket ("": assent-locks), sorted by kind and key. A key is listed until
// somebody gives it back or takes it over: also when its holder is dead and nobody has wanted it since. On several replicas it may be read from
// one that is a moment behind.
// The error is an ErrNoBucket when there is no such bucket.
func List(ctx context.Context, nc *nats.Conn, name string) ([]Info, error) {
	b, err := lookInto(ctx, nc, name)
	if err != nil {
		return nil, err
	}
	list := []Info{}
	for i := range b.streams {
		var page []Info
		err := streams.Persist(ctx, func(ctx context.Context) (err error) {
			page, err = b.list(ctx, i)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("locks: list stream %s: %w", b.streamName(i), err)
		}
		list = append(list, page...)
	}
	slices.SortFunc(list, func(a, b Info) int {
		if a.Kind != b.Kind {
			return strings.Compare(string(a.Kind), string(b.Kind))
		}
		return strings.Compare(a.Key, b.Key)
	})
	return list, nil
}

// lookInto opens a bucket that is there.
func lookInto(ctx context.Context, nc *nats.Conn, name string) (*bucket, error) {
	cfg, err := Config{Bucket: name}.withDefaults()
	if err != nil {
		return nil, err
	}
	return openBucket(ctx, nc, &cfg, false)
}

// listPage is how many records are fetched at a time.
const listPage = 500

func (b *bucket) list(ctx context.Context, stream int) (list []Info, err error) {
	prefix := fmt.Sprintf("$KV.%s-%d.", b.name, stream)
	consumer, err := b.streams[stream].OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{
			prefix + string(KindLock) + ".>", prefix + string(KindSemaphore) + ".>", prefix + string(KindElection) + ".>",
		},
	})
	if err != nil {
		return nil, err
	}
	wait := streams.AttemptTime / 2
	if deadline, ok := ctx.Deadline(); ok { // the attempt's
		wait = max(wait, time.Until(deadline)/2)
	}
	for pending := consumer.CachedInfo().NumPending; pending > 0; {
		batch, err := consumer.Fetch(int(min(pending, listPage)), jetstream.FetchMaxWait(wait))
		if err != nil {
			return nil, err
		}
		got := false
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return nil, err
			}
			got, pending = true, meta.NumPending
			if entry, ok := b.info(msg, stream, prefix, meta.Sequence.Stream); ok {
				list = append(list, entry)
			}
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return nil, err
		}
		if !got { // the server does not answer, or what was pending has been removed: the next attempt knows
			return nil, nats.ErrTimeout
		}
	}
	return list, nil
}

func (b *bucket) info(msg jetstream.Msg, stream int, prefix string, sequence uint64) (Info, bool) {
	if msg.Headers().Get("KV-Operation") != "" {
		return Info{}, false
	}
	kind, key, _ := strings.Cut(strings.TrimPrefix(msg.Subject(), prefix), ".")
	r, err := record.Decode(msg.Data(), sequence)
	if err == nil {
		err = checkRecord(&r)
	}
	if err != nil {
		return Info{Kind: Kind(kind), Key: key, Holders: []Holder{}, Waiters: []Waiter{}, Problem: err.Error()}, true
	}
	return info(b, Kind(kind), key, place{stream, msg.Subject()}, &r), !r.Free()
}

// ForceRelease takes a key from all who hold it, whether they live or not, and gives what was there before. The next who
// waits gets it, with a greater token, so that a resource that checks tokens refuses the former holders. They are told:
// their locks are lost (ErrLost); one that misses the message learns it when it gives the lock back. The error is an ErrNotHeld
// when nobody holds the key.
func ForceRelease(ctx context.Context, nc *nats.Conn, bucket string, kind Kind, key string) (Info, error) {
	if err := CheckKey(key); err != nil {
		return Info{}, err
	}
	b, err := lookInto(ctx, nc, bucket)
	if err != nil {
		return Info{}, err
	}
	at := b.place(string(kind), key)
	for {
		before, revision, err := b.get(ctx, at)
		broken := errors.Is(err, ErrRecord)
		if err != nil && !broken {
			return Info{}, fmt.Errorf("locks: release %q by force: %w", key, err)
		}
		if broken {
			last, lastErr := b.last(ctx, at)
			if lastErr != nil {
				return Info{}, fmt.Errorf("locks: release %q by force: %w", key, lastErr)
			}
			revision = last.revision
		}
		was := info(b, kind, key, at, &before)
		if broken {
			was.Problem = err.Error()
		} else if len(before.Holders) == 0 {
			return was, fmt.Errorf("locks: the %s %q: %w by anybody", kind, key, ErrNotHeld)
		}
		after := before.Clone()
		after.Force()
		revision, _, err = b.put(ctx, at, &after, revision)
		switch {
		case err == nil:
			after.Stored(revision)
			return was, b.announce(kind, key, revision, &before, &after)
		case errors.Is(err, errConflict):
		default:
			return was, fmt.Errorf("locks: release %q by force: %w", key, err)
		}
	}
}

// announce tells those who held a key, and those who hold it now, what is stored.
func (b *bucket) announce(kind Kind, key string, revision uint64, before, after *record.Record) error {
	data, err := json.Marshal(&message{Kind: kind, Key: key, Tell: &agent.Tell{Revision: revision, Record: after}})
	if err != nil {
		panic(err) // strings and numbers only
	}
	told := make(map[string]bool)
	for _, h := range slices.Concat(before.Holders, after.Holders) {
		if session := h.Session(); !told[session] {
			told[session] = true
			if err := b.nc.Publish(b.inbox(session), data); err != nil {
				return fmt.Errorf("locks: tell the holders of %q: %w", key, err)
			}
		}
	}
	return b.nc.Flush()
}
