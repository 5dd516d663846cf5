// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant"
)

// Entry is what the client asks of a bank.
type Entry struct {
	Account string
	Cents   int
}

// bank agrees to what does not overdraw an account. (A real one makes Prepare durable: see examples/bank.)
type bank struct {
	mu       sync.Mutex
	balance  map[string]int
	prepared map[assent.ID]Entry
	applied  chan string
}

func (b *bank) Prepare(_ context.Context, br *participant.Branch) (participant.Vote, error) {
	var e Entry
	if err := br.Decode(0, &e); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.balance[e.Account]+e.Cents < 0 {
		return 0, participant.Refuse(errors.New("insufficient funds"))
	}
	b.prepared[br.Tx] = e
	return participant.Yes, nil
}

func (b *bank) Commit(_ context.Context, tx assent.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.prepared[tx]; ok {
		b.balance[e.Account] += e.Cents
		delete(b.prepared, tx)
		b.applied <- fmt.Sprintf("%s has %d", e.Account, b.balance[e.Account])
	}
	return nil
}

func (b *bank) Rollback(_ context.Context, tx assent.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.prepared, tx)
	return nil
}

// InDoubt: this one forgets everything when it ends. A real one tells what it holds prepared, and which keys.
func (b *bank) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

// Money moves from one bank to another, or it does not move at all.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "assent")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	// What `assent serve` does: a NATS server and a coordinator. A program connects with nats.Connect(url).
	server, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	c, err := coordinator.New(nc, coordinator.Config{})
	if err != nil {
		panic(err)
	}
	ended := make(chan error, 3)
	go func() { ended <- c.Run(ctx) }()
	banks := map[string]*bank{}
	for name, account := range map[string]string{"bank-a": "alice", "bank-b": "bob"} {
		banks[name] = &bank{balance: map[string]int{account: 1000}, prepared: map[assent.ID]Entry{}, applied: make(chan string, 8)}
		p, err := participant.New(nc, participant.Config{Name: name, Handler: banks[name]})
		if err != nil {
			panic(err)
		}
		go func() { ended <- p.Run(ctx) }()
		<-p.Ready()
	}

	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	for _, cents := range []int{500, 600} {
		tx := client.Begin()
		tx.Enlist("bank-a", Entry{Account: "alice", Cents: -cents}, assent.Keys("account/alice"))
		tx.Enlist("bank-b", Entry{Account: "bob", Cents: cents}, assent.Keys("account/bob"))
		err := tx.Commit(ctx)
		var aborted *assent.AbortedError
		switch {
		case err == nil:
			fmt.Println("committed:", <-banks["bank-a"].applied+",", <-banks["bank-b"].applied)
		case errors.As(err, &aborted):
			fmt.Println("aborted:", aborted.Participant, "refused:", aborted.Reason)
		case errors.Is(err, assent.ErrUnknown):
			fmt.Println("unknown: ask again with", tx.ID())
		default:
			fmt.Println("not submitted:", err)
		}
	}
	cancel()
	for range 3 {
		if err := <-ended; err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// committed: alice has 500, bob has 1500
	// aborted: bank-a refused: insufficient funds
}
