// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// routed is a coordinator, two nodes that own the keys k1 and k2, and a client whose ring says so.
type routed struct {
	nc     *nats.Conn
	ring   *ring
	nodes  *nodes
	client *assent.Client
}

func newRouted(t *testing.T) *routed {
	t.Helper()
	r := &routed{nc: cluster(t, coordinator.Config{})}
	owners := map[string]string{"k1": "n1", "k2": "n2"}
	r.ring, r.nodes = newRing(maps.Clone(owners)), newNodes(t, r.nc, owners, "n1", "n2", "n3")
	r.client = r.newClient(t)
	return r
}

func (r *routed) newClient(t *testing.T) *assent.Client {
	t.Helper()
	client := newClient(t, r.nc)
	client.StandIn(r.ring)
	return client
}

// move gives a key to another node: the nodes know, and the client's ring.
func (r *routed) move(key, to string) {
	r.nodes.move(key, to)
	r.ring.change(func() { r.ring.owners[key] = to })
}

// begin is a transaction of an operation for each of two keys.
func begin(client *assent.Client, options ...assent.TxOption) *assent.Tx {
	tx := client.Begin(options...)
	tx.EnlistKey("g", "k1", "one", assent.Keys("k1"))
	tx.EnlistKey("g", "k2", "two")
	return tx
}

func (r *routed) wantOnce(t *testing.T) {
	t.Helper()
	r.nodes.wantExecuted(`"one"`, 1)
	r.nodes.wantExecuted(`"two"`, 1)
}

// wantOutcome asks by each id of a chain what came of the transaction.
func (r *routed) wantOutcome(t *testing.T, tx *assent.Tx, want assent.Outcome) {
	t.Helper()
	for id := tx.ID(); ; id = id.Next() {
		if outcome, err := r.client.Wait(patient(t), id); outcome != want || err != nil {
			t.Errorf("waited for %s: %v, %v; want %v", id, outcome, err, want)
		}
		if outcome, err := r.client.Outcome(patient(t), id); outcome != want || err != nil {
			t.Errorf("outcome of %s: %v, %v; want %v", id, outcome, err, want)
		}
		if id == tx.Last() {
			return
		}
	}
}

// attempts counts the ids of a transaction's chain.
func attempts(tx *assent.Tx) (n int) {
	n = 1
	for id := tx.ID(); id != tx.Last(); id = id.Next() {
		n++
	}
	return n
}

