// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant"
)

// counter is a participant that holds one number. An operation says what it was, and what it is to be.
type counter struct {
	mu       sync.Mutex
	value    int
	prepared map[assent.ID]int
}

// change is the operation.
type change struct{ From, To int }

func (c *counter) Value() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value
}

func (c *counter) Prepare(_ context.Context, b *participant.Branch) (participant.Vote, error) {
	for _, lock := range b.Locks {
		fmt.Println(b.Operations[0].Keys[0], "is asked under the lock", lock.Key)
	}
	var op change
	if err := b.Decode(0, &op); err != nil {
		return 0, participant.Refuse(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if op.From != c.value {
		return 0, participant.Conflict(errors.New("the counter has changed since"))
	}
	c.prepared[b.Tx] = op.To
	return participant.Yes, nil
}

func (c *counter) Commit(_ context.Context, tx assent.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if value, ok := c.prepared[tx]; ok {
		c.value = value
		delete(c.prepared, tx)
	}
	return nil
}

func (c *counter) Rollback(_ context.Context, tx assent.ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.prepared, tx)
	return nil
}

func (c *counter) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

// withCounters runs a server, a coordinator and a counter for each name, as long as f does.
func withCounters(f func(context.Context, *assent.Client, map[string]*counter), names ...string) {
	ctx, cancel := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "assent")
	check(err)
	defer os.RemoveAll(dir)
	server, err := embedded.Start(embedded.Config{Dir: dir})
	check(err)
	defer server.Close()
	nc, err := server.Connect()
	check(err)
	defer nc.Close()
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	c, err := coordinator.New(nc, coordinator.Config{})
	check(err)
	running.Go(func() { check(c.Run(ctx)) })
	counters := map[string]*counter{}
	for _, name := range names {
		counters[name] = count(ctx, nc, &running, name)
	}
	client, err := assent.New(nc, assent.Config{})
	check(err)
	defer client.Close()
	f(ctx, client, counters)
}

func count(ctx context.Context, nc *nats.Conn, running *sync.WaitGroup, name string) *counter {
	counter := &counter{prepared: map[assent.ID]int{}}
	p, err := participant.New(nc, participant.Config{Name: name, Handler: counter})
	check(err)
	running.Go(func() { check(p.Run(ctx)) })
	<-p.Ready()
	return counter
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Four programs count at once. What each of them has read may have changed when its turn comes; then it reads anew.
func ExampleClient_Do() {
	withCounters(func(ctx context.Context, client *assent.Client, counters map[string]*counter) {
		visits := counters["visits"]
		var programs sync.WaitGroup
		for range 4 {
			programs.Go(func() {
				err := client.Do(ctx, func(tx *assent.Tx) error {
					now := visits.Value()
					tx.Enlist("visits", change{From: now, To: now + 1}, assent.Keys("visits"))
					return nil
				})
				if err != nil {
					fmt.Println(err)
				}
			})
		}
		programs.Wait()
		err := client.Do(ctx, func(tx *assent.Tx) error { // it waits until all that was committed is applied
			tx.Enlist("visits", change{From: 4, To: 4}, assent.SharedKeys("visits"))
			return nil
		})
		fmt.Println("visits:", visits.Value(), err)
	}, "visits")
	// Output:
	// visits: 4 <nil>
}

// Two participants drive one device, which neither of them owns: whoever uses it locks it for the whole transaction.
func ExampleTx_Lock() {
	withCounters(func(ctx context.Context, client *assent.Client, _ map[string]*counter) {
		for _, name := range []string{"left", "right"} {
			tx := client.Begin()
			tx.Lock("device/7")
			tx.Enlist(name, change{From: 0, To: 1}, assent.Keys(name))
			if err := tx.Commit(ctx); err != nil {
				fmt.Println(err)
			}
		}
	}, "left", "right")
	// Output:
	// left is asked under the lock device/7
	// right is asked under the lock device/7
}
