// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/participant"
)

// A crash between publishing and noting it down, and what comes after it is longer than the stream remembers ids: the message
// is found. (The control shows that the stream itself would have taken it again.)
func TestCrashBeforeSettleBeyondTheWindow(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	b := branch(t, text("orders.a", "0"), text("orders.b", "1"))
	d.prepare(b)
	d.publishOnly(b)
	d.passWindow("orders")
	d.crash()
	d.commit(b)
	d.wantStored("ORDERS", "0", "1")

	control, err := d.streams.Publish(t.Context(), "orders.control", nil, jetstream.WithMsgID(messageID(b.Tx, "outbox", 0)))
	must(t, err)
	if control.Duplicate {
		t.Error("the duplicate window had not passed, so this has shown nothing")
	}
}

// The same in the middle of a transaction: what is there is not published again, what is not there is.
func TestCrashBetweenTwoMessages(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	b := branch(t, text("orders.a", "0"), text("orders.b", "1"), text("orders.c", "2"))
	d.prepare(b)
	_, err := d.publisher.send(d.find(b.Tx)) // and it dies before the acknowledgement
	must(t, err)
	must(t, d.nc.Flush())
	eventually(t, "the first message", func() bool { return len(d.stored("ORDERS")) == 1 })
	d.passWindow("orders")
	d.crash()
	d.commit(b)
	d.wantStored("ORDERS", "0", "1", "2")
}

// Nothing was published before the crash: everything is after it.
func TestCrashBeforePublishing(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	b, aborted := branch(t, text("orders.a", "0")), branch(t, text("orders.a", "never"))
	d.prepare(b)
	d.prepare(aborted)
	d.crash()
	prepared, err := d.InDoubt(t.Context())
	must(t, err)
	if len(prepared) != 2 {
		t.Fatalf("in doubt are %v", prepared)
	}
	d.commit(b)
	must(t, d.finish(aborted, false))
	d.wantStored("ORDERS", "0")
}

// A prepare that comes again after everything is over, to an instance that has only the journal: the same answer, and its
// commit publishes nothing anew.
func TestPrepareAgainAfterTheEnd(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	committed, aborted := branch(t, text("orders.a", "0")), branch(t, text("orders.a", "never"))
	for _, b := range []*participant.Branch{committed, aborted} {
		d.prepare(b)
		d.prepare(b)
	}
	d.commit(committed)
	must(t, d.finish(aborted, false))
	d.passWindow("orders")
	d.crash()
	d.prepare(committed)
	d.commit(committed)
	if r := d.PrepareBatch(t.Context(), []*participant.Branch{aborted})[0]; !errors.Is(r.Err, participant.ErrRefused) {
		t.Errorf("prepare after the rollback: %v, %v", r.Vote, r.Err)
	}
	d.wantStored("ORDERS", "0")
}

// An acknowledgement is lost, and it takes longer than half the window until the next attempt.
func TestLostAcknowledgement(t *testing.T) {
	for _, arrived := range []bool{true, false} {
		d := newDesk(t)
		d.stream(orders())
		b := branch(t, text("orders.a", "0"))
		d.prepare(b)
		in := d.find(b.Tx)
		if arrived {
			_, err := d.publisher.send(in)
			must(t, err)
			<-in.await.Ok() // taken here: the outbox never hears of it
			_ = d.publisher.heard(in, errors.New("lost"))
		} else {
			in.since = time.Now() // it was sent, and died on its way
		}
		d.passWindow("orders")
		d.commit(b)
		d.wantStored("ORDERS", "0")
	}
}

// Within the window the stream itself drops the repetition, and nobody has to look.
func TestLostAcknowledgementWithinTheWindow(t *testing.T) {
	d := newDesk(t)
	cfg := orders()
	cfg.Duplicates = time.Hour
	d.stream(cfg)
	b := branch(t, text("orders.a", "0"))
	d.prepare(b)
	in := d.find(b.Tx)
	_, err := d.publisher.send(in)
	must(t, err)
	<-in.await.Ok()
	_ = d.publisher.heard(in, errors.New("lost"))
	since := in.since
	_, err = d.publisher.send(in)
	must(t, err)
	if !in.since.Equal(since) {
		t.Error("it has forgotten when it was tried first")
	}
	d.commit(b)
	d.wantStored("ORDERS", "0")
	if len(d.publisher.seekers) != 0 {
		t.Error("it looked in the stream")
	}
}

// A stream that does not answer holds up the batch for the patience, and what it acknowledges later is taken by the next attempt.
func TestLateAcknowledgement(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	d.publisher.patience = time.Nanosecond
	b := branch(t, text("orders.a", "0"), text("orders.a", "1"))
	d.prepare(b)
	if err := d.finish(b, true); err == nil || !strings.Contains(err.Error(), "not acknowledged yet") {
		t.Fatalf("commit: %v", err)
	}
	d.commit(b)
	d.wantStored("ORDERS", "0", "1")
}

