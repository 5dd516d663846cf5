// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/messages"
)

// lapse ends a lease, and its holder has to look at the clock to know: it was paused.
func (c *court) lapse(shard int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders[shard].err = errors.New("it has run out")
}

// asked sends a transaction of one participant, and gives where its answers come.
func (w *world) asked(tx messages.ID, participant string) *nats.Subscription {
	w.t.Helper()
	inbox := w.nc.NewInbox()
	answers, err := w.nc.SubscribeSync(inbox)
	if err != nil {
		w.t.Fatal(err)
	}
	sub := messages.Submission{Tx: tx, Operations: []messages.Operation{{Participant: participant, Payload: []byte(`1`)}}}
	if err := w.nc.PublishRequest(messages.Subjects{}.Submit(0), inbox, messages.AppendSubmission(nil, &sub)); err != nil {
		w.t.Fatal(err)
	}
	return answers
}

// answered reads the next answer.
func (w *world) answered(answers *nats.Subscription) (a messages.Answer) {
	w.t.Helper()
	msg, err := answers.NextMsg(patience)
	if err != nil {
		w.t.Fatal(err)
	}
	var decoder messages.Decoder
	for line := range messages.Lines(msg.Data) {
		if err := decoder.Answer(line, &a); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}

// A leader is paused, and its lease runs out. What has come meanwhile the next leader had as well, and has perhaps refused for good: then the client has
// gone on without it, and it must not happen any more.
func TestWhoWakesUpWithoutTheLeaseTakesNothing(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first", DrainTimeout: patience})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "a")
	l := c.leaders[0]
	paused, wake := make(chan struct{}), make(chan struct{})
	l.calls <- func() { close(paused); <-wake }
	<-paused
	tx := messages.NewID()
	answers := w.asked(tx, "a")
	w.until("the submission has come", func() bool { return len(l.submits) == 1 })
	w.court.close(true)
	w.court.lapse(0)
	close(wake)
	if got := w.answered(answers); got.Tx != tx || got.Error != messages.CodeTryAgain {
		t.Errorf("got %+v, want to try again", got)
	}
	w.until("it stands by", func() bool { return !c.leadsShard(0) })
	w.court.close(false)
	w.until("it leads again", func() bool { return c.leadsShard(0) })
	last := w.open(c, "a")
	if w.knows(c, tx) {
		t.Error("what came while it was paused is in the log")
	}
	w.vote(last, "a")
}

// While a shard is handed over its next leader may lead already, and accept what this one refuses: so this one does not say that it is refused.
func TestWhoHandsOverRefusesNothingForGood(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first", MaxOpen: 1, Lease: 20 * time.Second, DrainTimeout: patience})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "a")
	refusals := map[string]messages.Code{"a": messages.CodeOverloaded, "nobody": messages.CodeUnknownParticipant}
	tx := w.open(c, "a")
	for name, code := range refusals {
		if got := w.answered(w.asked(messages.NewID(), name)); got.Error != code {
			t.Errorf("%s, while it leads: got %+v, want %s", name, got, code)
		}
	}
	w.court.close(true)
	signal(c.leaders[0].yield)
	w.until("it hands the shard over", func() bool { return c.share.handing(0) })
	for name := range refusals {
		if got := w.answered(w.asked(messages.NewID(), name)); got.Error != messages.CodeTryAgain {
			t.Errorf("%s, while it hands over: got %+v, want to try again", name, got)
		}
	}
	w.court.close(false)
	w.until("the lease comes back", func() bool { return !c.share.handing(0) })
	for name, code := range refusals {
		if got := w.answered(w.asked(messages.NewID(), name)); got.Error != code {
			t.Errorf("%s, while it leads again: got %+v, want %s", name, got, code)
		}
	}
	w.vote(tx, "a")
}
