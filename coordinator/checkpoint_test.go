// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
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

// deposed is a log of which a server tells that was paused, so often, before the one that leads it does.
type deposed struct {
	jetstream.Stream
	stale int
	alone bool // it has not heard of the others for long, and says so
}

func (d *deposed) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	d.stale--
	last := uint64(12)
	if d.stale >= 0 {
		last = 7
	}
	info := &jetstream.StreamInfo{State: jetstream.StreamState{FirstSeq: 1, LastSeq: last}}
	if d.alone {
		long := &jetstream.PeerInfo{Active: time.Minute}
		info.Cluster = &jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{long, long}}
	}
	return info, nil
}

// What a server of the past tells is no loss of the log: it would stop all coordinators at once.
func TestADeposedServerTellsOfNoLoss(t *testing.T) {
	t.Parallel()
	log := &deposed{stale: 4}
	l := &leader{stream: log}
	info, _ := log.Info(t.Context())
	if err := l.goesAsFar(t.Context(), info, 12); err != nil {
		t.Error(err)
	}
	if err := l.goesAsFar(t.Context(), info, 13); !errors.Is(err, ErrLogLost) {
		t.Errorf("a log that stays short: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), streams.ShortPatience+time.Second)
	defer cancel()
	log.alone = true
	if err := l.goesAsFar(ctx, info, 13); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a log that stays short by what one says who has not heard of the others: %v", err)
	}
}

// Nor does a coordinator that starts believe it, which holds the log's end against its checkpoint.
func TestADeposedServerTellsOfNoLossAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first", DrainTimeout: patience})
	at := protocol.Checkpoint{Sequence: 10, Through: 12}
	if err := c.checkpoints.save(t.Context(), 7, at); err != nil { // of no shard that is led
		t.Fatal(err)
	}
	if from, err := c.checkpoints.load(t.Context(), 7, &deposed{stale: 4}); err != nil || from.Sequence != at.Sequence {
		t.Errorf("starts at %d, %v", from.Sequence, err)
	}
	at.Through++
	if err := c.checkpoints.save(t.Context(), 7, at); err != nil {
		t.Fatal(err)
	}
	if _, err := c.checkpoints.load(t.Context(), 7, &deposed{}); !errors.Is(err, ErrLogLost) {
		t.Errorf("a log that stays short: %v", err)
	}
}

// While the coordinator runs its server comes back from a backup: what is written then has sequences that were read already, and would be passed over,
// votes and aborts alike, until the log has grown as long again. It is noticed by who leads, and by who is to.
func TestALogThatIsRestoredUnderItsReaderIsLost(t *testing.T) {
	for name, leads := range map[string]bool{"leading": true, "standing by": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.court.close(!leads)
			address := strings.TrimPrefix(w.server.URL(), "nats://")
			restart := func(prepare func() error) {
				t.Helper()
				if err := errors.Join(w.server.Close(), prepare()); err != nil {
					t.Fatal(err)
				}
				w.start(address)
			}
			write := func(c *Coordinator) (sequence uint64) {
				t.Helper()
				w.until("it is written", func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					ack, err := c.js.Publish(ctx, messages.Subjects{}.Abort(0), nil)
					if err == nil {
						sequence = ack.Sequence
					}
					return err == nil
				})
				return sequence
			}
			c, err := New(w.connect(), Config{Name: "first", DrainTimeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			c.openSession, c.route = w.court.open("first"), w.board.route(c)
			beats, err := w.nc.SubscribeSync("assent.coordinators")
			if err := errors.Join(err, w.nc.Flush()); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Run(t.Context()) }()
			if _, err := beats.NextMsg(patience); err != nil { // it tells of itself once it is warm
				t.Fatal(err)
			}
			write(c)
			backup := t.TempDir()
			restart(func() error { return os.CopyFS(backup, os.DirFS(w.dir)) })
			for range 10 {
				write(c)
			}
			last := write(c)
			l := c.leaders[0]
			w.until("all is read", func() (read bool) {
				if err := l.inLeader(t.Context(), func() { read = l.fold.Sequence() >= last }); err != nil {
					t.Fatal(err)
				}
				return read
			})
			restart(func() error {
				if err := os.RemoveAll(w.dir); err != nil {
					return err
				}
				return os.CopyFS(w.dir, os.DirFS(backup))
			})
			if again := write(c); again > last {
				t.Fatalf("the log goes on at %d after %d: the test shows nothing", again, last)
			}
			w.court.close(false)
			select {
			case err := <-ended:
				if !errors.Is(err, ErrLogLost) {
					t.Errorf("got %v, want ErrLogLost", err)
				}
			case <-time.After(patience):
				t.Fatal("it goes on")
			}
			if !leads {
				return
			}
			// The checkpoint that it left tells whoever starts next, though all that is needed from there on is in the log.
			if from, err := c.checkpoints.load(t.Context(), 0, l.stream); !errors.Is(err, ErrLogLost) {
				t.Errorf("who starts next gets %+v, %v, want ErrLogLost", from, err)
			}
		})
	}
}