// The stream has lost what it had of that time (a purge; a work queue's consumer would do the same): the outbox cannot know, says
// so, and publishes.
func TestTrimmedStream(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	b, untouched := branch(t, text("orders.a", "0")), branch(t, text("orders.b", "1"))
	d.prepare(b)
	d.publishOnly(b)
	stream, err := d.streams.Stream(t.Context(), "ORDERS")
	must(t, err)
	d.passWindow("orders")
	must(t, stream.Purge(t.Context()))
	d.prepare(untouched)
	d.crash()
	d.commit(untouched)
	if unsure := d.publisher.stats.snapshot().Unsure; unsure > 1 {
		t.Errorf("%d are unsure", unsure)
	}
	d.commit(b)
	d.wantStored("ORDERS", "1", "0")
	if unsure := d.publisher.stats.snapshot().Unsure; unsure == 0 {
		t.Error("nobody was told")
	}
}

// Others' messages are between, and some of them are deleted: what is found is found.
func TestLookingAmongOthers(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	var branches []*participant.Branch
	for i, data := range numbered(20) {
		clear(d.handler.streams.known) // each comes after another sequence
		b := branch(t, text("orders.a", data))
		d.prepare(b)
		if i%2 == 0 {
			d.publishOnly(b)
		}
		ack, err := d.streams.Publish(t.Context(), "orders.probe", nil)
		must(t, err)
		if i%5 == 0 {
			stream, err := d.streams.Stream(t.Context(), "ORDERS")
			must(t, err)
			must(t, stream.DeleteMsg(t.Context(), ack.Sequence))
		}
		branches = append(branches, b)
	}
	for range chunk + 10 {
		_, err := d.streams.PublishAsync("orders.probe", nil)
		must(t, err)
	}
	<-d.streams.PublishAsyncComplete()
	d.passWindow("orders")
	d.crash()
	var outcomes []participant.Outcome
	for _, b := range slices.Backward(branches) { // what is wanted later comes earlier in the stream
		outcomes = append(outcomes, participant.Outcome{Tx: b.Tx, Commit: true})
	}
	must(t, errors.Join(d.FinishBatch(soon(t), outcomes)...))
	if got := len(d.stored("ORDERS")); got != 20 {
		t.Errorf("%d messages, want 20", got)
	}
	if len(d.publisher.seekers) != 0 {
		t.Error("something is still looked for")
	}
}

// The stream is deleted and made anew between prepare and commit: its sequences begin at 1 again.
func TestStreamMadeAnew(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	for range 5 {
		_, err := d.streams.Publish(t.Context(), "orders.probe", nil)
		must(t, err)
	}
	b := branch(t, text("orders.a", "0"))
	d.prepare(b)
	must(t, d.streams.DeleteStream(t.Context(), "ORDERS"))
	if err := d.finish(b, true); err == nil || !strings.Contains(err.Error(), "no response from stream") {
		t.Errorf("commit without the stream: %v", err)
	}
	d.stream(orders())
	d.publishOnly(b)
	d.passWindow("orders")
	d.crash()
	d.commit(b)
	d.wantStored("ORDERS", "0")
}

// Its subject is another stream's by now.
func TestSubjectMoves(t *testing.T) {
	for _, published := range []string{"before", "after", "never"} {
		d := newDesk(t)
		d.stream(orders())
		b := branch(t, text("orders.a", "0"))
		d.prepare(b)
		if published == "before" {
			d.publishOnly(b)
		}
		cfg := orders()
		cfg.Subjects = []string{"old"}
		d.stream(cfg)
		cfg.Name, cfg.Subjects = "NEW", []string{"orders.>"}
		d.stream(cfg)
		if published == "after" {
			d.publishOnly(b)
		}
		d.passWindow("orders")
		d.crash()
		d.commit(b)
		if got := len(d.stored("ORDERS")) + len(d.stored("NEW")); got != 1 {
			t.Errorf("published %s: %d messages", published, got)
		}
	}
}

// An instance that another one has superseded says nothing about what it does not know: the other one may have it open.
func TestSupersededSaysNothing(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	old := d.handler
	d.handler = d.instance()
	b := branch(t, text("orders.a", "0"))
	d.prepare(b)
	for _, commit := range []bool{true, false} {
		if err := old.FinishBatch(t.Context(), []participant.Outcome{{Tx: b.Tx, Commit: commit}})[0]; !errors.Is(err, ErrSuperseded) {
			t.Errorf("the old instance says %v", err)
		}
	}
	if r := old.PrepareBatch(t.Context(), []*participant.Branch{branch(t, text("orders.a", ""))})[0]; !errors.Is(r.Err, ErrSuperseded) {
		t.Errorf("the old instance prepares: %v, %v", r.Vote, r.Err)
	}
	d.commit(b)
	d.wantStored("ORDERS", "0")
}

// Both have the outcome at once, and both publish: the stream drops one.
func TestBothPublish(t *testing.T) {
	d := newDesk(t)
	cfg := orders()
	cfg.Duplicates = time.Minute
	d.stream(cfg)
	b := branch(t, text("orders.a", "0"))
	d.prepare(b)
	old := d.handler
	d.handler = d.instance()
	d.publishOnly(b)
	if err := old.FinishBatch(t.Context(), []participant.Outcome{{Tx: b.Tx, Commit: true}})[0]; !errors.Is(err, ErrSuperseded) {
		t.Errorf("the old instance says %v", err)
	}
	d.commit(b)
	d.wantStored("ORDERS", "0")
}
