// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// asChild has the test binary be an outbox on the server of that URL, until it is killed.
const asChild = "ASSENT_TEST_OUTBOX"

func child() int {
	nc, err := nats.Connect(os.Getenv(asChild), nats.MaxReconnects(-1))
	if err == nil {
		var o *Outbox
		if o, err = New(nc, Config{}); err == nil {
			err = o.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// cluster is a server, a coordinator, a client, and beside the outbox a participant that says no to every third transaction.
type cluster struct {
	t       testing.TB
	cfg     embedded.Config
	server  *embedded.Server
	nc      *nats.Conn
	js      jetstream.JetStream
	client  *assent.Client
	running sync.WaitGroup
	stop    context.CancelFunc
}

func newCluster(t testing.TB) *cluster {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	c := &cluster{t: t, cfg: embedded.Config{Dir: t.TempDir(), Listen: listener.Addr().String()}}
	c.server, err = embedded.Start(c.cfg)
	must(t, err)
	c.nc = c.connect()
	c.js, err = jetstream.New(c.nc)
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	lead, err := coordinator.New(c.nc, coordinator.Config{})
	must(t, err)
	c.run(ctx, lead.Run, lead.Ready())
	critic, err := participant.New(c.nc, participant.Config{Name: "critic", Handler: critic{}})
	must(t, err)
	c.run(ctx, critic.Run, critic.Ready())
	c.client, err = assent.New(c.nc, assent.Config{Patience: wait})
	must(t, err)
	t.Cleanup(func() {
		c.client.Close()
		stop()
		c.running.Wait()
		c.nc.Close()
		must(t, c.server.Close())
	})
	return c
}

func (c *cluster) connect() *nats.Conn {
	nc, err := nats.Connect("nats://"+c.cfg.Listen, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	must(c.t, err)
	return nc
}

func (c *cluster) run(ctx context.Context, run func(context.Context) error, ready <-chan struct{}) {
	c.running.Go(func() {
		if err := run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	<-ready
}

// outbox runs one in this process until stop is called, which gives Run's error.
func (c *cluster) outbox(cfg ...Config) (box *Outbox, stop func() error) {
	nc := c.connect()
	o, err := New(nc, append(cfg, Config{})[0])
	must(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- o.Run(ctx) }()
	select {
	case <-o.Ready():
	case err := <-over:
		c.t.Fatal(err)
	}
	return o, func() error {
		cancel()
		defer nc.Close()
		return <-over
	}
}

// process starts an outbox in a process of its own; kill ends it with SIGKILL.
func (c *cluster) process() (kill func()) {
	exe, err := os.Executable()
	must(c.t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), asChild+"=nats://"+c.cfg.Listen)
	cmd.Stderr = os.Stderr
	must(c.t, cmd.Start())
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// critic holds nothing.
type critic struct{}

func (critic) Prepare(_ context.Context, b *participant.Branch) (participant.Vote, error) {
	var wish struct{ Refuse bool }
	if err := b.Decode(0, &wish); err != nil || !wish.Refuse {
		return participant.Yes, err
	}
	return 0, participant.Refuse(errors.New("no"))
}
func (critic) Commit(context.Context, messages.ID) error   { return nil }
func (critic) Rollback(context.Context, messages.ID) error { return nil }

// load commits transactions of two messages each until it is told to stop, and gives the data of those that were committed.
func (c *cluster) load(stop <-chan struct{}) (committed map[string]bool) {
	committed = make(map[string]bool)
	var mu sync.Mutex
	var clients sync.WaitGroup
	for client := range 8 {
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				data := fmt.Sprintf("%d-%d", client, n)
				tx := c.client.Begin()
				tx.Enlist("critic", map[string]bool{"refuse": n%3 == 2})
				Publish(tx, "outbox", text("orders.a", data))
				Publish(tx, "outbox", text("invoices.a", data))
				err := tx.Commit(context.Background())
				if err != nil && !errors.Is(err, assent.ErrAborted) {
					c.t.Error(err)
				}
				mu.Lock()
				if err == nil {
					committed[data] = true
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return committed
}

// check waits until as much is stored as was committed, and compares.
func (c *cluster) check(committed map[string]bool) {
	c.t.Helper()
	if len(committed) == 0 {
		c.t.Fatal("nothing was committed, so this has shown nothing")
	}
	for _, name := range []string{"ORDERS", "INVOICES"} {
		eventually(c.t, "every message in "+name, func() bool {
			stream, err := c.js.Stream(c.t.Context(), name)
			return err == nil && stream.CachedInfo().State.Msgs >= uint64(len(committed))
		})
		d := &desk{t: c.t, streams: c.js}
		stored := d.stored(name)
		slices.Sort(stored)
		if want := slices.Sorted(maps.Keys(committed)); !slices.Equal(stored, want) {
			c.t.Errorf("%s has %d messages, %d were committed", name, len(stored), len(want))
			for i, data := range stored {
				if !committed[data] || (i > 0 && stored[i-1] == data) {
					c.t.Errorf("%s: committed %v; it is there once too often", data, committed[data])
				}
			}
		}
	}
	c.t.Logf("%d transactions committed", len(committed))
}

// streams makes those of the load, with the shortest memory of ids.
func (c *cluster) streams() {
	for name, subjects := range map[string]string{"ORDERS": "orders.>", "INVOICES": "invoices.>"} {
		_, err := c.js.CreateStream(c.t.Context(), jetstream.StreamConfig{
			Name: name, Subjects: []string{subjects}, Duplicates: 100 * time.Millisecond,
		})
		must(c.t, err)
	}
}

// during runs the load while something is done.
func (c *cluster) during(do func()) (committed map[string]bool) {
	stop, result := make(chan struct{}), make(chan map[string]bool)
	go func() { result <- c.load(stop) }()
	do()
	close(stop)
	return <-result
}

// until waits until so many more messages are stored.
func (c *cluster) until(more uint64) {
	c.t.Helper()
	var from uint64
	eventually(c.t, "more messages", func() bool {
		stream, err := c.js.Stream(c.t.Context(), "ORDERS")
		if err != nil {
			return false
		}
		now := stream.CachedInfo().State.Msgs
		if from == 0 {
			from = now + 1
		}
		return now+1 >= from+more
	})
}

// Processes of the outbox are killed with kill -9 in the middle of the load, and others take over, with a duplicate window of 100
// ms: each committed transaction's messages are there once, and nothing else.
func TestProcessesAreKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector would see nothing of other processes: -short was given")
	}
	c := newCluster(t)
	c.streams()
	_, stop := c.outbox() // so that it is known to the coordinator
	must(t, stop())
	committed := c.during(func() {
		for range 4 {
			kill := c.process()
			c.until(25)
			kill()
		}
		_, stop = c.outbox()
		c.until(25)
	})
	c.check(committed)
	must(t, stop())
}

// Instances take over from each other in the middle of the load: the older one ends by itself.
func TestTakeover(t *testing.T) {
	c := newCluster(t)
	c.streams()
	_, stop := c.outbox()
	committed := c.during(func() {
		for range 4 {
			c.until(20)
			_, next := c.outbox()
			if err := stop(); err != nil && !errors.Is(err, ErrSuperseded) {
				t.Error(err)
			}
			stop = next
		}
	})
	c.check(committed)
	must(t, stop())
}

// The older one is not asked to end: it hears from its journal that it is superseded.
func TestSupersededEnds(t *testing.T) {
	c := newCluster(t)
	c.streams()
	first, stop := c.outbox()
	if _, err := New(c.nc, Config{Name: "two words"}); err == nil || !strings.Contains(err.Error(), "two words") {
		t.Errorf("a name that is none: %v", err)
	}
	_, next := c.outbox()
	committed := c.during(func() { c.until(10); <-first.journal.Dead(); c.until(10) })
	c.check(committed)
	if err := stop(); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the first instance ended with %v", err)
	}
	must(t, next())
}

// With a lease the second one stands by, until the first one ends.
func TestStandby(t *testing.T) {
	c := newCluster(t)
	c.streams()
	_, stop := c.outbox(Config{Lease: time.Minute})
	nc := c.connect()
	defer nc.Close()
	second, err := New(nc, Config{Lease: time.Minute})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- second.Run(ctx) }()
	committed := c.during(func() {
		c.until(20)
		select {
		case <-second.Ready():
			t.Error("both work")
		default:
		}
		must(t, stop())
		<-second.Ready()
		c.until(20)
	})
	c.check(committed)
	cancel()
	must(t, <-over)
}

// A key orders the messages of different transactions, in which they were committed.
func TestOrderByKey(t *testing.T) {
	c := newCluster(t)
	c.streams()
	_, stop := c.outbox()
	var clients sync.WaitGroup
	var mu sync.Mutex
	var order []string
	for client := range 8 {
		clients.Go(func() {
			for n := range 5 {
				data := fmt.Sprintf("%d-%d", client, n)
				err := c.client.Do(context.Background(), func(tx *assent.Tx) error {
					Publish(tx, "outbox", text("orders.a", data), assent.Keys("order"))
					tx.Enlist("critic", map[string]bool{"refuse": false})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, data)
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	d := &desk{t: t, streams: c.js}
	eventually(t, "every message", func() bool { return len(d.stored("ORDERS")) >= len(order) })
	must(t, stop())
	stored := d.stored("ORDERS")
	next := make(map[string]int)
	for _, data := range stored {
		client, n, _ := strings.Cut(data, "-")
		if n != fmt.Sprint(next[client]) { // a client's next one begins after it has heard of the one before
			t.Fatalf("stored in the order %v, committed about as %v", stored, order)
		}
		next[client]++
	}
	if len(stored) != 40 {
		t.Errorf("%d messages, want 40", len(stored))
	}
}

// The server is started again in the middle of the load: acknowledgements are lost, connections too.
func TestServerRestarts(t *testing.T) {
	c := newCluster(t)
	c.streams()
	o, stop := c.outbox()
	committed := c.during(func() {
		for range 2 {
			c.until(20)
			must(t, c.server.Close())
			var err error
			c.server, err = embedded.Start(c.cfg)
			must(t, err)
		}
		c.until(20)
	})
	c.check(committed)
	eventually(t, "the end of what is open", func() bool { return o.Stats().Open == 0 })
	if s := o.Stats(); s.Stuck != 0 || s.Unsure != 0 || !s.Oldest.IsZero() {
		t.Errorf("stats are %+v", s)
	}
	must(t, stop())
}
