// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// stock is a participant that keeps its shelf in memory: enough to see the calls, where a real one writes to its store
// before Prepare returns.
type stock struct {
	mu       sync.Mutex
	left     int
	reserved map[messages.ID]int
}

func (s *stock) Prepare(_ context.Context, b *participant.Branch) (participant.Vote, error) {
	var order struct{ Pieces int }
	if err := b.Decode(0, &order); err != nil {
		return 0, err // a refusal already
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.reserved[b.Tx]; again {
		return participant.Yes, nil
	}
	if order.Pieces > s.left {
		return 0, participant.Refuse(fmt.Errorf("only %d left", s.left))
	}
	s.left -= order.Pieces
	s.reserved[b.Tx] = order.Pieces
	return participant.Yes, nil
}

func (s *stock) Commit(_ context.Context, tx messages.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, tx)
	return nil
}

func (s *stock) Rollback(_ context.Context, tx messages.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += s.reserved[tx]
	delete(s.reserved, tx)
	return nil
}

// A participant and, for the example, everything else that it needs, in one process.
func Example() {
	dir, err := os.MkdirTemp("", "assent")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	nc, err := server.Connect()
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c, err := coordinator.New(nc, coordinator.Config{})
	if err != nil {
		panic(err)
	}
	var running sync.WaitGroup
	running.Go(func() { fmt.Println("coordinator:", c.Run(ctx)) })

	shelf := &stock{left: 5, reserved: make(map[messages.ID]int)}
	p, err := participant.New(nc, participant.Config{Name: "stock", Handler: shelf})
	if err != nil {
		panic(err)
	}
	taking, leave := context.WithCancel(ctx)
	took := make(chan error)
	go func() { took <- p.Run(taking) }()
	<-p.Ready()

	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		panic(err)
	}
	for _, pieces := range []int{3, 4} {
		tx := client.Begin()
		tx.Enlist("stock", map[string]int{"pieces": pieces})
		var aborted *assent.AbortedError
		switch err := tx.Commit(ctx); {
		case err == nil:
			fmt.Println(pieces, "pieces: sold")
		case errors.As(err, &aborted):
			fmt.Printf("%d pieces: %s says %s\n", pieces, aborted.Participant, aborted.Reason)
		default:
			fmt.Println(err)
		}
	}

	client.Close()
	leave()
	fmt.Println("participant:", <-took)
	stop()
	running.Wait()
	nc.Close()
	if err := server.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 3 pieces: sold
	// 4 pieces: stock says only 2 left
	// participant: <nil>
	// coordinator: <nil>
}

// What a branch locks: the keys of its operations, and what its client locked for the transaction.
func ExampleBranch_Keys() {
	b := &participant.Branch{
		Operations: []messages.Operation{
			{Keys: []string{"account/7"}, Shared: []string{"rate/eur"}},
			{Keys: []string{"account/1"}, Shared: []string{"account/7"}},
		},
		Locks: []messages.Lock{{Key: "printer", Token: "42"}},
	}
	for _, key := range b.Keys() {
		fmt.Println(key.Name, key.Shared)
	}
	fmt.Println("isolated:", b.Isolated())
	// Output:
	// account/1 false
	// account/7 false
	// lock:printer false
	// rate/eur true
	// isolated: true
}
