// SPDX-License-Identifier: Apache-2.0

package groupcommit_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
)

// gate is a nats.CustomDialer. While it is shut, what the server says does not arrive; what is said to the server does.
type gate struct {
	mu    sync.Mutex
	open  chan struct{} // closed while the gate is open
	conns []*gatedConn
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	gated := &gatedConn{Conn: conn, gate: g, closed: make(chan struct{})}
	g.conns = append(g.conns, gated)
	return gated, nil
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

// cut closes the connections: what was held back is lost.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range g.conns {
		_ = conn.Close()
	}
	g.conns = nil
}

type gatedConn struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.gate.mu.Lock()
	open := c.gate.open
	c.gate.mu.Unlock()
	if err != nil {
		return n, err
	}
	select {
	case <-open:
	case <-c.closed:
	}
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
		return n, nil
	}
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// node is a server that a test can restart on its directory and port.
type node struct {
	*embedded.Server
	cfg embedded.Config
}

func startNode(t testing.TB) *node {
	t.Helper()
	n := &node{cfg: embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}}
	n.start(t)
	n.cfg.Listen = n.URL()[len("nats://"):]
	t.Cleanup(func() { n.stop(t) })
	return n
}

func (n *node) start(t testing.TB) {
	t.Helper()
	// The port may be taken for a moment by a connection that is closing.
	eventually(t, "the server starts", func() bool {
		server, err := embedded.Start(n.cfg)
		n.Server = server
		return err == nil
	})
}

func (n *node) stop(t testing.TB) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func (n *node) connect(t testing.TB, options ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(n.URL(), append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(5 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // cut connections are what the tests are about
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func jetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// logStream makes the stream that tests publish to.
func logStream(t testing.TB, nc *nats.Conn, cfg jetstream.StreamConfig) {
	t.Helper()
	cfg.Name, cfg.Subjects, cfg.Discard = "log", []string{"log.>"}, jetstream.DiscardNew
	if _, err := jetStream(t, nc).CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// count is how many messages the stream has; -1 while nobody answers.
func count(t testing.TB, nc *nats.Conn) int {
	t.Helper()
	stream, err := jetStream(t, nc).Stream(t.Context(), "log")
	if err != nil {
		return -1
	}
	return int(stream.CachedInfo().State.Msgs)
}

// stored is all messages of the stream, in order.
func stored(t testing.TB, nc *nats.Conn) (all []*jetstream.RawStreamMsg) {
	t.Helper()
	stream, err := jetStream(t, nc).Stream(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, msg)
	}
	return all
}
