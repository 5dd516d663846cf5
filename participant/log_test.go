// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// A prepare that comes again is answered, and asked of the handler only once while the branch is open.
func TestRedelivery(t *testing.T) {
	inBubble(t, func(w *world) {
		d, h := w.openDesk(), newHandler()
		release := make(chan struct{})
		h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			<-release
			return participant.Yes, nil
		}
		w.join("p", h)
		tx := newID()
		prepare := line(tx, "p", time.Minute)
		d.prepare("p", prepare)
		d.prepare("p", prepare, prepare)
		eventually(w, "all are delivered", func() bool {
			consumer, err := d.js.Consumer(w.Context(), subjects.Stream(0), "p")
			must(t, err)
			return consumer.CachedInfo().NumPending == 0
		})
		close(release)
		d.vote(tx, messages.VoteYes)
		d.prepare("p", prepare)
		d.acknowledged("p")
		if len(h.prepared) != 1 {
			t.Errorf("%d calls of Prepare, want 1", len(h.prepared))
		}
	})
}

// Records that no reader understands are passed over; their neighbours are not.
func TestMalformedPrepare(t *testing.T) {
	inBubble(t, func(w *world) {
		d, h := w.openDesk(), newHandler()
		w.join("p", h)
		tx, other := newID(), newID()
		d.prepare("p", `not JSON`, `{}`, line(other, "somebody-else", time.Minute), line(tx, "p", time.Minute), "\xff\xff")
		d.prepare("p")
		d.vote(tx, messages.VoteYes)
		d.acknowledged("p")
		if len(d.votes) != 0 || len(h.prepared) != 1 {
			t.Errorf("%d more votes and %d prepares, want none and 1", len(d.votes), len(h.prepared))
		}
		for _, body := range []string{"", "not JSON\n", string(messages.AppendEffect(nil, &messages.Effect{Tx: tx, Vote: 3})) + "\n\xff"} {
			must(t, w.nc.PublishRequest(subjects.Commit(0, "p"), "reply", []byte(body)))
			must(t, w.nc.Publish(subjects.Rollback(0, "p"), []byte(body)))
		}
		if got := receive(w, h.committed, "a commit"); got != tx {
			t.Errorf("committed %s, want %s", got, tx)
		}
	})
}

func TestExpiredPrepare(t *testing.T) {
	inBubble(t, func(w *world) {
		d, h := w.openDesk(), newHandler()
		w.join("p", h)
		tx := newID()
		d.prepare("p", line(tx, "p", -time.Second))
		if vote := d.vote(tx, messages.VoteNo); !vote.Held || !strings.Contains(vote.Reason, "expiry") {
			t.Errorf("vote %+v, want one that is held, because of the expiry", vote)
		}
		if len(h.prepared) != 0 {
			t.Error("Prepare was called after the expiry")
		}
	})
}

// An instance must not guess what a newer protocol means: Run stops, and leaves the message to a newer instance.
func TestNewerVersion(t *testing.T) {
	for name, send := range map[string]func(d *desk, tx messages.ID){
		"prepare": func(d *desk, tx messages.ID) {
			d.prepare("p", strings.Replace(line(tx, "p", time.Minute), `{`, `{"v":2,`, 1))
		},
		"commit": func(d *desk, tx messages.ID) {
			must(d.w, d.w.nc.PublishRequest(subjects.Commit(0, "p"), "reply", []byte(`{"v":2,"tx":"`+tx.String()+`"}`)))
		},
	} {
		inBubble(t, func(w *world) {
			d, h := w.openDesk(), newHandler()
			r := w.join("p", h)
			send(d, newID())
			if err := r.wait(); !errors.Is(err, messages.ErrNewerVersion) || !strings.Contains(err.Error(), "upgrade") {
				t.Errorf("%s: Run: %v", name, err)
			}
			if len(h.prepared)+len(h.committed) != 0 {
				t.Errorf("%s: the handler was asked", name)
			}
		})
	}
}

// A log that was made anew while the participant runs has lost data.
func TestLogMadeAnew(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		r := w.join("p", newHandler())
		must(t, d.js.DeleteStream(w.Context(), subjects.Stream(0)))
		<-time.After(time.Minute) // the bubble's: without a log there is nothing to register for
		select {
		case err := <-r.err:
			t.Fatalf("Run ended while the log was away: %v", err)
		default:
		}
		d.makeLog()
		if err := r.wait(); !errors.Is(err, participant.ErrLogLost) || !strings.Contains(err.Error(), "made anew") {
			t.Errorf("Run: %v", err)
		}
	})
}