func TestRouted(t *testing.T) {
	r := newRouted(t)
	prepares, err := r.nc.SubscribeSync("assent.log.0.prepare.n1")
	must(t, err)
	tx := begin(r.client)
	tx.Enlist("n2", "three")
	must(t, tx.Commit(patient(t)))
	r.wantOnce(t)
	r.nodes.wantExecuted(`"three"`, 1)
	r.wantOutcome(t, tx, assent.Committed)
	if tx.Last() != tx.ID() {
		t.Errorf("the last attempt is %s; want %s", tx.Last(), tx.ID())
	}
	msg, err := prepares.NextMsg(patience)
	must(t, err)
	var p messages.Prepare
	for line := range messages.Lines(msg.Data) {
		must(t, new(messages.Decoder).Prepare(line, &p))
	}
	want := messages.Route{Group: "g", Key: "k1", Incarnation: 7, Epoch: 1}
	if op := p.Operations[0]; op.Route == nil || *op.Route != want || len(op.Keys) != 1 || op.Keys[0] != "k1" {
		t.Errorf("n1 is asked %+v by the route %+v; want %+v", op, op.Route, want)
	}
	must(t, tx.Commit(patient(t))) // the same once more
	r.wantOnce(t)
	r.client.Close()
	if !r.ring.closed {
		t.Error("the router outlives the client")
	}
	if err := begin(r.client).Commit(patient(t)); !errors.Is(err, assent.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
}

// What cannot be routed is told by the path of the field.
func TestInvalidRoutes(t *testing.T) {
	r := newRouted(t)
	for _, c := range []struct{ group, key, field, message string }{
		{"a.b", "k", "operations[1].route.group", `"a.b"`},
		{"", "k", "operations[1].route.group", `""`},
		{"g", "", "operations[1].route.key", "0 bytes; 1 to 1024"},
		{"g", strings.Repeat("k", messages.MaxRouteKey+1), "operations[1].route.key", "1025 bytes"},
		{"g", "k\xff", "operations[1].route.key", "UTF-8"},
	} {
		tx := r.client.Begin()
		tx.Enlist("n1", 1)
		tx.EnlistKey(c.group, c.key, 1)
		wantInvalid(t, tx.Commit(patient(t)), c.field, c.message)
	}
	tx := r.client.Begin()
	tx.EnlistKey("g", "k1", make(chan int))
	wantInvalid(t, tx.Commit(patient(t)), "operations[0].payload", "unsupported")
	if r.ring.calls != 0 {
		t.Errorf("%d calls of the router", r.ring.calls)
	}
}

// A key for which there is no node: nothing was submitted, and nothing is unknown. What has run is told all the same.
func TestUnroutable(t *testing.T) {
	r := newRouted(t)
	done := begin(r.client)
	must(t, done.Commit(patient(t)))
	r.ring.err = errNoGroup
	for _, tx := range []*assent.Tx{begin(r.client), begin(r.client, assent.WithID(assent.NewID()))} {
		err := tx.Commit(patient(t))
		var unroutable *assent.UnroutableError
		if !errors.Is(err, assent.ErrUnroutable) || !errors.Is(err, errNoGroup) || !errors.As(err, &unroutable) ||
			unroutable.Group != "g" || unroutable.Key != "k1" || unroutable.Tx != tx.ID() {
			t.Errorf("got %v, want that nobody is found for k1 of g", err)
		}
		if errors.Is(err, assent.ErrUnknown) || errors.Is(err, assent.ErrMoved) {
			t.Errorf("%v is also something else", err)
		}
	}
	must(t, begin(r.client, assent.WithID(done.ID())).Commit(patient(t)))
	must(t, done.Commit(patient(t)))
	r.wantOnce(t)
}

// A key has moved, and the client does not know it: the node refuses, the client hears of the newer ring and tries again.
func TestMoved(t *testing.T) {
	r := newRouted(t)
	r.nodes.move("k1", "n3")
	r.nodes.hooked(func(tx assent.ID, node string) {
		if node == "n1" {
			r.ring.change(func() { r.ring.owners["k1"] = "n3" })
		}
	})
	tx := begin(r.client)
	must(t, tx.Commit(patient(t)))
	if tx.Last() != tx.ID().Next() {
		t.Errorf("the last attempt is %s; want the one after %s", tx.Last(), tx.ID())
	}
	r.wantOnce(t)
	r.wantOutcome(t, tx, assent.Committed)
	// Whoever commits it once more, by whatever ring, comes to the same end.
	r.nodes.hooked(nil)
	r.move("k1", "n1")
	r.move("k2", "n3")
	again := begin(r.client, assent.WithID(tx.ID()))
	must(t, again.Commit(patient(t)))
	if again.Last() != tx.Last() {
		t.Errorf("the last attempt is %s; want %s", again.Last(), tx.Last())
	}
	r.wantOnce(t)
}

// What is refused is not tried again, also after a move.
func TestRefusedAfterAMove(t *testing.T) {
	r := newRouted(t)
	r.nodes.move("k1", "n3")
	r.nodes.hooked(func(tx assent.ID, node string) {
		if node == "n1" {
			r.ring.change(func() { r.ring.owners["k1"] = "n3" })
			return
		}
		vote(t, r.nc, tx, &messages.VoteRecord{Vote: messages.VoteNo, Reason: "overdrawn"}, node)
	})
	tx := r.client.Begin()
	tx.EnlistKey("g", "k1", "one")
	err := tx.Commit(patient(t))
	var aborted *assent.AbortedError
	if !errors.As(err, &aborted) || aborted.Tx != tx.ID() || aborted.Attempt != tx.ID().Next() || aborted.Participant != "n3" || aborted.Reason != "overdrawn" {
		t.Errorf("got %v, want the second attempt to be refused by n3", err)
	}
	if errors.Is(err, assent.ErrMoved) || errors.Is(err, assent.ErrUnknown) || aborted.WrongOwner != 0 {
		t.Errorf("%v is also something else", err)
	}
	r.wantOutcome(t, tx, assent.Aborted)
	r.nodes.wantExecuted(`"one"`, 0)
}

// vote writes a vote into the log, and does not wait until it is there: the test may be over by then.
func vote(t *testing.T, nc *nats.Conn, tx assent.ID, v *messages.VoteRecord, participant string) {
	t.Helper()
	js, err := jetstream.New(nc)
	must(t, err)
	v.Tx = tx
	_, err = js.PublishAsync(messages.Subjects{}.Vote(0, participant), messages.AppendVote(nil, v))
	must(t, err)
}

// While a key is moving nothing is submitted.
func TestMovingIsWaitedFor(t *testing.T) {
	r := newRouted(t)
	r.ring.change(func() { r.ring.moving["k2"] = true })
	waits := make(chan uint64, 100)
	r.ring.waits = waits
	tx := begin(r.client)
	outcome := make(chan error, 1)
	go func() { outcome <- tx.Commit(patient(t)) }()
	first := receive(t, waits, "the first wait for a newer ring")
	r.ring.change(func() {}) // newer, and still moving
	for receive(t, waits, "the second wait for a newer ring") == first {
	}
	if _, err := r.client.Outcome(patient(t), tx.ID()); !errors.Is(err, assent.ErrNotFound) {
		t.Errorf("while a key is moving: %v, want that nothing was submitted", err)
	}
	r.nodes.move("k2", "n3")
	r.ring.change(func() { r.ring.owners["k2"], r.ring.moving["k2"] = "n3", false })
	must(t, receive(t, outcome, "an outcome"))
	if tx.Last() != tx.ID() {
		t.Errorf("the last attempt is %s; want %s", tx.Last(), tx.ID())
	}
	r.wantOnce(t)

	// Without end: nothing was submitted, which is no unknown outcome.
	r.ring.change(func() { r.ring.moving["k2"] = true })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := begin(r.client).Commit(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `"k2"`) || errors.Is(err, assent.ErrUnknown) || errors.Is(err, assent.ErrUnroutable) {
		t.Errorf("got %v, want that the time was over, and k2 is moving", err)
	}
}

// The ring does not get newer, though a node says that a key has moved: the client tries again and again, but not without a
// pause; when its time is over it says that it met moves only. Somebody else may go on, and it happens once.
func TestMovesWithoutEnd(t *testing.T) {
	r := newRouted(t)
	r.nodes.move("k1", "n3")
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	r.ring.asked = func(n int) {
		if n == 4 { // when the fourth attempt is about to be made
			cancel()
		}
	}
	tx, began := begin(r.client), time.Now()
	err := tx.Commit(ctx)
	r.ring.asked = nil
	var unknown *assent.UnknownError
	if !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, assent.ErrMoved) || !errors.As(err, &unknown) || unknown.Tx != tx.ID() {
		t.Errorf("got %v, want an unknown outcome of %s, whose keys were moving", err, tx.ID())
	}
	if errors.Is(err, assent.ErrAborted) {
		t.Errorf("%v is also an abort", err)
	}
	if n, took := attempts(tx), time.Since(began); n != 3 || took < 130*time.Millisecond { // 25, 50 and 100 ms, a quarter less at the least
		t.Errorf("%d attempts in %v", n, took)
	}
	if outcome, err := r.client.Outcome(patient(t), tx.ID()); outcome != assent.Undecided || err != nil {
		t.Errorf("outcome %v, %v; want undecided: the next attempt may still come", outcome, err)
	}
	r.nodes.wantExecuted(`"two"`, 0)
	waited := make(chan error, 1)
	go func() {
		outcome, err := r.client.Wait(patient(t), tx.ID())
		if outcome != assent.Committed {
			err = errors.Join(err, fmt.Errorf("waited for %v", outcome))
		}
		waited <- err
	}()
	r.ring.change(func() { r.ring.owners["k1"] = "n3" })
	successor := begin(r.newClient(t), assent.WithID(tx.ID()))
	must(t, successor.Commit(patient(t)))
	must(t, receive(t, waited, "who waits hears of it"))
	if attempts(successor) != attempts(tx)+1 {
		t.Errorf("the successor made %d attempts, after %d", attempts(successor), attempts(tx))
	}
	r.wantOnce(t)
}

