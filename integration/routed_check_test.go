// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/router/ring"
)

// checkRouted is the common end of every scenario with nodes: it waits until nothing is open, in doubt or on the move, and then holds
// what the clients were told against what every account has, by asking its owner and by reading the files of all nodes.
func (w *routed) checkRouted() {
	w.t.Helper()
	w.settleRouted()
	want := w.balances()
	var total int64
	for i := range routedKeys {
		name := account(i)
		have := w.account(name, bank.Request{})
		if have.Balance != want[name] || have.Incoming != 0 || have.Outgoing != 0 {
			w.t.Errorf("%s has %+v; by what the clients were told it has %d and no holds", name, have, want[name])
		}
		total += have.Balance
	}
	if total != routedKeys*routedOpening {
		w.t.Errorf("the accounts have %d together, and had %d", total, routedKeys*routedOpening)
	}
	w.checkFiles()
}

// settleRouted waits for the end of everything, and asks for the outcomes that clients did not learn.
func (w *routed) settleRouted() {
	w.t.Helper()
	eventually(w.t, "everything is finished", func() error {
		var list coordinator.ListResponse
		if err := w.ask("tx.list", nil, &list); err != nil {
			return err
		}
		if list.Open > 0 {
			return fmt.Errorf("%d transactions are open, such as %+v", list.Open, list.Transactions[0])
		}
		var all coordinator.ParticipantsResponse
		if err := w.ask("participants", nil, &all); err != nil {
			return err
		}
		for _, p := range all.Participants {
			if p.InDoubt > 0 || p.PendingOutcomes > 0 {
				return fmt.Errorf("%+v", p)
			}
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		if !errors.Is(e.err, assent.ErrUnknown) {
			continue
		}
		outcome, err := w.client.Wait(within(w.t, patience), e.id)
		if err != nil && !errors.Is(err, assent.ErrNotFound) {
			w.t.Errorf("%s: its outcome cannot be learnt: %v", e.id, err)
		}
		e.outcome = outcome
	}
}

// balances are the accounts as they must be, by what the clients were told.
func (w *routed) balances() map[string]int64 {
	w.t.Helper()
	want := make(map[string]int64)
	for i := range routedKeys {
		want[account(i)] = routedOpening
	}
	committed := 0
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.entries {
		switch e.outcome {
		case assent.Committed:
			committed++
			want[e.from] -= e.cents
			want[e.to] += e.cents
		case assent.Undecided:
			if !errors.Is(e.err, assent.ErrUnknown) { // not accepted, or not known to anybody: nothing happened
				w.t.Errorf("%s: %v: neither committed nor aborted nor unknown", e.id, e.err)
			}
		default:
		}
	}
	if committed == 0 {
		w.t.Error("nothing was committed: the scenario has tested nothing")
	}
	w.t.Logf("%d transfers, %d of them committed; seed %d", len(w.entries), committed, w.seed)
	return want
}

// checkFiles ends the nodes and reads what they hold: each account is held in one file, its owner's. (A copy of what was given away may
// be left in a file whose node ended just then; its next process deletes it.)
func (w *routed) checkFiles() {
	w.t.Helper()
	found := make(map[string]string)
	for name, n := range w.nodes {
		n.finish()
		for _, account := range w.holds(name) {
			if found[account] != "" {
				w.t.Errorf("%s is held by %s and by %s", account, found[account], name)
			}
			found[account] = name
		}
	}
	for i := range routedKeys {
		route, err := w.router.Route(within(w.t, patience), accountsGroup, account(i))
		if err != nil {
			w.t.Fatal(err)
		}
		if found[route.Key] != route.Node {
			w.t.Errorf("%s is held by %q, and the ring says %s", route.Key, found[route.Key], route.Node)
		}
	}
	if len(found) != routedKeys {
		w.t.Errorf("the files hold %d accounts; want %d", len(found), routedKeys)
	}
}

// holds are the accounts of the partitions that a node's file holds.
func (w *routed) holds(name string) (held []string) {
	w.t.Helper()
	store, err := bank.Open(w.ledger(name), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := store.Accounts()
	partitions, heldErr := store.Share(accountsGroup, routedPartitions).Held()
	if err = errors.Join(err, heldErr, store.Close()); err != nil {
		w.t.Fatal(err)
	}
	for account := range all {
		if slices.Contains(partitions, ring.PartitionOf(ring.Hash(account), routedPartitions)) {
			held = append(held, account)
		}
	}
	return held
}
