// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
)

// An operator has deleted a checkpoint, as docs/operations.md says for a log that is lost: the next one is left all the same, or
// nothing would ever be trimmed again.
func TestACheckpointIsLeftWhereOneWasDeleted(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first", DrainTimeout: patience})
	kept, key := c.checkpoints, "7" // of no shard that is led
	for sequence := range uint64(3) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		at := protocol.Checkpoint{Sequence: sequence + 1, Through: sequence}
		if err := kept.save(ctx, 7, at); err != nil {
			t.Fatalf("the checkpoint at %d: %v", at.Sequence, err)
		}
		if stored, _, err := kept.stored(ctx, 7); err != nil || stored.Sequence != at.Sequence {
			t.Fatalf("the checkpoint at %d: %+v, %v", at.Sequence, stored, err)
		}
		if err := kept.bucket.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

// mute is a log whose state is not to be had.
type mute struct{ jetstream.Stream }

func (mute) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return nil, nats.ErrTimeout
}

// How full the log is cannot be told for a while: what was so stays so, or transactions would take the room that is held back for their votes.
func TestAFullLogStaysFullWhileItSaysNothing(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first", DrainTimeout: patience})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "a")
	l := c.leaders[0]
	inLeader := func(f func()) {
		t.Helper()
		if err := l.inLeader(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	w.until("no upkeep is under way", func() (idle bool) {
		inLeader(func() {
			if idle = !l.saving; idle {
				l.stream, l.room = mute{l.stream}, room{limit: 1000, bytes: 890, taken: 10}
				l.upkeep(t.Context())
			}
		})
		return idle
	})
	w.until("it is over", func() (idle bool) {
		inLeader(func() { idle = !l.saving })
		return idle
	})
	inLeader(func() {
		if !l.room.full() {
			t.Errorf("the room is %+v, and was full", l.room)
		}
	})
}

// However little time the others get to finish, what is written at the end has its own: a slow log is no failure of who was told to end.
func TestACheckpointIsLeftWithoutTimeToDrain(t *testing.T) {
	w := newWorld(t)
	c, err := New(w.connect(), Config{Name: "first", DrainTimeout: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	c.openSession, c.route = w.court.open("first"), w.board.route(c)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-c.Ready()
	if _, revision, err := c.checkpoints.stored(t.Context(), 0); err != nil || revision != 0 {
		t.Fatalf("the checkpoint before the end: revision %d, %v", revision, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, revision, err := c.checkpoints.stored(t.Context(), 0); err != nil || revision == 0 {
		t.Fatalf("the checkpoint that was left: revision %d, %v", revision, err)
	}
}
