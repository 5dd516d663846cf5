// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router/ring"
)

const testPartitions = 4

// fixture is a store that holds all partitions.
type fixture struct {
	*store
	t    *testing.T
	path string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "kv.db")}
	f.reopen()
	t.Cleanup(func() { f.Close() })
	for p := range testPartitions {
		if _, err := f.holdings.Acquire(p, handover.Version{Incarnation: 1, Epoch: 1}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// reopen is a crash: what was answered is in the file, and nothing else is anywhere.
func (f *fixture) reopen() {
	f.t.Helper()
	if f.store != nil {
		f.Close()
	}
	var err error
	if f.store, err = openStore(f.path, tables.Durable(), group, testPartitions); err != nil {
		f.t.Fatal(err)
	}
}

// step is one operation on a key.
type step struct {
	key string
	op  op
}

func branch(steps ...step) *participant.Branch {
	b := &participant.Branch{Tx: messages.NewID(), Expires: time.Now().Add(time.Hour)}
	for _, s := range steps {
		payload, err := json.Marshal(s.op)
		if err != nil {
			panic(err)
		}
		route := &messages.Route{Group: group, Key: s.key, Incarnation: 1, Epoch: 1}
		b.Operations = append(b.Operations, messages.Operation{Payload: payload, Route: route})
	}
	return b
}

// prepared is a branch that the store has said yes to.
func (f *fixture) prepared(steps ...step) *participant.Branch {
	f.t.Helper()
	b := branch(steps...)
	if r := f.PrepareBatch(f.t.Context(), []*participant.Branch{b})[0]; r.Vote != participant.Yes || r.Err != nil {
		f.t.Fatalf("prepare gave %v, %v; want a yes", r.Vote, r.Err)
	}
	return b
}

func (f *fixture) wantRefusal(reason string, steps ...step) {
	f.t.Helper()
	r := f.PrepareBatch(f.t.Context(), []*participant.Branch{branch(steps...)})[0]
	if !errors.Is(r.Err, participant.ErrRefused) || !strings.Contains(r.Err.Error(), reason) {
		f.t.Errorf("prepare gave %v, %v; want a refusal with %q", r.Vote, r.Err, reason)
	}
}

func (f *fixture) finish(b *participant.Branch, commit bool) {
	f.t.Helper()
	if err := f.FinishBatch(f.t.Context(), []participant.Outcome{{Tx: b.Tx, Commit: commit}})[0]; err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) want(want map[string]string) {
	f.t.Helper()
	if got, err := f.all(); err != nil || !maps.Equal(got, want) {
		f.t.Errorf("the keys are %v, %v; want %v", got, err, want)
	}
}

func TestOperations(t *testing.T) {
	f := newFixture(t)
	f.finish(f.prepared(step{"text", put("hello")}, step{"number", put(7)}, step{"gone", put(1)}), true)
	f.want(map[string]string{"text": `"hello"`, "number": "7", "gone": "1"})
	b := f.prepared(step{"text", put("bye")}, step{"number", add(-7, 0)}, step{"gone", remove()}, step{"new", add(3, 3)}, step{"never", remove()})
	f.want(map[string]string{"text": `"hello"`, "number": "7", "gone": "1"}) // not yet
	f.reopen()
	f.finish(b, true)
	f.want(map[string]string{"text": `"bye"`, "number": "0", "new": "3"})

	// Operations on one key see each other, and one that is refused in between refuses all.
	f.finish(f.prepared(step{"k", put(5)}, step{"k", add(-5, 0)}, step{"k", add(2, 0)}), true)
	f.wantRefusal("-1 would be left, and at least 0 must be", step{"k", add(-3, 0)}, step{"k", add(10, 0)})
	f.finish(f.prepared(step{"k", remove()}, step{"k", add(1, 1)}), true)
	f.want(map[string]string{"text": `"bye"`, "number": "0", "new": "3", "k": "1"})
	if i, err := f.get("k"); string(i.Value) != "1" || i.Holder != nil || err != nil {
		t.Errorf("k is %v, %v", i, err)
	}
	if i, err := f.get("never"); i.Value != nil || i.Holder != nil || err != nil {
		t.Errorf("a key that is not there is %v, %v", i, err)
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	f.finish(f.prepared(step{"text", put("hello")}, step{"most", put(int64(1<<63 - 1))}), true)
	f.wantRefusal("exactly one of put, delete and add, and this one 0", step{"k", op{}})
	f.wantRefusal("exactly one of put, delete and add, and this one 2", step{"k", op{Put: json.RawMessage("1"), Delete: true}})
	f.wantRefusal(`"hello" is no number`, step{"text", add(1, 0)})
	f.wantRefusal("are too much", step{"most", add(1, 0)})
	f.wantRefusal("are too much", step{"k", add(-2, -1<<63)}, step{"k", add(-1<<63, -1<<63)})
	f.wantRefusal("0 would be left, and at least 1 must be", step{"k", add(0, 1)})
	unrouted := branch(step{"k", put(1)})
	unrouted.Operations[0].Route = nil
	if r := f.PrepareBatch(t.Context(), []*participant.Branch{unrouted})[0]; !errors.Is(r.Err, participant.ErrRefused) {
		t.Errorf("without a route: %v, %v", r.Vote, r.Err)
	}
	f.want(map[string]string{"text": `"hello"`, "most": "9223372036854775807"})
}

// What is held is changed by nobody else, is read as it was, and is free after a rollback as it is after a commit.
func TestHeld(t *testing.T) {
	f := newFixture(t)
	f.finish(f.prepared(step{"k", put(1)}), true)
	for _, commit := range []bool{false, true} {
		b := f.prepared(step{"k", add(1, 0)}, step{"new", put("x")})
		f.reopen()
		if txs, err := f.InDoubt(t.Context()); len(txs) != 1 || txs[0].Tx != b.Tx || err != nil {
			t.Errorf("in doubt are %v, %v", txs, err)
		}
		f.wantRefusal(`key "k": it is held by a transaction`, step{"other", put(1)}, step{"k", put(9)})
		f.wantRefusal(`key "new": it is held`, step{"new", put(9)})
		f.want(map[string]string{"k": "1"})
		if i, err := f.get("k"); string(i.Value) != "1" || i.Holder == nil || *i.Holder != b.Tx || err != nil {
			t.Errorf("k, which is held, is %v, %v", i, err)
		}
		if r := f.PrepareBatch(t.Context(), []*participant.Branch{b})[0]; r.Vote != participant.Yes || r.Err != nil {
			t.Errorf("the same again: %v, %v", r.Vote, r.Err)
		}
		f.finish(b, commit)
		f.finish(b, !commit) // whoever is mistaken now changes nothing
	}
	f.want(map[string]string{"k": "2", "new": `"x"`})
}

// Two branches of one batch that want the same key: one is refused, the other one is not held up by that.
func TestSameKeyInABatch(t *testing.T) {
	f := newFixture(t)
	one, two := branch(step{"k", put(1)}), branch(step{"k", put(2)}, step{"other", put(2)})
	results := f.PrepareBatch(t.Context(), []*participant.Branch{one, two})
	if results[0].Err != nil || !errors.Is(results[1].Err, participant.ErrRefused) {
		t.Errorf("got %v", results)
	}
	f.finish(one, true)
	f.finish(two, true)
	f.want(map[string]string{"k": "1"})
}

// A key whose transaction is not over does not move; also one that is only about to be.
func TestHeldStays(t *testing.T) {
	f := newFixture(t)
	p := ring.PartitionOf(ring.Hash("new"), testPartitions)
	b := f.prepared(step{"new", put(1)})
	if err := f.holdings.Push(t.Context(), nil, "", p, handover.Version{Incarnation: 1, Epoch: 5}); !errors.Is(err, errHeld) {
		t.Errorf("a key that is held was read to be sent: %v", err)
	}
	f.finish(b, true)
	if err := f.holdings.Release(p, handover.Version{Incarnation: 1, Epoch: 5}); err != nil {
		t.Fatal(err)
	}
	r := f.PrepareBatch(t.Context(), []*participant.Branch{branch(step{"new", put(2)})})[0]
	if _, err := f.get("new"); !errors.Is(r.Err, handover.ErrNotHeld) || !errors.Is(err, handover.ErrNotHeld) {
		t.Errorf("after its release it is prepared: %v, %v; and read: %v", r.Vote, r.Err, err)
	}
}
