// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router/ring"
)

const partitions = 16

func partitionOf(account string) int { return ring.PartitionOf(ring.Hash(account), partitions) }

// shared is a bank of a group that holds the partitions of some accounts, of 1000 cents each.
func shared(t *testing.T, names ...string) (*fixture, *handover.Holdings) {
	t.Helper()
	f := newFixture(t)
	h := f.Share("accounts", partitions)
	for _, name := range names {
		if _, err := h.Acquire(partitionOf(name), handover.Version{Incarnation: 1, Epoch: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.OpenAccounts(1000, names...); err != nil {
		t.Fatal(err)
	}
	return f, h
}

// routed is a branch whose entries were enlisted by their accounts.
func routed(entries ...Entry) *participant.Branch {
	b := branch(entries...)
	for i := range entries {
		b.Operations[i].Route = &messages.Route{Group: "accounts", Key: entries[i].Account, Incarnation: 1, Epoch: 1}
	}
	return b
}

func since(epoch uint64) handover.Version { return handover.Version{Incarnation: 1, Epoch: epoch} }

// An account with a hold does not leave, and is not deleted; when its transaction has ended it goes, and a hold can be put on
// it only where it went.
func TestAccountWithHoldsStays(t *testing.T) {
	f, from := shared(t, "alice", "bob")
	g, to := shared(t)
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	stop, err := to.Receive(nc, "next")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	push := func() error { return from.Push(t.Context(), nc, "next", partitionOf("alice"), since(5)) }

	for _, cents := range []int64{-300, 300} {
		b := routed(Entry{"alice", cents})
		f.wantVote(b, participant.Yes)
		if err := push(); !errors.Is(err, ErrHolds) {
			t.Fatalf("alice leaves with a hold of %d: %v", cents, err)
		}
		f.finish(true, b.Tx)
	}
	if err := push(); err != nil {
		t.Fatal(err)
	}
	if err := from.Release(partitionOf("alice"), since(5)); err != nil {
		t.Fatal(err)
	}
	late := routed(Entry{"alice", -1})
	if r := f.prepare(late)[0]; !errors.Is(r.Err, handover.ErrNotHeld) || errors.Is(r.Err, participant.ErrRefused) {
		t.Errorf("after it was released: %v, %v", r.Vote, r.Err)
	}
	if whole, err := to.Acquire(partitionOf("alice"), since(6)); !whole || err != nil {
		t.Fatalf("acquired whole: %v, %v", whole, err)
	}
	if err := from.Drop(partitionOf("alice"), since(5)); err != nil {
		t.Fatal(err)
	}
	g.wantVote(late, participant.Yes)
	g.finish(true, late.Tx)
	g.wantAccount("alice", Account{Balance: 999})
	if all, err := f.Accounts(); len(all) != 1 || all["bob"].Balance != 1000 || err != nil {
		t.Errorf("where alice was: %v, %v", all, err)
	}
}

// A branch of which one account is not held fails alone, and puts no hold on the other.
func TestNotHeld(t *testing.T) {
	f, _ := shared(t, "alice", "bob")
	if partitionOf("alice") == partitionOf("nobody") || partitionOf("bob") == partitionOf("nobody") {
		t.Fatal("the names are badly chosen")
	}
	good := routed(Entry{"bob", -5})
	results := f.prepare(routed(Entry{"alice", -5}, Entry{"nobody", 5}), good)
	if !errors.Is(results[0].Err, handover.ErrNotHeld) {
		t.Errorf("got %v, %v", results[0].Vote, results[0].Err)
	}
	if results[1].Err != nil {
		t.Errorf("the other branch: %v", results[1].Err)
	}
	f.wantAccount("alice", Account{Balance: 1000})
	if err := f.OpenAccounts(5, "nobody"); !errors.Is(err, handover.ErrNotHeld) {
		t.Errorf("an account of another's was opened: %v", err)
	}
}

// The node was found by the key, so an entry is for that account and no other.
func TestRouteIsTheAccounts(t *testing.T) {
	f, _ := shared(t, "alice", "bob")
	unrouted, otherGroup, otherKey := branch(Entry{"alice", -5}), routed(Entry{"alice", -5}), routed(Entry{"alice", -5})
	otherGroup.Operations[0].Route.Group = "stock"
	otherKey.Operations[0].Route.Key = "bob"
	f.wantRefusal(unrouted, "operation 0: enlist it by its account, in group accounts")
	f.wantRefusal(otherGroup, "operation 0: enlist it by its account, in group accounts")
	f.wantRefusal(otherKey, `enlisted by key "bob", and is for account "alice"`)
	f.wantAccount("alice", Account{Balance: 1000})
}

func TestRequests(t *testing.T) {
	f, _ := shared(t, "alice")
	for request, want := range map[string]Response{
		`{}`:             {Account: Account{Balance: 1000}, Exists: true},
		`{"open":5}`:     {Account: Account{Balance: 1000}, Exists: true}, // it exists
		`{"open":-5}`:    {Error: "a balance of -5 cents"},
		`{"close":true}`: {Error: "unknown field"},
		``:               {Error: "the request: EOF"},
	} {
		var got Response
		if err := json.Unmarshal(f.answer("alice", []byte(request)), &got); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(got.Error, want.Error) || want.Error == "" && got != want {
			t.Errorf("%s is answered by %+v, want %+v", request, got, want)
		}
	}
	var got Response
	if err := json.Unmarshal(f.answer("nobody", []byte(`{}`)), &got); err != nil || !strings.Contains(got.Error, "not held here") {
		t.Errorf("about another's: %+v, %v", got, err)
	}
}