// A client dies at some point between its attempts, and a successor that knows only the id commits the same transaction, by
// another ring: it happens once, wherever the first one died.
func TestASuccessorAtEveryStep(t *testing.T) {
	for _, die := range []string{
		"before anything", "first routed", "first prepared", "first refused", "second routed", "second prepared", "committed",
	} {
		t.Run(die, func(t *testing.T) {
			t.Parallel()
			r := newRouted(t)
			r.nodes.move("k1", "n3")
			ctx, cancel := context.WithCancel(patient(t))
			at := func(step string) {
				if step == die {
					cancel()
				}
			}
			r.ring.asked = func(n int) {
				switch n {
				case 1:
					at("first routed")
				case 2:
					at("second routed")
				}
			}
			tx := begin(r.client)
			r.nodes.hooked(func(attempt assent.ID, node string) {
				switch {
				case attempt == tx.ID() && node == "n1":
					at("first prepared")
					r.ring.change(func() { r.ring.owners["k1"] = "n3" })
				case attempt != tx.ID() && node == "n3":
					at("second prepared")
				}
			})
			at("before anything")
			if die == "first refused" {
				r.ring.asked = nil
				cancelWhenRefused(t, r, tx.ID(), cancel)
			}
			err := tx.Commit(ctx)
			cancel()
			if (err == nil) != (die == "committed") {
				t.Fatalf("the first one's Commit: %v", err)
			}
			// Its keys go elsewhere meanwhile, unless a node holds them for what is open.
			r.ring.asked = nil
			successor := begin(r.newClient(t), assent.WithID(tx.ID()))
			must(t, successor.Commit(patient(t)))
			r.wantOnce(t)
			r.wantOutcome(t, successor, assent.Committed)
		})
	}
}

