// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// attempt writes an attempt into the log that met a move, however old its id is.
func (r *routed) attempt(t *testing.T, id assent.ID) {
	t.Helper()
	js, err := jetstream.New(r.nc)
	must(t, err)
	p := messages.Prepare{
		Tx: id, Participants: []string{"p"}, Expires: time.Now().Add(time.Hour).UnixMilli(),
		Operations: []messages.Operation{{Payload: []byte(`1`)}},
	}
	_, err = js.Publish(patient(t), messages.Subjects{}.Prepare(0, "p"), messages.AppendPrepare(nil, &p))
	must(t, err)
	vote(t, r.nc, id, &messages.VoteRecord{Vote: messages.VoteNo, Reason: "k1 has moved", WrongOwner: 3}, "p")
	r.decided(t, id)
}

// decided waits until an attempt is decided.
func (r *routed) decided(t *testing.T, id assent.ID) {
	t.Helper()
	var answer messages.Answer
	eventually(t, "it is decided", func() bool {
		msg, err := r.nc.RequestWithContext(patient(t), messages.Subjects{}.Wait(0), messages.AppendWait(nil, &messages.Wait{Tx: id}))
		must(t, err)
		for line := range messages.Lines(msg.Data) {
			must(t, new(messages.Decoder).Answer(line, &answer))
		}
		return answer.Outcome != assent.Undecided // not found: the leader has not read it yet
	})
}

// A transaction that met a move is undecided while its next attempt may still be submitted, and then aborted.
func TestAChainThatIsNotGoneOnWith(t *testing.T) {
	r := newRouted(t)
	for _, c := range []struct {
		age      time.Duration
		attempts int
		want     assent.Outcome
	}{
		{0, 1, assent.Undecided}, {30 * time.Second, 1, assent.Undecided}, {0, 4, assent.Undecided},
		{71 * time.Second, 1, assent.Aborted}, {71 * time.Second, 3, assent.Aborted},
	} {
		first := agedID(c.age)
		id := first
		for range c.attempts {
			r.attempt(t, id)
			id = id.Next()
		}
		if outcome, err := r.client.Outcome(patient(t), first); outcome != c.want || err != nil {
			t.Errorf("%d attempts, %v ago: %v, %v; want %v", c.attempts, c.age, outcome, err, c.want)
		}
		if c.want != assent.Aborted {
			continue
		}
		if outcome, err := r.client.Wait(patient(t), first); outcome != c.want || err != nil {
			t.Errorf("%d attempts, %v ago: waited for %v, %v; want %v", c.attempts, c.age, outcome, err, c.want)
		}
	}
}

// Who waits for the next attempt of a chain hears of it when it comes, or that it cannot come any more, or nothing.
func TestWaitForTheNextAttempt(t *testing.T) {
	r := newRouted(t)
	id := agedID(69 * time.Second)
	r.attempt(t, id)
	if outcome, err := r.client.Wait(patient(t), id); outcome != assent.Aborted || err != nil {
		t.Errorf("when it is too old: %v, %v; want aborted", outcome, err)
	}
	id = assent.NewID()
	r.attempt(t, id)
	eventually(t, "an unknown outcome because it met a move", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_, err := r.client.Wait(ctx, id)
		var unknown *assent.UnknownError
		if !errors.As(err, &unknown) || unknown.Tx != id || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want that the outcome of %s is unknown", err, id)
		}
		return errors.Is(err, assent.ErrMoved) // it had heard that the next attempt is not there
	})
	waited := make(chan error, 1)
	closing := newClient(t, r.nc)
	go func() {
		_, err := closing.Wait(patient(t), id)
		waited <- err
	}()
	eventually(t, "it is asked about", func() bool {
		_, err := closing.Outcome(patient(t), id)
		return err == nil
	})
	closing.Close()
	if err := receive(t, waited, "Wait returns"); !errors.Is(err, assent.ErrClosed) {
		t.Errorf("the client was closed: %v", err)
	}
}

