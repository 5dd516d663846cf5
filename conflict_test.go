// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// clashes has a node say of the first prepares that it is asked for, of as many transactions, that they met another one.
func (r *routed) clashes(t *testing.T, node string, transactions int) {
	var mu sync.Mutex
	met := map[assent.ID]bool{}
	r.nodes.hooked(func(tx assent.ID, name string) {
		mu.Lock()
		defer mu.Unlock()
		if name != node || met[tx] || len(met) == transactions {
			return
		}
		met[tx] = true
		vote(t, r.nc, tx, &messages.VoteRecord{Vote: messages.VoteNo, Reason: "k1 is locked", Held: true, Conflict: true}, node)
	})
}

// asked are the prepares that a node is asked from now on, by transaction; call it when they are all there.
func (r *routed) asked(t *testing.T, node string) func() map[assent.ID]messages.Prepare {
	t.Helper()
	heard, err := r.nc.SubscribeSync("assent.log.0.prepare." + node)
	must(t, err)
	must(t, r.nc.Flush())
	return func() map[assent.ID]messages.Prepare {
		all := map[assent.ID]messages.Prepare{}
		for {
			msg, err := heard.NextMsg(time.Millisecond)
			if errors.Is(err, nats.ErrTimeout) {
				return all
			}
			must(t, err)
			for line := range messages.Lines(msg.Data) {
				var p messages.Prepare
				must(t, new(messages.Decoder).Prepare(line, &p))
				all[p.Tx] = p
			}
		}
	}
}

// Commit says that it met another transaction, and stays with it: that id is over.
func TestAConflictIsTold(t *testing.T) {
	r := newRouted(t)
	r.clashes(t, "n1", 1)
	tx := begin(r.client)
	for range 2 {
		err := tx.Commit(patient(t))
		var aborted *assent.AbortedError
		if !errors.As(err, &aborted) || !aborted.Conflict || aborted.Participant != "n1" || aborted.Tx != tx.ID() || aborted.Attempt != tx.ID() {
			t.Errorf("got %v, want that it met another transaction at n1", err)
		}
		if !errors.Is(err, assent.ErrConflict) || !errors.Is(err, assent.ErrAborted) || errors.Is(err, assent.ErrMoved) || errors.Is(err, assent.ErrUnknown) {
			t.Errorf("%v is not what it should be", err)
		}
		if !strings.Contains(err.Error(), "n1 met another transaction: k1 is locked") {
			t.Errorf("the error says %v", err)
		}
	}
	r.wantOutcome(t, tx, assent.Aborted)
	if _, err := r.client.Outcome(patient(t), tx.ID().Next()); !errors.Is(err, assent.ErrNotFound) {
		t.Errorf("the next id of its chain: %v; want that it was never submitted", err)
	}
	r.nodes.wantExecuted(`"one"`, 0)
}

// Do tries again as new transactions, which are as old as the first, and what it does is done once.
func TestDoMeetsOthers(t *testing.T) {
	r := newRouted(t)
	r.clashes(t, "n1", 3)
	asked := r.asked(t, "n1")
	var txs []*assent.Tx
	must(t, r.client.Do(patient(t), func(tx *assent.Tx) error {
		txs = append(txs, tx)
		tx.Enlist("n1", "one", assent.Keys("a"), assent.SharedKeys("b"))
		tx.Enlist("n2", "two")
		return nil
	}))
	r.wantOnce(t)
	if len(txs) != 4 {
		t.Fatalf("%d attempts, want 4", len(txs))
	}
	prepares := asked()
	if len(prepares) != 4 {
		t.Errorf("n1 was asked about %d transactions, want 4", len(prepares))
	}
	age := txs[0].ID().UnixMilli() * 1000
	for i, tx := range txs {
		switch since := prepares[tx.ID()].Since; {
		case i == 0 && since < age, i > 0 && since != age:
			t.Errorf("attempt %d has the age %d; the first id's is %d", i, since, age)
		}
		want := assent.Aborted
		if i == 3 {
			want = assent.Committed
		}
		r.wantOutcome(t, tx, want)
	}
}

// A key moves and the transaction meets another one, in turn: the next attempt after a move has the next id of its chain,
// the next one after a conflict begins a chain of its own, and all are as old as the first. It is done once.
func TestDoMeetsOthersWhileKeysMove(t *testing.T) {
	r := newRouted(t)
	asked := r.asked(t, "n3")
	var mu sync.Mutex
	seen := 0
	r.nodes.hooked(func(tx assent.ID, name string) {
		mu.Lock()
		defer mu.Unlock()
		if name != "n3" {
			return
		}
		if seen++; seen == 1 { // the second attempt, after the move
			vote(t, r.nc, tx, &messages.VoteRecord{Vote: messages.VoteNo, Reason: "k1 is locked", Held: true, Conflict: true}, name)
		}
	})
	r.nodes.move("k1", "n3") // the client's ring does not know
	r.ring.asked = func(n int) {
		if n == 2 { // after the first refusal
			r.ring.change(func() { r.ring.owners["k1"] = "n3" })
		}
	}
	var txs []*assent.Tx
	must(t, r.client.Do(patient(t), func(tx *assent.Tx) error {
		txs = append(txs, tx)
		tx.EnlistKey("g", "k1", "one", assent.Keys("k1"))
		tx.EnlistKey("g", "k2", "two")
		return nil
	}))
	r.wantOnce(t)
	if len(txs) != 2 || attempts(txs[0]) != 2 || attempts(txs[1]) != 1 {
		t.Fatalf("%d transactions, the first of %d attempts; want 2 and 2", len(txs), attempts(txs[0]))
	}
	r.wantOutcome(t, txs[0], assent.Aborted)
	r.wantOutcome(t, txs[1], assent.Committed)
	age := txs[0].ID().UnixMilli() * 1000
	prepares := asked()
	for name, id := range map[string]assent.ID{"after the move": txs[0].ID().Next(), "after the conflict": txs[1].ID()} {
		if p, ok := prepares[id]; !ok || p.Since != age {
			t.Errorf("%s: the age is %d; want %d", name, p.Since, age)
		}
	}
	if len(prepares) != 2 {
		t.Errorf("n3 was asked about %d transactions, want 2", len(prepares))
	}
	if _, err := r.client.Outcome(patient(t), txs[0].Last().Next()); !errors.Is(err, assent.ErrNotFound) {
		t.Errorf("the chain that met another transaction went on: %v", err)
	}
}

// Do stops waiting while its attempt is undecided: nobody knows what becomes of that, so there is no other attempt.
func TestDoIsCancelledWhileItIsUndecided(t *testing.T) {
	r := newRouted(t)
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	var once sync.Once
	r.nodes.hooked(func(assent.ID, string) {
		once.Do(cancel)
		<-release
	})
	calls := 0
	var id assent.ID
	err := r.client.Do(ctx, func(tx *assent.Tx) error {
		calls, id = calls+1, tx.ID()
		tx.Enlist("n1", "one", assent.Keys("a"))
		tx.Enlist("n2", "two")
		return nil
	})
	if !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, context.Canceled) || errors.Is(err, assent.ErrConflict) || calls != 1 {
		t.Errorf("%v after %d calls; want an unknown outcome", err, calls)
	}
	close(release)
	if outcome, err := r.client.Wait(patient(t), id); outcome != assent.Committed || err != nil {
		t.Errorf("it is %v, %v", outcome, err)
	}
	r.wantOnce(t)
}
