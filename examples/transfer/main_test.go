// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/participant"
)

// Alice has six euros: the first transfer of five commits, the second one is refused, and after both nothing is lost.
func Example() {
	dir, err := os.MkdirTemp("", "transfer")
	check(err)
	defer os.RemoveAll(dir)
	server, err := embedded.Start(embedded.Config{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0"})
	check(err)
	defer server.Close()
	alices, bobs := open(dir, "bank-a", "alice", 600), open(dir, "bank-b", "bob", 0)
	stop := start(server, map[string]*bank.Store{"bank-a": alices, "bank-b": bobs})

	check(transfer(server.URL()))
	check(transfer(server.URL()))

	total(alices, "bank-a")
	total(bobs, "bank-b")
	stop()
	check(alices.Close())
	check(bobs.Close())
	// Output:
	// committed: alice has paid bob
	// aborted, no account has changed: bank-a: account "alice" is overdrawn: 500 cents wanted, 100 free
	// bank-a: 100 cents
	// bank-b: 500 cents
}

func open(dir, name, account string, cents int64) *bank.Store {
	store, err := bank.Open(filepath.Join(dir, name+".db"), 0)
	check(err)
	check(store.OpenAccounts(cents, account))
	return store
}

// start runs a coordinator and the banks until stop is called.
func start(server *embedded.Server, banks map[string]*bank.Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(run func(context.Context) error, ready <-chan struct{}) {
		running.Go(func() { check(run(ctx)) })
		<-ready
	}
	nc, err := server.Connect()
	check(err)
	c, err := coordinator.New(nc, coordinator.Config{})
	check(err)
	run(c.Run, c.Ready())
	for name, store := range banks {
		p, err := participant.New(nc, participant.Config{Name: name, Batch: store})
		check(err)
		run(p.Run, p.Ready())
	}
	return func() {
		cancel()
		running.Wait()
		nc.Close()
	}
}

// total prints a bank's sum once it has applied what was decided: a client hears of an outcome before that.
func total(store *bank.Store, name string) {
	for range time.Tick(time.Millisecond) {
		totals, err := store.Totals()
		check(err)
		if totals.Prepared == 0 {
			fmt.Printf("%s: %d cents\n", name, totals.Balance)
			return
		}
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
