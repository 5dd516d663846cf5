// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// ask sends a record about a transaction to shard 0, and gives the answer.
func (w *world) ask(subject string, record []byte) messages.Answer {
	w.t.Helper()
	msg, err := w.nc.Request(subject, record, patience)
	if err != nil {
		w.t.Fatal(err)
	}
	var decoder messages.Decoder
	var answer messages.Answer
	for line := range messages.Lines(msg.Data) {
		if err := decoder.Answer(line, &answer); err != nil {
			w.t.Fatal(err)
		}
	}
	return answer
}

// voteMoved has a participant say that a key has moved.
func (w *world) voteMoved(tx messages.ID, participant string, epoch uint64) {
	w.t.Helper()
	w.votes(participant, &messages.VoteRecord{Tx: tx, Vote: messages.VoteNo, Reason: "it has moved", Held: true, WrongOwner: epoch})
}

func (w *world) votes(participant string, v *messages.VoteRecord) {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := js.Publish(w.t.Context(), messages.Subjects{}.Vote(0, participant), messages.AppendVote(nil, v)); err != nil {
		w.t.Fatal(err)
	}
}

// forgets makes a leader forget every transaction, as time would.
func (w *world) forgets(c *Coordinator) {
	w.t.Helper()
	l := c.leaders[0]
	if err := l.inLeader(w.t.Context(), func() {
		l.fold = protocol.NewFold(protocol.FoldConfig{}, protocol.Checkpoint{Sequence: l.fold.Sequence() + 1})
	}); err != nil {
		w.t.Fatal(err)
	}
}

// Who asks for a transaction that met a move is told so, whenever and however: at once, from the memory, from the next
// leader's replay and from the log's history.
func TestAMoveIsTold(t *testing.T) {
	toldAlways(t, messages.VoteRecord{Vote: messages.VoteNo, Reason: "it has moved", Held: true, WrongOwner: 13})
}

// So is who asks for one that met another one on a key.
func TestAConflictIsTold(t *testing.T) {
	toldAlways(t, messages.VoteRecord{Vote: messages.VoteNo, Reason: "account/7 is locked", Held: true, Conflict: true})
}

