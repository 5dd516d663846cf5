// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/embedded"
)

const patience = 60 * time.Second

// court grants leases in place of package locks, first come, first served, so that a test decides who leads.
type court struct {
	mu      sync.Mutex
	holders map[int]*grant
	queues  map[int][]*grant
	closed  bool // nobody is granted anything
	// deluded: everybody who asks is told that he holds what he held once.
	deluded bool
}

type grant struct {
	court   *court
	name    string
	shard   int
	granted chan struct{}
	done    chan struct{}
	err     error
}

func newCourt() *court {
	return &court{holders: make(map[int]*grant), queues: make(map[int][]*grant)}
}

// bench is a coordinator's session.
type bench struct {
	court *court
	name  string
	done  chan struct{}
}

func (c *court) open(name string) func(context.Context) (session, error) {
	return func(context.Context) (session, error) { return &bench{c, name, make(chan struct{})}, nil }
}

func (b *bench) Done() <-chan struct{}       { return b.done }
func (b *bench) Close(context.Context) error { return nil }
func (b *bench) holds(_ context.Context, shard int) (bool, error) {
	return b.court.holder(shard) == b.name || b.court.deluded, nil
}

func (b *bench) campaign(ctx context.Context, shard int) (lease, error) {
	g := &grant{court: b.court, name: b.name, shard: shard, granted: make(chan struct{}), done: make(chan struct{})}
	b.court.mu.Lock()
	b.court.queues[shard] = append(b.court.queues[shard], g)
	b.court.next(shard)
	b.court.mu.Unlock()
	select {
	case <-g.granted:
		return g, nil
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), g.Unlock(context.Background()))
	}
}

// next grants a shard that is nobody's.
func (c *court) next(shard int) {
	if queue := c.queues[shard]; !c.closed && c.holders[shard] == nil && len(queue) > 0 {
		c.holders[shard], c.queues[shard] = queue[0], queue[1:]
		close(queue[0].granted)
	}
}

func (g *grant) Done() <-chan struct{} { return g.done }
func (g *grant) Err() error {
	g.court.mu.Lock()
	defer g.court.mu.Unlock()
	return g.err
}

func (g *grant) Unlock(context.Context) error {
	g.court.mu.Lock()
	defer g.court.mu.Unlock()
	g.court.queues[g.shard] = slices.DeleteFunc(g.court.queues[g.shard], func(other *grant) bool { return other == g })
	g.court.end(g, true)
	return nil
}

// end takes a grant away, and tells its holder if it is to know.
func (c *court) end(g *grant, told bool) {
	if told && g.err == nil {
		g.err = errors.New("not held")
		close(g.done)
	}
	if c.holders[g.shard] == g {
		c.holders[g.shard] = nil
		c.next(g.shard)
	}
}

// take takes a shard from whoever leads it.
func (c *court) take(shard int, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.holders[shard]; g != nil {
		c.end(g, told)
	}
}

// close grants nothing until open.
func (c *court) close(closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = closed
	for shard := range c.queues {
		c.next(shard)
	}
}

// holder is the name of whose a shard is.
func (c *court) holder(shard int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.holders[shard]; g != nil {
		return g.name
	}
	return ""
}

// world is a server and coordinators whose leases a court grants.
type world struct {
	t      *testing.T
	dir    string
	server *embedded.Server
	court  *court
	board  *board // nil: there is no ring
	// prepare is called with every coordinator before it runs.
	prepare func(*Coordinator)
	nc      *nats.Conn
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), court: newCourt()}
	w.start("127.0.0.1:0")
	t.Cleanup(func() {
		if err := w.server.Close(); err != nil {
			t.Error(err)
		}
	})
	w.nc = w.connect()
	return w
}

func (w *world) start(listen string) {
	w.t.Helper()
	var err error
	if w.server, err = embedded.Start(embedded.Config{Dir: w.dir, Listen: listen}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) connect() *nats.Conn {
	w.t.Helper()
	nc, err := nats.Connect(w.server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	return nc
}

// coordinate runs a coordinator until stop is called, or the test ends; it is warm when this returns.
func (w *world) coordinate(cfg Config) (c *Coordinator, stop func()) {
	w.t.Helper()
	cfg.DrainTimeout = max(cfg.DrainTimeout, 200*time.Millisecond)
	made, err := New(w.connect(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	made.openSession = w.court.open(cfg.Name)
	made.route = w.board.route(made)
	if w.prepare != nil {
		w.prepare(made)
	}
	beats, err := w.nc.SubscribeSync("assent.coordinators")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.nc.Flush(); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- made.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	for { // it tells of itself once it is warm
		msg, err := beats.NextMsg(patience)
		if err != nil {
			w.t.Fatalf("%s is not warm: %v", cfg.Name, err)
		}
		var b beat
		if err := json.Unmarshal(msg.Data, &b); err != nil {
			w.t.Fatal(err)
		}
		if b.Hello && b.Name == cfg.Name {
			return made, stop
		}
	}
}

// until polls.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(patience)
	for !so() {
		select {
		case <-ticker.C:
		case <-timeout:
			w.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (c *Coordinator) leadsShard(shard int) bool { return slices.Contains(c.Leads(), shard) }