// A log that ends before a vote it had taken has lost data. (A reconnection is when that is noticed.)
func TestLogShorter(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		nc := w.connect()
		p, r := w.start(nc, participant.Config{Name: "p", Handler: newHandler()})
		receive(w, p.Ready(), "the participant is ready")
		tx := newID()
		d.prepare("p", line(tx, "p", time.Minute))
		d.vote(tx, messages.VoteYes)
		d.acknowledged("p")
		for range 10 {
			d.responses <- func(r *messages.RegisterResponse) { r.Shards[0].LastSequence-- }
		}
		must(t, nc.ForceReconnect())
		if err := r.wait(); !errors.Is(err, participant.ErrLogLost) || !strings.Contains(err.Error(), "ends at sequence 1") {
			t.Errorf("Run: %v", err)
		}
	})
}

// A server of the log that was paused, and deposed meanwhile, answers until it has heard of that: by such an answer no log has lost data.
func TestLogShorterByAServerOfThePast(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		nc := w.connect()
		h := newHandler()
		h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) { return participant.ReadOnly, nil }
		p, r := w.start(nc, participant.Config{Name: "p", Handler: h})
		receive(w, p.Ready(), "the participant is ready")
		receive(w, d.asked, "the first registration")
		for range 2 {
			tx := newID()
			d.prepare("p", line(tx, "p", time.Minute))
			d.vote(tx, messages.VoteReadOnly)
			d.acknowledged("p")
			for range 3 {
				d.responses <- func(r *messages.RegisterResponse) { r.Shards[0].LastSequence-- }
			}
			must(t, nc.ForceReconnect())
			for range 4 {
				receive(w, d.asked, "another registration")
			}
			<-time.After(time.Minute) // the bubble's: what was said then counts no more
		}
		r.end()
	})
}

// A vote that is stored after the coordinator looked at the log, and before its answer came, is no loss.
func TestVoteWhileRegistering(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		nc := w.connect()
		p, r := w.start(nc, participant.Config{Name: "p", Handler: newHandler()})
		receive(w, p.Ready(), "the participant is ready")
		receive(w, d.asked, "the first registration")
		d.responses <- func(*messages.RegisterResponse) { // it has looked at the log already
			tx := newID()
			d.prepare("p", line(tx, "p", time.Minute))
			d.vote(tx, messages.VoteYes)
			d.acknowledged("p") // the participant knows its vote's place
		}
		must(t, nc.ForceReconnect())
		receive(w, d.asked, "the second registration")
		tx := newID()
		d.prepare("p", line(tx, "p", time.Minute))
		d.vote(tx, messages.VoteYes)
		r.end()
	})
}

// Another instance votes, and keeps its watermark, after the coordinator looked at the log and before this one reads it: no loss.
func TestSiblingVotesWhileRegistering(t *testing.T) {
	inBubble(t, func(w *world) {
		d, s := w.openDesk(), newStore()
		first := w.join("p", s)
		receive(w, d.asked, "the first instance registers")
		d.responses <- func(*messages.RegisterResponse) { // it has looked at the log already
			tx := newID()
			d.prepare("p", line(tx, "p", time.Minute))
			d.vote(tx, messages.VoteYes)
			d.acknowledged("p")
			for receive(w, s.saved, "the watermark of the vote") == 0 {
			}
		}
		w.join("p", s).end()
		first.end()
	})
}

func TestOtherNumberOfShards(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		nc := w.connect()
		p, r := w.start(nc, participant.Config{Name: "p", Handler: newHandler()})
		receive(w, p.Ready(), "the participant is ready")
		d.responses <- func(r *messages.RegisterResponse) { r.Shards = append(r.Shards, r.Shards[0]) }
		must(t, nc.ForceReconnect())
		if err := r.wait(); !errors.Is(err, participant.ErrLogLost) {
			t.Errorf("Run: %v", err)
		}
	})
}

// store is a handler that keeps watermarks, and knows what is in doubt.
type store struct {
	*handler
	mu          sync.Mutex
	incarnation string
	sequence    uint64
	saved       chan uint64
	fail        error
	recalled    []participant.Prepared
	doubt       []messages.ID
	doubtErr    error
}

func newStore() *store { return &store{handler: newHandler(), saved: make(chan uint64, 1024)} }

func (s *store) Watermark(context.Context, string) (string, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.incarnation, s.sequence, s.fail
}

func (s *store) SetWatermark(_ context.Context, stream, incarnation string, sequence uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if stream != subjects.Stream(0) {
		return errors.New("an unknown stream")
	}
	s.incarnation, s.sequence = incarnation, sequence
	s.saved <- sequence
	return nil
}

func (s *store) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *store) InDoubt(context.Context) ([]participant.Prepared, error) {
	branches := s.recalled
	for _, tx := range s.doubt {
		branches = append(branches, participant.Prepared{Tx: tx})
	}
	return branches, s.doubtErr
}

