// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/internal/link"
)

// setup is what a scenario's cluster looks like; the zero setup is a server, a coordinator on it, and two banks.
type setup struct {
	// combined: server and coordinator are one process, as with `assent serve`.
	combined bool
	banks    []string // default bank-a, bank-b
	// Further arguments and environment of the processes.
	server, coordinator, bank []string
	env                       []string
	// crash has the crash points at which the first processes kill themselves, by node.
	crash map[string]string
	// dir is where the server's data is; default in the scenario's directory.
	dir string
	// before is called when the server is there and nobody else is.
	before func(*cluster)
}

// cluster is a scenario's processes and what they did.
type cluster struct {
	t      testing.TB
	dir    string
	seed   uint64
	rand   *rand.Rand // of the test's own goroutine
	server *node
	// leader is the coordinator; with setup.combined it is the server too.
	leader *node
	banks  map[string]*node
	names  []string // of the banks, in order
	nodes  []*node
	nc     *nats.Conn
	client *assent.Client
	link   *link.Link // of the client
	book   book

	address atomic.Pointer[string] // of the server
}

// node is one member of a cluster. It outlives its processes.
type node struct {
	c    *cluster
	name string
	args []string
	env  []string
	link *link.Link // to the server; nil when it is the server
	log  string
	all  []*process
}

// start brings a whole cluster up.
func start(t testing.TB, s setup) *cluster {
	t.Helper()
	c := newCluster(t)
	c.startOn(s)
	return c
}

// startOn does it with an environment of the first coordinator's own.
func (c *cluster) startOn(s setup, env ...string) {
	c.t.Helper()
	if s.dir == "" {
		s.dir = filepath.Join(c.dir, "data")
	}
	role := "nats"
	if s.combined {
		role = "serve"
	}
	c.server = c.member("server", nil, append([]string{role, "-dir", s.dir}, s.server...))
	c.server.env, c.leader = s.env, c.server
	if s.combined {
		c.server.args = append(c.server.args, s.coordinator...)
	}
	c.server.start(crashAt(s.crash["server"])...)
	if s.before != nil {
		s.before(c)
	}
	if !s.combined {
		c.leader = c.coordinator("coordinator", s.coordinator...)
		c.leader.env = s.env
		c.leader.start(append(env, crashAt(s.crash["coordinator"])...)...)
	}
	c.banks = make(map[string]*node)
	if s.banks == nil {
		s.banks = []string{"bank-a", "bank-b"}
	}
	for _, name := range s.banks {
		c.join(name, s.bank...).start(crashAt(s.crash[name])...)
	}
	for _, n := range c.nodes {
		n.ready()
	}
	c.connect()
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), seed: *seedFlag}
	if c.seed == 0 {
		c.seed = rand.Uint64()
	}
	c.rand = rand.New(rand.NewPCG(c.seed, 0))
	nowhere := "127.0.0.1:1" // nobody listens there
	c.address.Store(&nowhere)
	t.Cleanup(c.end)
	return c
}

