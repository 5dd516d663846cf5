// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/integration/ledger"
	"github.com/assent-tx/assent/messages"
)

// check is the common end of every scenario: it waits until nothing is open and nothing is in doubt, and then holds what
// the clients were told, what the log says and what the banks did against each other.
func (c *cluster) check() {
	c.t.Helper()
	c.settle()
	stores := c.stores()
	log := foldLog(c.t, c.nc)
	c.compareClients(log, stores)
	c.compareStores(log, stores)
	c.checkMoney(stores)
	if c.t.Failed() {
		return
	}
	c.t.Logf("agreed about %d transactions: %d committed, %d aborted; seed %d",
		len(c.book.entries), c.book.count(assent.Committed), c.book.count(assent.Aborted), c.seed)
}

// checkTrimmed is check where the log's beginning may be gone: clients and banks have to agree without it.
func (c *cluster) checkTrimmed() {
	c.t.Helper()
	c.settle()
	stores := c.stores()
	c.compareClients(nil, stores)
	c.checkMoney(stores)
}

// settle waits until the coordinator says that nothing is open and nobody in doubt, and the banks' files that nothing
// is prepared.
func (c *cluster) settle() {
	c.t.Helper()
	eventually(c.t, "everything is finished", func() error {
		var list coordinator.ListResponse
		if err := c.ask("tx.list", nil, &list); err != nil {
			return err
		}
		if list.Open > 0 {
			return fmt.Errorf("%d transactions are open, such as %+v", list.Open, list.Transactions[0])
		}
		var all coordinator.ParticipantsResponse
		if err := c.ask("participants", nil, &all); err != nil {
			return err
		}
		for _, p := range all.Participants {
			if p.InDoubt > 0 || p.PendingOutcomes > 0 {
				return fmt.Errorf("%+v", p)
			}
		}
		for name, store := range c.stores() {
			for tx := range store.Open {
				return fmt.Errorf("%s holds %s prepared", name, tx)
			}
		}
		return nil
	})
	c.resolve()
}

// resolve asks for the outcomes that clients did not learn when they submitted.
func (c *cluster) resolve() {
	c.t.Helper()
	c.book.mu.Lock()
	defer c.book.mu.Unlock()
	for _, e := range c.book.entries {
		if !errors.Is(e.err, assent.ErrUnknown) {
			continue
		}
		outcome, err := c.client.Wait(within(c.t, patience), e.id)
		if err != nil && !errors.Is(err, assent.ErrNotFound) {
			c.t.Errorf("%s: its outcome cannot be learnt: %v", e.id, err)
		}
		e.outcome = outcome
	}
}

// ask queries a coordinator.
func (c *cluster) ask(api string, request, response any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	msg, err := c.nc.Request(messages.Subjects{}.API(api), body, 10*time.Second)
	if err != nil {
		return err
	}
	if problem := msg.Header.Get(micro.ErrorHeader); problem != "" {
		return fmt.Errorf("%s: %s", api, problem)
	}
	return json.Unmarshal(msg.Data, response)
}

func (c *cluster) stores() map[string]*ledger.State {
	c.t.Helper()
	stores := make(map[string]*ledger.State)
	for name := range c.banks {
		state, err := ledger.Read(c.ledger(name))
		if err != nil {
			c.t.Fatal(err)
		}
		stores[name] = state
	}
	return stores
}

// compareClients holds the clients' answers against the log and the banks.
func (c *cluster) compareClients(log *reference, stores map[string]*ledger.State) {
	c.t.Helper()
	c.book.mu.Lock()
	defer c.book.mu.Unlock()
	if len(c.book.entries) == 0 {
		c.t.Error("the scenario made no transaction: it has tested nothing")
	}
	for _, e := range c.book.entries {
		if log != nil {
			compareLog(c.t, e, log.txs[e.id])
		}
		if log == nil && errors.Is(e.err, assent.ErrUnknown) {
			e.outcome = agreed(e, stores) // the answer was lost, and the history of it is trimmed
		}
		for _, name := range e.banks {
			status := stores[name].Txs[e.id]
			if (e.outcome == assent.Committed) != (status == ledger.Committed) {
				c.t.Errorf("%s: the client heard %v (%v); at %s it is %q", e.id, e.outcome, e.err, name, status)
			}
		}
	}
}

// agreed is the outcome at the first of the banks.
func agreed(e *entry, stores map[string]*ledger.State) assent.Outcome {
	if stores[e.banks[0]].Txs[e.id] == ledger.Committed {
		return assent.Committed
	}
	return assent.Aborted
}

func compareLog(t testing.TB, e *entry, tx *referenceTx) {
	t.Helper()
	switch {
	case tx == nil && e.outcome != assent.Undecided:
		t.Errorf("%s: the client heard %v, and the log knows nothing of it", e.id, e.outcome)
	case tx != nil && tx.outcome != e.outcome && (e.outcome != assent.Undecided || tx.outcome == assent.Committed):
		t.Errorf("%s: the client heard %v (%v); the log says %v", e.id, e.outcome, e.err, tx.outcome)
	}
}

// compareStores holds every transaction of the log against all banks, and every one of a bank against the log.
func (c *cluster) compareStores(log *reference, stores map[string]*ledger.State) {
	c.t.Helper()
	for id, tx := range log.txs {
		if tx.outcome == assent.Undecided {
			c.t.Errorf("%s: undecided in the log", id)
		}
		for _, name := range tx.participants {
			store := stores[name]
			if store == nil {
				continue // no bank of the scenario
			}
			if status := store.Txs[id]; (tx.outcome == assent.Committed) != (status == ledger.Committed) {
				c.t.Errorf("%s: the log says %v; at %s it is %q", id, tx.outcome, name, status)
			}
		}
	}
	for name, store := range stores {
		for id, status := range store.Txs {
			if status == ledger.Committed && log.txs[id] == nil {
				c.t.Errorf("%s: committed at %s; the log knows nothing of it", id, name)
			}
		}
	}
}

// checkMoney: no cent was made and none was lost.
func (c *cluster) checkMoney(stores map[string]*ledger.State) {
	c.t.Helper()
	var total int64
	for name, store := range stores {
		total += store.Total()
		for account, balance := range store.Balances {
			if balance < 0 {
				c.t.Errorf("account %d of %s is overdrawn: %d", account, name, balance)
			}
		}
	}
	if want := int64(len(stores)) * ledger.Accounts * ledger.Opening; total != want {
		c.t.Errorf("the total is %d; it was %d", total, want)
	}
}