// A watermark that outlives the instance recognises a lost log across restarts.
func TestWatermark(t *testing.T) {
	inBubble(t, func(w *world) {
		d, s := w.openDesk(), newStore()
		s.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) { return participant.ReadOnly, nil }
		r := w.join("p", s)
		if got := receive(w, s.saved, "the first watermark"); got != 0 {
			t.Errorf("saved %d before any vote", got)
		}
		for i := range uint64(3) {
			tx := newID()
			d.prepare("p", line(tx, "p", time.Minute))
			d.vote(tx, messages.VoteReadOnly)
			if got := receive(w, s.saved, "a watermark"); got != 2*i+2 {
				t.Errorf("saved %d, want the vote's sequence %d", got, 2*i+2)
			}
		}
		s.setFail(errors.New("the store is busy"))
		tx := newID()
		d.prepare("p", line(tx, "p", time.Minute))
		d.vote(tx, messages.VoteReadOnly)
		<-time.After(time.Minute) // the bubble's
		s.setFail(nil)
		if got := receive(w, s.saved, "the watermark that could not be kept at first"); got != 8 {
			t.Errorf("saved %d, want 8", got)
		}
		tx = newID()
		d.prepare("p", line(tx, "p", time.Minute))
		d.vote(tx, messages.VoteReadOnly)
		d.acknowledged("p")
		r.end()
		if s.sequence != 10 {
			t.Errorf("saved %d at the end, want 10", s.sequence)
		}
		w.join("p", s).end() // nothing is lost

		for range 10 {
			d.responses <- func(r *messages.RegisterResponse) { r.Shards[0].LastSequence = 9 }
		}
		_, r = w.start(w.connect(), participant.Config{Name: "p", Handler: s})
		if err := r.wait(); !errors.Is(err, participant.ErrLogLost) || !strings.Contains(err.Error(), "ends at sequence 9") {
			t.Errorf("Run on a shorter log: %v", err)
		}
		for len(d.responses) > 0 {
			<-d.responses
		}
		d.responses <- func(r *messages.RegisterResponse) { r.Shards[0].Incarnation = "another" }
		_, r = w.start(w.connect(), participant.Config{Name: "p", Handler: s})
		if err := r.wait(); !errors.Is(err, participant.ErrLogLost) || !strings.Contains(err.Error(), "made anew") {
			t.Errorf("Run on another log: %v", err)
		}
	})
}

// A store that cannot say its watermark is asked again; the participant does not begin without it.
func TestWatermarkUnreadable(t *testing.T) {
	inBubble(t, func(w *world) {
		w.openDesk()
		s := newStore()
		s.setFail(errors.New("the store is busy"))
		p, r := w.start(w.connect(), participant.Config{Name: "p", Handler: s})
		<-time.After(time.Minute) // the bubble's
		select {
		case <-p.Ready():
			t.Error("ready without a watermark")
		case err := <-r.err:
			t.Fatalf("Run: %v", err)
		default:
		}
		s.setFail(nil)
		receive(w, p.Ready(), "the participant is ready")
	})
}

// At its start a participant repeats the votes of what its store holds: a real coordinator answers with the outcomes.
func TestInDoubt(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		s := newStore()
		s.commit = func(context.Context, messages.ID) error { return errors.New("not yet") }
		first := w.join("p", s)
		decided, err := commit(w, w.client(), time.Minute, "p")
		must(t, err)
		first.end()
		unknown := newID()
		s.commit, s.doubt = nil, []messages.ID{decided, unknown}
		w.join("p", s)
		if got := receive(w, s.committed, "a commit"); got != decided {
			t.Errorf("committed %s, want %s", got, decided)
		}
		if got := receive(w, s.rolledBack, "a rollback, by presumption"); got != unknown {
			t.Errorf("rolled back %s, want %s", got, unknown)
		}

		s = newStore()
		s.doubtErr = errors.New("the store is broken")
		_, r := w.start(w.connect(), participant.Config{Name: "p", Handler: s})
		if err := r.wait(); !errors.Is(err, s.doubtErr) {
			t.Errorf("Run with a store that does not know: %v", err)
		}
	})
}

// What is in doubt for long asks for its outcome by repeating its vote.
func TestDoubtIsRepeated(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		r := w.join("p", newHandler())
		tx := newID()
		d.prepare("p", line(tx, "p", time.Minute))
		for range 4 {
			d.vote(tx, messages.VoteYes)
		}
		r.end()
	})
}

// A registration that failed is tried again, for as long as it takes.
func TestRegistrationFails(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		must(t, d.js.DeleteStream(w.Context(), subjects.Stream(0)))
		p, r := w.start(w.connect(), participant.Config{Name: "p", Handler: newHandler()})
		for range 5 {
			receive(w, d.asked, "a registration that fails")
		}
		d.makeLog()
		receive(w, p.Ready(), "the participant is ready")
		r.end()
	})
}
