// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// open makes a transaction of one participant, and returns when a coordinator has read its prepare.
func (w *world) open(c *Coordinator, participant string) messages.ID {
	w.t.Helper()
	tx := messages.NewID()
	sub := messages.Submission{Tx: tx, Operations: []messages.Operation{{Participant: participant, Payload: []byte(`1`)}}}
	if err := w.nc.Publish(messages.Subjects{}.Submit(0), messages.AppendSubmission(nil, &sub)); err != nil {
		w.t.Fatal(err)
	}
	w.until("the prepare is read", func() bool { return w.knows(c, tx) })
	return tx
}

func (w *world) knows(c *Coordinator, tx messages.ID) (known bool) {
	w.t.Helper()
	l := c.leaders[0]
	if err := l.inLeader(w.t.Context(), func() { _, known = l.fold.Lookup(tx) }); err != nil {
		w.t.Fatal(err)
	}
	return known
}

// unfinished counts what is open in a coordinator's eyes.
func (w *world) unfinished(c *Coordinator) (open int) {
	w.t.Helper()
	l := c.leaders[0]
	if err := l.inLeader(w.t.Context(), func() { open, _ = l.fold.Len() }); err != nil {
		w.t.Fatal(err)
	}
	return open
}

func (w *world) vote(tx messages.ID, participant string) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	record := messages.AppendVote(nil, &messages.VoteRecord{Tx: tx, Vote: messages.VoteYes})
	if _, err := js.Publish(w.t.Context(), messages.Subjects{}.Vote(0, participant), record); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) register(c *Coordinator, participant string) {
	w.t.Helper()
	if _, err := c.register(w.t.Context(), &messages.RegisterRequest{Name: participant}); err != nil {
		w.t.Fatal(err)
	}
}

// A leader loses its lease between the commit and the done: the next one sends the commit again at once, hears the done, and
// both know that it is over.
func TestWhoTakesOverSendsWhatIsOwed(t *testing.T) {
	w := newWorld(t)
	first, _ := w.coordinate(Config{Name: "first"})
	w.until("the first leads", func() bool { return first.leadsShard(0) })
	second, _ := w.coordinate(Config{Name: "second"})
	w.register(first, "a")
	commits, err := w.nc.SubscribeSync(messages.Subjects{}.Commits("a"))
	if err != nil {
		t.Fatal(err)
	}
	tx := w.open(first, "a")
	w.vote(tx, "a")
	if _, err := commits.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	w.court.take(0, true)
	w.until("the second leads alone", func() bool { return second.leadsShard(0) && !first.leadsShard(0) })
	again, err := commits.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var effect messages.Effect
	var decoder messages.Decoder
	if err := decoder.Effect(again.Data[:len(again.Data)-1], &effect); err != nil || effect.Tx != tx {
		t.Fatalf("got %s, %v; want the commit of %s", again.Data, err, tx)
	}
	if err := w.nc.Publish(again.Reply, messages.AppendDone(nil, &messages.Done{Tx: tx, Vote: effect.Vote})); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Coordinator{first, second} {
		w.until("nothing is open", func() bool { return w.unfinished(c) == 0 })
	}
}

// Who stands by is not there for clients, participants and other coordinators, and writes nothing.
func TestAStandbyDisturbsNobody(t *testing.T) {
	w := newWorld(t)
	first, _ := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return first.leadsShard(0) })
	w.register(first, "a")
	tx := w.open(first, "a")
	w.court.close(true)
	w.court.take(0, true)
	w.until("nobody leads", func() bool { return !first.leadsShard(0) })
	w.vote(tx, "a")
	w.until("the vote is read", func() bool {
		var verdict protocol.Verdict
		l := first.leaders[0]
		if err := l.inLeader(t.Context(), func() { verdict, _ = l.fold.Lookup(tx) }); err != nil {
			t.Fatal(err)
		}
		return verdict.Outcome == messages.Committed
	})
	for _, subject := range []string{
		messages.Subjects{}.Submit(0), messages.Subjects{}.Wait(0), messages.Subjects{}.Done(0, "a"), "assent.lead.0.tx.list",
	} {
		if _, err := w.nc.Request(subject, []byte(`{}`), patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: got %v, want that nobody is there", subject, err)
		}
	}
	if err := w.nc.Publish(messages.Subjects{}.Done(0, "a"), messages.AppendDone(nil, &messages.Done{Tx: tx, Vote: 2})); err != nil {
		t.Fatal(err)
	}
	var owed int
	if err := first.leaders[0].inLeader(t.Context(), func() { owed = first.leaders[0].delivery.Len() }); err != nil || owed != 0 {
		t.Errorf("it keeps %d outcomes to be sent, %v", owed, err)
	}
	info, err := first.leaders[0].stream.Info(t.Context())
	if err != nil || info.State.LastSeq != 2 {
		t.Errorf("the log ends at %d, %v; want a prepare and a vote", info.State.LastSeq, err)
	}
	w.court.close(false)
	w.until("it leads again", func() bool { return first.leadsShard(0) })
	if w.unfinished(first) != 1 {
		t.Error("the transaction is over, though nobody who leads has heard the done")
	}
}

