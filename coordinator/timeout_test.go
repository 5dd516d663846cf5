// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
)

// Who waits for a transaction whose time is up hears which participants have not voted, also after a change of leaders, as
// long as one of them owes its done. What the log has of it is the bare reason.
func TestATimeoutNamesWhoIsSilent(t *testing.T) {
	w := newWorld(t)
	c, stop := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	names := []string{"a", "b", "c", "d"}
	tx := messages.NewID()
	sub := messages.Submission{Tx: tx, TimeoutMS: time.Hour.Milliseconds()}
	for _, name := range names {
		w.register(c, name)
		sub.Operations = append(sub.Operations, messages.Operation{Participant: name, Payload: []byte(`1`)})
	}
	inbox := w.nc.NewInbox()
	answers, err := w.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.nc.PublishRequest(messages.Subjects{}.Submit(0), inbox, messages.AppendSubmission(nil, &sub)); err != nil {
		t.Fatal(err)
	}
	w.until("it is known", func() bool { return w.knows(c, tx) })
	w.votes("a", &messages.VoteRecord{Tx: tx, Vote: messages.VoteYes})
	w.votes("c", &messages.VoteRecord{Tx: tx, Vote: messages.VoteReadOnly})
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	abort := messages.AppendAbort(nil, &messages.Abort{Tx: tx, Reason: "timeout"}) // as a leader does when the time is up
	if _, err := js.Publish(t.Context(), messages.Subjects{}.Abort(0), abort); err != nil {
		t.Fatal(err)
	}
	want := messages.Answer{Tx: tx, Outcome: messages.Aborted, Reason: "timeout: no vote of b, d"}
	msg, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var got messages.Answer
	if err := new(messages.Decoder).Answer(msg.Data[:len(msg.Data)-1], &got); err != nil || got != want {
		t.Errorf("the client hears %+v, %v; want %+v", got, err, want)
	}
	w.toldByWaiting("afterwards", want)
	stop()
	c, _ = w.coordinate(Config{Name: "second"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.toldByWaiting("by the next leader", want)
	timeline, err := c.leaders[0].show(t.Context(), &TxRequest{Tx: tx})
	if err != nil || timeline.Reason != "timeout" {
		t.Errorf("tx.show gives %+v, %v; want the reason that the log has", timeline, err)
	}
}
