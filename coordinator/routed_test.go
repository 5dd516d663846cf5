// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// eager are participants that vote yes to everything, in raw NATS, and note what they are told to commit: each operation's
// payload, of the first prepare that came for a transaction.
type eager struct {
	w        *world
	mu       sync.Mutex
	prepared map[string][]string // by participant and transaction
	executed map[string]int
	rolled   map[string]int
}

func (w *world) eager(c *Coordinator, names ...string) *eager {
	w.t.Helper()
	e := &eager{w: w, prepared: map[string][]string{}, executed: map[string]int{}, rolled: map[string]int{}}
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range names {
		w.register(c, name)
		for subject, handle := range map[string]nats.MsgHandler{
			messages.Subjects{}.Prepare(0, name): func(msg *nats.Msg) { e.prepare(js, name, msg) },
			messages.Subjects{}.Commits(name):    func(msg *nats.Msg) { e.outcome(name, msg, e.executed) },
			messages.Subjects{}.Rollbacks(name):  func(msg *nats.Msg) { e.outcome(name, msg, e.rolled) },
		} {
			if _, err := w.nc.Subscribe(subject, handle); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if err := w.nc.Flush(); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (e *eager) prepare(js jetstream.JetStream, name string, msg *nats.Msg) {
	var p messages.Prepare
	for line := range messages.Lines(msg.Data) {
		if err := new(messages.Decoder).Prepare(line, &p); err != nil {
			e.w.t.Error(err)
			return
		}
		e.mu.Lock()
		if branch := name + p.Tx.String(); e.prepared[branch] == nil {
			for _, op := range p.Operations {
				e.prepared[branch] = append(e.prepared[branch], string(op.Payload))
			}
		}
		e.mu.Unlock()
		vote := messages.AppendVote(nil, &messages.VoteRecord{Tx: p.Tx, Vote: messages.VoteYes})
		if _, err := js.PublishAsync(messages.Subjects{}.Vote(0, name), vote); err != nil {
			e.w.t.Error(err)
		}
	}
}

func (e *eager) outcome(name string, msg *nats.Msg, into map[string]int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var effect messages.Effect
	for line := range messages.Lines(msg.Data) {
		if err := new(messages.Decoder).Effect(line, &effect); err != nil {
			e.w.t.Error(err)
			return
		}
		branch := name + effect.Tx.String()
		for _, payload := range e.prepared[branch] {
			into[payload]++
		}
		e.prepared[branch] = []string{}
		done := messages.AppendDone(nil, &messages.Done{Tx: effect.Tx, Vote: effect.Vote})
		if err := msg.Respond(done); err != nil {
			e.w.t.Error(err)
		}
	}
}

// settled tells whether nobody holds anything.
func (e *eager) settled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, payloads := range e.prepared {
		if len(payloads) > 0 {
			return false
		}
	}
	return len(e.prepared) > 0
}

// routedTo is a submission of an operation for each participant, in order.
func routedTo(tx messages.ID, epoch uint64, participants ...string) []byte {
	sub := messages.Submission{Tx: tx}
	for i, name := range participants {
		key := "key-" + string(rune('a'+i))
		sub.Operations = append(sub.Operations, messages.Operation{
			Participant: name, Payload: []byte(`"` + key + `"`),
			Route: &messages.Route{Group: "g", Key: key, Incarnation: 1, Epoch: epoch},
		})
	}
	return messages.AppendSubmission(nil, &sub)
}

// Two programs share an id, and route what they submit by rings of different ages; two leaders lead at once, and each takes
// another's submission. Whatever comes first in the log, no operation is executed twice, none alone, and whoever was
// prepared with something else rolls it back.
func TestTwoLeadersTakeWhatIsRoutedDifferently(t *testing.T) {
	w := newWorld(t)
	w.court.deluded = true
	first, _ := w.coordinate(Config{Name: "first", Lease: time.Minute})
	w.until("the first leads", func() bool { return first.leadsShard(0) })
	second, _ := w.coordinate(Config{Name: "second", Lease: time.Minute})
	e := w.eager(first, "n1", "n2", "n3")
	w.until("both know the participants", func() bool { return second.registry.has("n3") && first.registry.has("n3") })
	w.court.take(0, false) // and the first does not hear of it
	w.until("the second leads", func() bool { return second.leadsShard(0) })
	outcomes := map[messages.Outcome]int{}
	for _, c := range [][2][]string{
		{{"n1", "n2"}, {"n2", "n1"}},             // each the other's
		{{"n1", "n2"}, {"n1", "n3"}},             // one has moved
		{{"n1"}, {"n3"}},                         // all have moved
		{{"n1", "n2", "n1"}, {"n1", "n2", "n2"}}, // the same participants, in the same order
		{{"n1", "n2"}, {"n1", "n2"}},             // no difference
	} {
		tx := messages.NewID()
		answers := w.nc.NewInbox()
		heard, err := w.nc.SubscribeSync(answers)
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for i, l := range []*leader{first.leaders[0], second.leaders[0]} {
			both.Go(func() {
				if err := l.inLeader(t.Context(), func() { l.submit(routedTo(tx, uint64(i+1), c[i]...), answers) }); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		outcome := w.agreed(heard, tx)
		outcomes[outcome]++
		w.until("nobody holds anything", e.settled)
		e.wantOnceOrNever(len(c[0]), fmt.Sprint(c))
		if c[0][0] == c[1][0] && len(c[0]) == 2 && c[0][1] == c[1][1] && outcome != messages.Committed {
			t.Errorf("%v twice: %s", c[0], outcome)
		}
	}
	if !first.leadsShard(0) || !second.leadsShard(0) {
		t.Error("two did not lead")
	}
	t.Log(outcomes)
}

// agreed is the outcome that both leaders tell.
func (w *world) agreed(heard *nats.Subscription, tx messages.ID) messages.Outcome {
	w.t.Helper()
	var outcomes []messages.Outcome
	for len(outcomes) < 2 {
		msg, err := heard.NextMsg(patience)
		if err != nil {
			w.t.Fatal(err)
		}
		for line := range messages.Lines(msg.Data) {
			var a messages.Answer
			if err := new(messages.Decoder).Answer(line, &a); err != nil {
				w.t.Fatal(err)
			}
			if a.Tx != tx || a.Outcome == messages.Undecided {
				w.t.Errorf("an answer %+v", a)
			}
			outcomes = append(outcomes, a.Outcome)
		}
	}
	if outcomes[0] != outcomes[1] {
		w.t.Errorf("the leaders tell %v", outcomes)
	}
	return outcomes[0]
}

// preparesOf are the prepares that a leader makes of a submission.
func preparesOf(t *testing.T, submission []byte) (subjects []string, records [][]byte) {
	t.Helper()
	var sub messages.Submission
	if err := new(messages.Decoder).Submission(submission, &sub); err != nil {
		t.Fatal(err)
	}
	routing, _ := sub.Routing(nil)
	names := participantsOf(&sub, nil)
	for _, name := range names {
		subjects = append(subjects, messages.Subjects{}.Prepare(0, name))
		records = append(records, messages.AppendPrepare(nil, &messages.Prepare{
			Tx: sub.Tx, Participants: names, Expires: time.Now().Add(time.Hour).UnixMilli(), Routing: routing,
			Operations: operationsFor(&sub, name, nil),
		}))
	}
	return subjects, records
}

// What two leaders may make of two submissions, in every order in which it may come into the log, and with every pause in
// which the transaction may be decided and finished meanwhile.
func TestPreparesThatAreRoutedDifferently(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	e := w.eager(c, "n1", "n2", "n3")
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, submissions := range [][2][]string{
		{{"n1", "n2"}, {"n2", "n1"}}, {{"n1", "n2"}, {"n1", "n3"}}, {{"n1"}, {"n3"}}, {{"n1", "n2", "n1"}, {"n1", "n2", "n2"}},
	} {
		for order := range 1 << 4 { // from whose prepares the next is
			for _, pausing := range []bool{false, true} {
				tx := messages.NewID()
				var subjects [2][]string
				var records [2][][]byte
				for i := range submissions {
					subjects[i], records[i] = preparesOf(t, routedTo(tx, uint64(i+1), submissions[i]...))
				}
				for step := 0; len(records[0])+len(records[1]) > 0; step++ {
					from := order >> (step % 4) & 1
					if len(records[from]) == 0 {
						from = 1 - from
					}
					if _, err := js.Publish(t.Context(), subjects[from][0], records[from][0]); err != nil {
						t.Fatal(err)
					}
					subjects[from], records[from] = subjects[from][1:], records[from][1:]
					if pausing && len(records[from]) == 0 {
						w.until("what can be decided is finished", func() bool { return w.quiet(c, e, tx) })
					}
				}
				w.until("it is over", func() bool { return w.quiet(c, e, tx) && w.unfinished(c) == 0 })
				e.wantOnceOrNever(len(submissions[0]), fmt.Sprintf("%v and %v, order %04b", submissions[0], submissions[1], order))
			}
		}
	}
}

// quiet tells whether a transaction is finished and nobody holds anything, or it waits for a prepare that has not come.
func (w *world) quiet(c *Coordinator, e *eager, tx messages.ID) (quiet bool) {
	w.t.Helper()
	l := c.leaders[0]
	if err := l.inLeader(w.t.Context(), func() {
		view, known := l.fold.View(tx)
		for _, b := range view.Branches {
			if b.Vote == 0 && b.Prepared {
				return // it is about to come
			}
		}
		quiet = known && (view.Finished || view.Outcome == messages.Undecided)
	}); err != nil {
		w.t.Fatal(err)
	}
	return quiet && (w.unfinished(c) > 0 || e.settled())
}

// wantOnceOrNever wants either all operations to be executed once, or none; and begins anew.
func (e *eager) wantOnceOrNever(operations int, what string) {
	e.w.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range operations {
		key := `"key-` + string(rune('a'+i)) + `"`
		if n := e.executed[key]; n > 1 || n != e.executed[`"key-a"`] {
			e.w.t.Errorf("%s: executed %v", what, e.executed)
			break
		}
	}
	clear(e.executed) // and not prepared: what comes late of a transaction that is over must find it so, as at any participant
}

// A leader died between two prepares, and the client did too; its successor routes the rest to somebody else. Nobody can
// complete that: it is aborted at once, and who repeats what was submitted first hears the same.
func TestARepetitionThatIsRoutedDifferently(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	for _, name := range []string{"n1", "n2", "n3"} {
		w.register(c, name)
	}
	begun := func() messages.ID { // the log has the first of two prepares
		tx := messages.NewID()
		js, err := jetstream.New(w.nc)
		if err != nil {
			t.Fatal(err)
		}
		subjects, records := preparesOf(t, routedTo(tx, 1, "n1", "n2"))
		if _, err := js.Publish(t.Context(), subjects[0], records[0]); err != nil {
			t.Fatal(err)
		}
		w.until("it is read", func() bool { return w.knows(c, tx) })
		return tx
	}
	tx := begun()
	got := w.ask(messages.Subjects{}.Submit(0), routedTo(tx, 2, "n1", "n3"))
	if got.Outcome != messages.Aborted || got.Reason != protocol.ReasonRouting || got.WrongOwner != 0 {
		t.Errorf("routed differently: got %+v, want it to be aborted for that", got)
	}
	if again := w.ask(messages.Subjects{}.Submit(0), routedTo(tx, 1, "n1", "n2")); again != got {
		t.Errorf("as it was submitted first: got %+v, want %+v", again, got)
	}
	// By a newer ring, to the same: that is the same transaction, and its missing prepare is written.
	tx = begun()
	prepares, err := w.nc.SubscribeSync(messages.Subjects{}.Prepare(0, "n2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.nc.Publish(messages.Subjects{}.Submit(0), routedTo(tx, 2, "n1", "n2")); err != nil {
		t.Fatal(err)
	}
	msg, err := prepares.NextMsg(patience)
	if err != nil || !strings.Contains(string(msg.Data), `"key-b"`) {
		t.Errorf("got %v, want n2's prepare", err)
	}
}