// A Commit of an id that is too old to be submitted goes through its chain.
func TestAnOldIDThatMetMoves(t *testing.T) {
	r := newRouted(t)
	id := agedID(71 * time.Second)
	r.attempt(t, id)
	r.attempt(t, id.Next())
	tx := begin(r.client, assent.WithID(id))
	err := tx.Commit(patient(t))
	var aborted *assent.AbortedError
	if !errors.As(err, &aborted) || aborted.Tx != id || aborted.Attempt != id.Next() || aborted.WrongOwner != 3 ||
		!errors.Is(err, assent.ErrMoved) || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("got %v, want an abort of the second attempt because keys were moving", err)
	}
	if tx.Last() != id.Next() {
		t.Errorf("the last attempt is %s, want %s", tx.Last(), id.Next())
	}
	r.nodes.wantExecuted(`"one"`, 0)

	committed := agedID(71 * time.Second)
	r.attempt(t, committed)
	r.attempt(t, committed.Next())
	last := committed.Next().Next()
	js, err := jetstream.New(r.nc)
	must(t, err)
	p := messages.Prepare{
		Tx: last, Participants: []string{"p"}, Expires: time.Now().Add(time.Hour).UnixMilli(), Operations: []messages.Operation{{}},
	}
	_, err = js.Publish(patient(t), messages.Subjects{}.Prepare(0, "p"), messages.AppendPrepare(nil, &p))
	must(t, err)
	vote(t, r.nc, last, &messages.VoteRecord{Vote: messages.VoteReadOnly}, "p")
	r.decided(t, last)
	tx = begin(r.client, assent.WithID(committed))
	must(t, tx.Commit(patient(t)))
	if tx.Last() != last {
		t.Errorf("the last attempt is %s, want %s", tx.Last(), last)
	}
}

// A transaction that names its participants is not tried again: it would go to the same ones.
func TestAMoveThatIsNotRouted(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	n := newNodes(t, nc, map[string]string{}, "n1")
	n.hooked(func(tx assent.ID, node string) {
		vote(t, nc, tx, &messages.VoteRecord{Vote: messages.VoteNo, Reason: "k has moved", WrongOwner: 3}, node)
	})
	tx := newClient(t, nc).Begin()
	tx.Enlist("n1", "one")
	err := tx.Commit(patient(t))
	var aborted *assent.AbortedError
	if !errors.As(err, &aborted) || aborted.WrongOwner != 3 || !errors.Is(err, assent.ErrMoved) || tx.Last() != tx.ID() {
		t.Errorf("got %v, want an abort because a key has moved", err)
	}
}

// Commit fails between two attempts: nobody executes anything, and that nothing of it is known to have ended is said.
func TestFailuresBetweenAttempts(t *testing.T) {
	r := newRouted(t)
	r.nodes.move("k1", "n3")
	r.ring.asked = func(n int) {
		if n%2 == 0 { // every second attempt finds no group
			r.ring.mu.Lock()
			defer r.ring.mu.Unlock()
			r.ring.err = errNoGroup
		}
	}
	tx := begin(r.client)
	err := tx.Commit(patient(t))
	if !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, assent.ErrMoved) || !errors.Is(err, assent.ErrUnroutable) || !errors.Is(err, errNoGroup) {
		t.Errorf("got %v, want an unknown outcome because the group is gone after a move", err)
	}
	if tx.Last() != tx.ID() {
		t.Errorf("the last attempt is %s; want %s", tx.Last(), tx.ID())
	}
	r.ring.err, r.ring.asked = nil, nil
	r.ring.change(func() { r.ring.owners["k1"] = "stranger" })
	err = begin(r.client, assent.WithID(tx.ID())).Commit(patient(t))
	if !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, assent.ErrMoved) || !errors.Is(err, assent.ErrUnknownParticipant) {
		t.Errorf("got %v, want an unknown outcome because the new node is no participant", err)
	}
	r.ring.change(func() { r.ring.owners["k1"] = "n3" })
	must(t, tx.Commit(patient(t))) // the same Tx goes on
	r.wantOnce(t)
}