// newLink gives a process a network of its own to the server.
func newLink(t testing.TB, target func() string) *link.Link {
	t.Helper()
	l, err := link.New(target)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// member adds a node, which is not started yet.
func (c *cluster) member(name string, l *link.Link, args []string) *node {
	n := &node{c: c, name: name, link: l, args: args, log: filepath.Join(c.dir, name+".log")}
	c.nodes = append(c.nodes, n)
	return n
}

func (c *cluster) coordinator(name string, args ...string) *node {
	l := newLink(c.t, c.serverAddress)
	return c.member(name, l, append([]string{"coordinator", "-url", l.URL(), "-name", name}, args...))
}

func (c *cluster) join(name string, args ...string) *node {
	l := newLink(c.t, c.serverAddress)
	n := c.member(name, l, append([]string{"participant", "-url", l.URL(), "-name", name, "-ledger", c.ledger(name)}, args...))
	c.banks[name] = n
	c.names = append(c.names, name)
	return n
}

func (c *cluster) ledger(bank string) string { return filepath.Join(c.dir, bank+".ledger") }

func (c *cluster) serverAddress() string { return *c.address.Load() }

// connect opens the client.
func (c *cluster) connect() {
	c.t.Helper()
	c.link = newLink(c.t, c.serverAddress)
	var err error
	c.nc, err = nats.Connect(c.link.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.client, err = assent.New(c.nc, assent.Config{Patience: patience}); err != nil {
		c.t.Fatal(err)
	}
}

// proc is the node's newest process.
func (n *node) proc() *process { return n.all[len(n.all)-1] }

// start starts a process, with a crash point in its environment perhaps. A server is waited for until it listens.
func (n *node) start(env ...string) {
	n.c.t.Helper()
	p, err := launch(n.name, n.log, append(append([]string(nil), n.env...), env...), n.args...)
	if err != nil {
		n.c.t.Fatal(err)
	}
	n.all = append(n.all, p)
	for _, assignment := range env {
		if strings.HasPrefix(assignment, "ASSENT_CRASH=") {
			p.doom()
		}
	}
	if n == n.c.server {
		url, err := p.hear("listening")
		if err != nil {
			n.c.t.Fatal(err)
		}
		address := strings.TrimPrefix(url, "nats://")
		n.c.address.Store(&address)
	}
}

// ready waits until the process says that it is.
func (n *node) ready() {
	n.c.t.Helper()
	if _, err := n.proc().hear("ready"); err != nil {
		n.c.t.Fatal(err)
	}
}

// kill -9, and the end.
func (n *node) kill() {
	n.c.t.Helper()
	n.proc().kill(n.c.t)
}

// restart starts the node again, without any crash point, and waits until it is ready.
func (n *node) restart() {
	n.c.t.Helper()
	n.start()
	n.ready()
}

func crashAt(point string) []string {
	if point == "" {
		return nil
	}
	return []string{"ASSENT_CRASH=" + point}
}

// crash restarts the node so that it will kill itself at a point.
func (n *node) crash(point string) {
	n.c.t.Helper()
	n.kill()
	n.start(crashAt(point)...)
}

// pause is SIGSTOP, resume SIGCONT.
func (n *node) pause()  { n.c.t.Helper(); n.proc().signal(n.c.t, syscall.SIGSTOP) }
func (n *node) resume() { n.c.t.Helper(); n.proc().signal(n.c.t, syscall.SIGCONT) }

// paused waits until the process has stopped itself.
func (n *node) paused() {
	n.c.t.Helper()
	eventually(n.c.t, n.name+" has stopped", func() error {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.proc().cmd.Process.Pid))
		if err != nil {
			return err
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if len(fields) == 0 || fields[0] != "T" {
			return fmt.Errorf("its state is %q", fields)
		}
		return nil
	})
}

// heal mends the networks and starts every node that does not run.
func (c *cluster) heal() {
	c.t.Helper()
	for _, n := range append([]*node{c.server}, c.nodes...) {
		if n.link != nil {
			n.link.Mend()
		}
		if !n.proc().running() {
			n.start()
		}
	}
	if c.link != nil {
		c.link.Mend()
	}
}

// end stops the processes in order, and fails the test if one ended otherwise. It keeps everything when the test failed.
func (c *cluster) end() {
	if c.client != nil {
		c.client.Close()
		c.nc.Close()
		defer c.link.Close()
	}
	for i := len(c.nodes) - 1; i >= 0; i-- { // the server last
		n := c.nodes[i]
		if n.link != nil {
			defer n.link.Close() // once all have left in order
		}
		if len(n.all) == 0 {
			continue
		}
		n.finish()
		for _, p := range n.all {
			if wrong := p.wrong(); wrong != "" {
				c.t.Error(wrong)
			}
		}
	}
	c.raced()
	if c.t.Failed() {
		c.keep()
	}
}

// finish ends the node's process in order, if one runs.
func (n *node) finish() {
	p := n.proc()
	if !p.running() {
		return
	}
	p.signal(n.c.t, syscall.SIGCONT)
	p.signal(n.c.t, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		n.c.t.Errorf("%s did not end on SIGTERM within %v", n.name, patience)
		p.kill(n.c.t)
	}
}

// raced looks for what the race detector said.
func (c *cluster) raced() {
	for _, n := range c.nodes {
		data, err := os.ReadFile(n.log)
		if err == nil && (strings.Contains(string(data), "WARNING: DATA RACE") || strings.Contains(string(data), "\ngoroutine 1 [")) {
			c.t.Errorf("%s: a data race or a panic", n.name)
		}
	}
}

// keep saves the scenario's directory, and shows where and how it can be had again.
func (c *cluster) keep() {
	kept, err := os.MkdirTemp("", "assent-failed-") // it has to outlive the test
	if err == nil {
		err = os.CopyFS(kept, os.DirFS(c.dir))
	}
	c.t.Logf("seed %d; data and logs are kept in %s (%v)", c.seed, kept, err)
	for _, n := range c.nodes {
		if data, err := os.ReadFile(n.log); err == nil {
			c.t.Logf("%s, the end of its log:\n%s", n.name, data[max(0, len(data)-2000):])
		}
	}
}

// eventually polls until try has no error.
func eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
	}
}