// cancelWhenRefused cancels as soon as the log has the first attempt's refusal.
func cancelWhenRefused(t *testing.T, r *routed, id assent.ID, cancel func()) {
	t.Helper()
	s, err := r.nc.Subscribe("assent.log.0.vote.n1", func(msg *nats.Msg) {
		var v messages.VoteRecord
		if new(messages.Decoder).Vote(msg.Data, &v) == nil && v.Tx == id {
			cancel()
		}
	})
	must(t, err)
	must(t, r.nc.Flush())
	t.Cleanup(func() { _ = s.Unsubscribe() })
}

// Two programs that share an id commit the same transaction at once, by rings that differ: it happens once.
func TestTwoAtOnceByDifferentRings(t *testing.T) {
	r := newRouted(t)
	other := newRing(map[string]string{"k1": "n3", "k2": "n1"})
	other.epoch = 5
	for round := range 20 {
		id := assent.NewID()
		one, two := begin(r.client, assent.WithID(id)), newClient(t, r.nc)
		two.StandIn(other)
		if round%2 == 1 { // half the time nobody's ring is right at first
			r.nodes.move("k2", "n3")
		}
		outcomes := make(chan error, 2)
		for _, tx := range []*assent.Tx{one, begin(two, assent.WithID(id))} {
			go func() { outcomes <- tx.Commit(patient(t)) }()
		}
		eventually(t, "an attempt", func() bool {
			r.nodes.mu.Lock()
			defer r.nodes.mu.Unlock()
			return r.nodes.attempts[id] > 0
		})
		r.move("k1", "n1")
		r.move("k2", "n2")
		other.change(func() { other.owners = map[string]string{"k1": "n1", "k2": "n2"} })
		for range 2 {
			must(t, receive(t, outcomes, "an outcome"))
		}
		r.nodes.wantExecuted(`"one"`, round+1)
		r.nodes.wantExecuted(`"two"`, round+1)
		other.change(func() { other.owners = map[string]string{"k1": "n3", "k2": "n1"} })
	}
}
