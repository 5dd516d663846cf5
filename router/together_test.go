// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// actor is the node that acts for a key.
type actor struct {
	mu   sync.Mutex
	node string
	n    int
}

// enter gives the other node that acts at the same time; "" when there is none.
func (a *actor) enter(node string) (other string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n > 0 && a.node != node {
		other = a.node
	}
	a.node = node
	a.n++
	return other
}

func (a *actor) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n--
}

// runningNode is a node that serves requests, until it is stopped.
type runningNode struct {
	node *Node
	stop func()
}

// run starts a node of kind HandOff whose handler is given.
func (c *cluster) run(name string, handle RequestHandler) *runningNode {
	c.t.Helper()
	n, err := NewNode(c.connect(), NodeConfig{
		Group: "g", Name: name, TTL: 10 * time.Second, Settings: Settings{Kind: HandOff, Partitions: 64, Grace: -1},
	})
	must(c.t, err)
	n.Serve(handle)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	r := &runningNode{n, sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("node %s ended with %v", name, err)
		}
	})}
	c.t.Cleanup(r.stop)
	select {
	case <-n.Ready():
	case err := <-ended:
		c.t.Fatal(err)
	case <-time.After(testPatience):
		c.t.Fatalf("node %s does not get ready", name)
	}
	return r
}

// Service, nodes and clients together: while nodes come and go, every request is answered, once, by whoever acts for its key
// alone.
func TestRequestsWhileNodesComeAndGo(t *testing.T) {
	c := start(t)
	c.service(ServiceConfig{})
	const keys, asking = 40, 4
	var inside [keys]actor
	var done [keys]atomic.Int64
	handler := func(name string) RequestHandler {
		return func(_ context.Context, key string, msg *nats.Msg) {
			var k int
			if _, err := fmt.Sscanf(key, "key-%d", &k); err != nil {
				t.Error(err)
				return
			}
			if other := inside[k].enter(name); other != "" {
				t.Errorf("%s acts for %s while %s does", name, key, other)
			}
			done[k].Add(1)
			runtime.Gosched()
			inside[k].leave()
			_ = msg.Respond([]byte(name))
		}
	}
	a := c.run("a", handler("a"))
	b := c.run("b", handler("b"))
	stop := make(chan struct{})
	var sent [keys]atomic.Int64
	var clients sync.WaitGroup
	seen := make(chan string, asking*1024)
	for i := range asking {
		client := c.client()
		clients.Go(func() {
			for k := i; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("key-%d", k%keys)
				answer, err := client.Request(t.Context(), "g", key, nil)
				if err != nil {
					t.Error(err)
					return
				}
				sent[k%keys].Add(1)
				select {
				case seen <- string(answer.Data):
				default:
				}
			}
		})
	}
	await := func(name string) { // its first answer
		timeout := time.After(testPatience)
		for {
			select {
			case got := <-seen:
				if got == name {
					return
				}
			case <-timeout:
				t.Fatalf("node %s answers nobody", name)
			}
		}
	}
	await("a")
	await("b")
	third := c.run("c", handler("c"))
	await("c")
	a.stop()
	c.run("a", handler("a-again"))
	await("a-again")
	b.stop()
	third.stop()
	await("a-again")
	close(stop)
	clients.Wait()
	for k := range keys {
		if sent[k].Load() != done[k].Load() || sent[k].Load() == 0 {
			t.Errorf("key %d: %d answered, %d done", k, sent[k].Load(), done[k].Load())
		}
	}
}