func toldAlways(t *testing.T, no messages.VoteRecord) {
	w := newWorld(t)
	c, stop := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "n1")
	route := &messages.Route{Group: "accounts", Key: "account/7", Incarnation: 1, Epoch: 12}
	tx := messages.NewID()
	submission := messages.AppendSubmission(nil, &messages.Submission{
		Tx: tx, Operations: []messages.Operation{{Participant: "n1", Route: route, Payload: []byte(`1`)}},
	})
	inbox := w.nc.NewInbox()
	answers, err := w.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	prepares, err := w.nc.SubscribeSync(messages.Subjects{}.Prepare(0, "n1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.nc.PublishRequest(messages.Subjects{}.Submit(0), inbox, submission); err != nil {
		t.Fatal(err)
	}
	w.wantRoute(prepares, route)
	no.Tx = tx
	w.votes("n1", &no)
	want := messages.Answer{
		Tx: tx, Outcome: messages.Aborted, Participant: "n1", Reason: no.Reason, WrongOwner: no.WrongOwner, Conflict: no.Conflict,
	}
	msg, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	var first messages.Answer
	if err := new(messages.Decoder).Answer(msg.Data[:len(msg.Data)-1], &first); err != nil || first != want {
		t.Errorf("at once: got %+v, %v; want %+v", first, err, want)
	}
	told := func(when string) {
		t.Helper()
		if got := w.ask(messages.Subjects{}.Submit(0), submission); got != want {
			t.Errorf("%s, submitted again: got %+v, want %+v", when, got, want)
		}
		w.toldByWaiting(when, want)
	}
	told("from what is open")
	w.shownNo(c, want)
	list, err := c.leaders[0].list(t.Context(), &ListRequest{Limit: 10})
	if err != nil || len(list.Transactions) != 1 || list.Transactions[0].WrongOwner != no.WrongOwner || list.Transactions[0].Conflict != no.Conflict {
		t.Errorf("tx.list gives %+v, %v; want %+v", list, err, want)
	}
	stop()
	c, _ = w.coordinate(Config{Name: "second"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	told("after a replay")
	w.forgets(c)
	w.toldByWaiting("from the history", want)
	w.shownNo(c, want)
}

func (w *world) toldByWaiting(when string, want messages.Answer) {
	w.t.Helper()
	for _, wait := range []messages.Wait{{Tx: want.Tx}, {Tx: want.Tx, Now: true}} {
		if got := w.ask(messages.Subjects{}.Wait(0), messages.AppendWait(nil, &wait)); got != want {
			w.t.Errorf("%s, now %v: got %+v, want %+v", when, wait.Now, got, want)
		}
	}
}

func (w *world) wantRoute(prepares *nats.Subscription, want *messages.Route) {
	w.t.Helper()
	msg, err := prepares.NextMsg(patience)
	if err != nil {
		w.t.Fatal(err)
	}
	var prepare messages.Prepare
	for line := range messages.Lines(msg.Data) {
		if err := new(messages.Decoder).Prepare(line, &prepare); err != nil {
			w.t.Fatal(err)
		}
	}
	if got := prepare.Operations[0].Route; got == nil || *got != *want {
		w.t.Errorf("the prepare's route is %+v, want %+v", got, want)
	}
}

// shownNo wants the API to tell of a move, and under which id the client tries again, or of a conflict.
func (w *world) shownNo(c *Coordinator, want messages.Answer) {
	w.t.Helper()
	ctx := w.t.Context()
	var next messages.ID
	if want.WrongOwner != 0 {
		next = want.Tx.Next()
	}
	timeline, err := c.leaders[0].show(ctx, &TxRequest{Tx: want.Tx})
	if err != nil || timeline.WrongOwner != want.WrongOwner || timeline.Next != next || timeline.Conflict != want.Conflict {
		w.t.Errorf("tx.show gives %+v, %v; want %+v and the next id %s", timeline, err, want, next)
	}
	outcome, err := c.leaders[0].abort(ctx, &TxRequest{Tx: want.Tx})
	var failure *apiError
	switch {
	case errors.As(err, &failure) && failure.code == codeNotFound: // forgotten
	case err != nil || outcome.WrongOwner != want.WrongOwner || outcome.Conflict != want.Conflict:
		w.t.Errorf("tx.abort gives %+v, %v; want %+v", outcome, err, want)
	}
}

// What was refused, or aborted by hand, is nothing to try again.
func TestARefusalIsNoMove(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "n1")
	tx := w.open(c, "n1")
	if _, err := c.leaders[0].abort(t.Context(), &TxRequest{Tx: tx}); err != nil {
		t.Fatal(err)
	}
	w.voteMoved(tx, "n1", 13)
	got := w.ask(messages.Subjects{}.Wait(0), messages.AppendWait(nil, &messages.Wait{Tx: tx}))
	if got.Outcome != messages.Aborted || got.WrongOwner != 0 {
		t.Errorf("got %+v, want an abort without a move", got)
	}
	timeline, err := c.leaders[0].show(t.Context(), &TxRequest{Tx: tx})
	if err != nil || timeline.WrongOwner != 0 || !timeline.Next.IsZero() {
		t.Errorf("tx.show gives %+v, %v; want no next id", timeline, err)
	}
}

// The quick look at a submission's size counts its keys and locks: a prepare that is too large for them alone is refused.
func TestKeysAndLocksCountForTheSizeOfAPrepare(t *testing.T) {
	long := strings.Repeat("\x01", messages.MaxKey) // of which each byte is six in the record
	for name, sub := range map[string]messages.Submission{
		"keys":   {Operations: []messages.Operation{{Participant: "n1", Keys: slices.Repeat([]string{long}, 43)}}},
		"shared": {Operations: []messages.Operation{{Participant: "n1", Shared: slices.Repeat([]string{long}, 43)}}},
		"locks":  {Operations: []messages.Operation{{Participant: "n1"}}, Locks: slices.Repeat([]messages.Lock{{Key: long, Token: "t"}}, 43)},
	} {
		refusal := (&leader{}).tooLarge(&messages.Prepare{Tx: messages.NewID(), Participants: []string{"n1"}, Locks: sub.Locks}, &sub)
		if refusal == nil || refusal.Error != messages.CodeTooLarge {
			t.Errorf("%s: %+v", name, refusal)
		}
	}
}

// The quick look at a submission's size counts its routes: a prepare that is too large for them alone is refused.
func TestRoutesCountForTheSizeOfAPrepare(t *testing.T) {
	route := &messages.Route{Group: "g", Key: strings.Repeat("k", messages.MaxRouteKey), Incarnation: 1, Epoch: 1}
	for _, count := range []int{1, messages.MaxRecord / messages.MaxRouteKey} {
		sub := messages.Submission{Tx: messages.NewID(), Operations: make([]messages.Operation, count)}
		for i := range sub.Operations {
			sub.Operations[i] = messages.Operation{Participant: "n1", Route: route}
		}
		l := &leader{}
		refusal := l.tooLarge(&messages.Prepare{Tx: sub.Tx, Participants: []string{"n1"}}, &sub)
		if (refusal != nil) != (count > 1) {
			t.Errorf("%d routes: %+v", count, refusal)
		}
	}
}