// The leader trims the log while one who stands by is held up: that one begins again from the checkpoint, and can take over.
// It is so too when nothing comes after the trimming that would show it.
func TestAStandbyThatFellBehindBeginsAgain(t *testing.T) {
	for name, more := range map[string]bool{"and more comes": true, "and nothing comes": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			first, stop := w.coordinate(Config{Name: "first"})
			w.until("the first leads", func() bool { return first.leadsShard(0) })
			second, _ := w.coordinate(Config{Name: "second"})
			held, release := make(chan struct{}), make(chan struct{})
			second.leaders[0].calls <- func() { close(held); <-release }
			<-held
			last := w.trim(first)
			if !more { // all that it was sent is of the past
				if err := first.leaders[0].stream.Purge(t.Context(), jetstream.WithPurgeSequence(last+1)); err != nil {
					t.Fatal(err)
				}
			}
			stop()
			close(release)
			w.until("the second leads", func() bool { return second.leadsShard(0) })
			w.register(second, "a")
			w.open(second, "a")
		})
	}
}

// trim writes more into the log than a follower is sent ahead, of what every reader ignores, and trims it away.
func (w *world) trim(c *Coordinator) (last uint64) {
	w.t.Helper()
	l := c.leaders[0]
	body := make([]byte, 128<<10)
	for range tailQueue + 4*tailBytes/len(body) {
		ack, err := c.js.Publish(w.t.Context(), l.subjects.Abort(0), body)
		if err != nil {
			w.t.Fatal(err)
		}
		last = ack.Sequence
	}
	at := protocol.Checkpoint{Sequence: last + 1, LogTime: nowMilli(), Through: last}
	if err := l.checkpoints.save(w.t.Context(), 0, at); err != nil {
		w.t.Fatal(err)
	}
	if err := l.stream.Purge(w.t.Context(), jetstream.WithPurgeSequence(last)); err != nil {
		w.t.Fatal(err)
	}
	return last
}

// The lease was taken away and the message about it got lost: two lead. The one who hears that the other one does asks, and
// stops.
func TestTwoDoNotLeadForEver(t *testing.T) {
	w := newWorld(t)
	first, _ := w.coordinate(Config{Name: "first", Lease: time.Second})
	w.until("the first leads", func() bool { return first.leadsShard(0) })
	second, _ := w.coordinate(Config{Name: "second", Lease: time.Second})
	w.court.take(0, false)
	w.until("the second leads", func() bool { return second.leadsShard(0) })
	w.until("the first does not any more", func() bool { return !first.leadsShard(0) })
	if !second.leadsShard(0) {
		t.Error("nor does the second")
	}
}

// A coordinator that stops while another one stands by has handed the shard over when it ends, and has not waited for what is
// undecided.
func TestWhoStopsHandsOver(t *testing.T) {
	w := newWorld(t)
	first, stop := w.coordinate(Config{Name: "first", DrainTimeout: patience})
	w.until("the first leads", func() bool { return first.leadsShard(0) })
	second, _ := w.coordinate(Config{Name: "second"})
	w.register(first, "a")
	inbox := w.nc.NewInbox()
	answers, err := w.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	sub := messages.Submission{Tx: messages.NewID(), Operations: []messages.Operation{{Participant: "a"}}}
	if err := w.nc.PublishRequest(messages.Subjects{}.Submit(0), inbox, messages.AppendSubmission(nil, &sub)); err != nil {
		t.Fatal(err)
	}
	w.until("it is open", func() bool { return w.knows(first, sub.Tx) })
	began := time.Now()
	stop()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v to stop: it has waited for what is undecided", took)
	}
	if !second.leadsShard(0) {
		t.Error("the second does not lead")
	}
	msg, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var answer messages.Answer
	var decoder messages.Decoder
	if err := decoder.Answer(msg.Data[:len(msg.Data)-1], &answer); err != nil || answer.Error != messages.CodeTryAgain || answer.Tx != sub.Tx {
		t.Errorf("got %s, %v; want that the client is told to try again", msg.Data, err)
	}
	w.until("the second has read it", func() bool { return w.knows(second, sub.Tx) })
}

// What is kept of the history is what the configuration says, whoever leads, and whenever it came.
func TestHistoryIsAsConfigured(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first", History: 7 * time.Minute, HistoryBytes: 1 << 20, MaxBytes: 1 << 30})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	var kept history
	l := c.leaders[0]
	if err := l.inLeader(t.Context(), func() { kept = l.history }); err != nil {
		t.Fatal(err)
	}
	if kept.keep != 7*time.Minute || kept.keepBytes != 1<<20 {
		t.Errorf("it keeps %v and %d bytes", kept.keep, kept.keepBytes)
	}
}

// A lease is granted while the log is out of reach. That is no reason to end: the coordinator leads when it can.
func TestALeaseIsOfNoUseWhileTheLogIsAway(t *testing.T) {
	w := newWorld(t)
	log, heard := test.NewNullLogger()
	w.court.close(true)
	c, _ := w.coordinate(Config{Name: "first", Log: log})
	address := strings.TrimPrefix(w.server.URL(), "nats://")
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	w.court.close(false)
	w.until("it declines", func() bool {
		return slices.ContainsFunc(heard.AllEntries(), func(e *logrus.Entry) bool { return e.Message == "the shard cannot be led now: standing by" })
	})
	w.start(address)
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "a")
	w.open(c, "a")
}
