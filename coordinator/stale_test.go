// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// past is a bucket some of whose reads are answered by a leader of its stream that was deposed and has not heard of it: as things once were.
// Whoever writes is heard by the leader of today, for the other one gets no majority.
type past struct {
	jetstream.KeyValue
	then  jetstream.KeyValueEntry // nil: there was none
	reads atomic.Int32            // how many are still answered so
}

func (p *past) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	switch {
	case p.reads.Add(-1) < 0:
		return p.KeyValue.Get(ctx, key)
	case p.then == nil:
		return nil, jetstream.ErrKeyNotFound
	default:
		return p.then, nil
	}
}

// trimmed makes a log whose first messages are gone: a transaction's first prepare, and its abort. What is left of it, one prepare and the votes
// of all, looks like a commit. The checkpoint lies behind all that; then is the one of before, by which the log has lost data.
func (w *world) trimmed(l *leader) (aborted messages.ID, then jetstream.KeyValueEntry, now protocol.Checkpoint) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	must(w.t, err)
	store := func(subject string, record []byte) uint64 {
		w.t.Helper()
		ack, err := js.Publish(w.t.Context(), subject, record)
		must(w.t, err)
		return ack.Sequence
	}
	tx := messages.NewID()
	prepare := func(participant string) uint64 {
		return store(l.subjects.Prepare(0, participant), messages.AppendPrepare(nil, &messages.Prepare{
			Tx: tx, Participants: []string{"a", "b"}, Expires: nowMilli() + 60_000, Operations: []messages.Operation{{Payload: []byte(`1`)}},
		}))
	}
	prepare("a")
	must(w.t, l.checkpoints.save(w.t.Context(), 0, protocol.Checkpoint{Sequence: 1, LogTime: 1}))
	then, err = l.checkpoints.bucket.Get(w.t.Context(), "0")
	must(w.t, err)
	store(l.subjects.Abort(0), messages.AppendAbort(nil, &messages.Abort{Tx: tx, Reason: "client"}))
	rest := prepare("b")
	w.vote(tx, "a")
	w.vote(tx, "b")
	last := store(l.subjects.Finished(0), messages.AppendFinished(nil, &messages.Finished{Tx: tx, Through: rest + 2}))
	now = protocol.Checkpoint{Sequence: last + 1, LogTime: nowMilli(), Floor: tx.UnixMilli(), Through: last}
	must(w.t, l.checkpoints.save(w.t.Context(), 0, now))
	must(w.t, l.stream.Purge(w.t.Context(), jetstream.WithPurgeSequence(rest)))
	return tx, then, now
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// again has the only shard read anew, with the bucket's first reads answered of the past, and waits until it is led again.
func (w *world) again(c *Coordinator, then jetstream.KeyValueEntry) *past {
	w.t.Helper()
	l := c.leaders[0]
	stale := &past{KeyValue: l.checkpoints.bucket, then: then}
	stale.reads.Store(3)
	w.court.close(true)
	w.court.take(0, true)
	w.until("it leads no more", func() bool { return !c.leadsShard(0) })
	must(w.t, l.inLeader(w.t.Context(), func() { l.checkpoints.bucket, l.behind = stale, true }))
	w.court.close(false)
	w.until("it leads again", func() bool { return c.leadsShard(0) })
	return stale
}

// A deposed leader of the checkpoints' stream says what was there once: nothing, by which the log's rest was believed, and a client heard
// committed of a transaction that everybody had rolled back; or a checkpoint of before the log was trimmed, by which it had lost data.
func TestAStaleCheckpointIsNotBelieved(t *testing.T) {
	for name, none := range map[string]bool{"none": true, "an old one": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.court.close(true) // the test keeps the checkpoint, and trims
			c, _ := w.coordinate(Config{Name: "first"})
			l := c.leaders[0]
			tx, then, now := w.trimmed(l)
			if none {
				then = nil
			}
			stale := w.again(c, then)
			if stale.reads.Load() >= 3 {
				t.Error("the checkpoint was not read: the test shows nothing")
			}
			var verdict protocol.Verdict
			var at protocol.Checkpoint
			must(t, l.inLeader(t.Context(), func() { verdict, _ = l.fold.Lookup(tx); at = l.fold.Checkpoint() }))
			if verdict.Outcome != messages.Undecided {
				t.Errorf("a transaction that was aborted, and is forgotten, is %v", verdict.Outcome)
			}
			if at.Sequence < now.Sequence || at.Floor != now.Floor {
				t.Errorf("it has started from %+v, want %+v", at, now)
			}
		})
	}
}

// A log whose checkpoint is gone is read from what is left, by everybody from the same place and with the same knowledge, however much later.
func TestACheckpointThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.court.close(true)
	c, _ := w.coordinate(Config{Name: "first"})
	l := c.leaders[0]
	w.trimmed(l)
	must(t, l.checkpoints.bucket.Delete(t.Context(), "0"))
	first, err := l.checkpoints.load(t.Context(), 0, l.stream)
	must(t, err)
	if first.Sequence != 3 || first.Through != 6 || first.Floor == 0 {
		t.Errorf("it starts from %+v", first)
	}
	w.vote(messages.NewID(), "a")
	second, err := l.checkpoints.load(t.Context(), 0, l.stream)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("the next one starts from %+v, %v; want %+v", second, err, first)
	}
}
