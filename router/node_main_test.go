// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// decider is a steward as a test needs it: it decides at once what nodes say, and can be held.
type decider struct {
	t     testing.TB
	c     *cluster
	s     *store
	group string
	nodes []string
	judge *locks.Session

	mu    sync.Mutex // held while it decides
	ended map[string]time.Time
	seen  map[string]bool
	held  bool
	wake  chan struct{}
}

// decide starts a decider for a group. Everything that is said in the bucket is a reason to look.
func (c *cluster) decide(group string, nodes ...string) *decider {
	c.t.Helper()
	d := &decider{
		t: c.t, c: c, s: c.store(), group: group, nodes: nodes, ended: map[string]time.Time{}, seen: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	var err error
	d.judge, err = locks.Open(c.t.Context(), c.connect(), locks.Config{Bucket: d.s.names.nodesBucket(), Streams: 1})
	must(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	c.t.Cleanup(func() {
		cancel()
		running.Wait()
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = d.judge.Close(closing)
	})
	_, err = d.s.nc.Subscribe(d.s.names.allKeys(), func(*nats.Msg) { d.look() })
	must(c.t, err)
	running.Go(func() { d.run(ctx, &running) })
	return d
}

func (d *decider) look() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *decider) run(ctx context.Context, running *sync.WaitGroup) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if d.once(ctx, running) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-ticker.C:
		}
	}
}

// once decides once, and tells whether there may be more to decide.
func (d *decider) once(life context.Context, running *sync.WaitGroup) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held {
		return false
	}
	ctx, cancel := context.WithTimeout(life, time.Second)
	defer cancel()
	v, err := d.s.record(ctx, d.group)
	if err != nil {
		return false
	}
	view := handoff.View{Nodes: map[string]handoff.Presence{}, Ended: map[string]int64{}}
	for _, node := range d.nodes {
		p, stored, err := d.s.presence(ctx, d.group, node)
		if err == nil && stored.revision > 0 && !stored.deleted {
			view.Nodes[node] = p
			d.follow(life, p.Session, running)
		}
	}
	for session, at := range d.ended {
		view.Ended[session] = time.Since(at).Milliseconds()
	}
	next, _ := handoff.Decide(v.record, &view)
	if next == nil {
		return false
	}
	_, err = d.s.put(ctx, v, next)
	return err == nil
}

// follow waits for the end of a session.
func (d *decider) follow(ctx context.Context, session string, running *sync.WaitGroup) {
	if session == "" || d.seen[session] {
		return
	}
	d.seen[session] = true
	running.Go(func() {
		if d.judge.Ended(ctx, session) == nil {
			d.mu.Lock()
			d.ended[session] = time.Now()
			d.mu.Unlock()
			d.look()
		}
	})
}

// hold lets nothing be decided until resume.
func (d *decider) hold() {
	d.mu.Lock()
	d.held = true
	d.mu.Unlock()
}

func (d *decider) resume() {
	d.mu.Lock()
	d.held = false
	d.mu.Unlock()
	d.look()
}

// change does what an operator does.
func (d *decider) change(c handoff.Change) *handoff.Record {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.s.record(d.t.Context(), d.group)
	must(d.t, err)
	next, err := v.record.Apply(&c)
	must(d.t, err)
	if next == v.record {
		return next
	}
	v, err = d.s.put(d.t.Context(), v, next)
	must(d.t, err)
	return v.record
}

func (d *decider) record() *handoff.Record {
	d.t.Helper()
	v, err := d.s.record(d.t.Context(), d.group)
	must(d.t, err)
	return v.record
}

// await waits until the record is as wanted.
func (d *decider) await(what string, want func(*handoff.Record) bool) *handoff.Record {
	d.t.Helper()
	var v version
	eventually(d.t, what, func() bool {
		var err error
		v, err = d.s.record(d.t.Context(), d.group)
		return err == nil && want(v.record)
	})
	return v.record
}

// settled: these nodes and no others are in the group, and nothing is on the move.
func (d *decider) settled(nodes ...string) *handoff.Record {
	d.t.Helper()
	return d.await(fmt.Sprintf("the group is %q and quiet", nodes), func(r *handoff.Record) bool {
		if len(r.Nodes) != len(nodes) || len(r.Moving) > 0 {
			return false
		}
		for p := range r.Partitions {
			if r.Owner(p) != r.Target(p) || r.Owner(p) == "" {
				return false
			}
		}
		return !slices.ContainsFunc(nodes, func(name string) bool { return r.Node(name) == nil })
	})
}

// proc is a process that is a node.
type proc struct {
	*Node
	t    testing.TB
	nc   *nats.Conn
	stop context.CancelFunc
	err  chan error
	once sync.Once
	last error
}

// node is the configuration of a node for tests: few partitions, and a short TTL.
func node(name string, kind Kind, change ...func(*NodeConfig)) NodeConfig {
	cfg := NodeConfig{
		Group: "g", Name: name, Settings: Settings{Partitions: 16, Kind: kind, Grace: 10 * time.Millisecond}, TTL: 2 * time.Second,
	}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func (c *cluster) node(cfg NodeConfig) *proc {
	c.t.Helper()
	p := c.prepare(cfg)
	p.run()
	return p
}

func (c *cluster) prepare(cfg NodeConfig) *proc {
	c.t.Helper()
	nc := c.connect()
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetLevel(logrus.DebugLevel)
	}
	n, err := NewNode(nc, cfg)
	must(c.t, err)
	return &proc{Node: n, t: c.t, nc: nc, err: make(chan error, 1)}
}

func (p *proc) run() {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	go func() { p.err <- p.Run(ctx) }()
	p.t.Cleanup(func() { cancel(); _ = p.wait() })
}

// up waits until the node is ready.
func (p *proc) up() *proc {
	p.t.Helper()
	select {
	case <-p.Ready():
	case err := <-p.err:
		p.err <- err
		p.t.Fatalf("Run of %s ended before it was ready: %v", p.cfg.Name, err)
	case <-time.After(testPatience):
		p.t.Fatalf("%s is not ready", p.cfg.Name)
	}
	return p
}

func (p *proc) wait() error {
	p.t.Helper()
	p.once.Do(func() {
		select {
		case p.last = <-p.err:
		case <-time.After(2 * testPatience):
			p.t.Errorf("Run of %s does not return", p.cfg.Name)
		}
	})
	return p.last
}

// end asks Run to stop, and expects no error.
func (p *proc) end() {
	p.t.Helper()
	p.stop()
	must(p.t, p.wait())
}

// session is the id of the session in which the node acts.
func (p *proc) session() string {
	if t := p.now.Load().term; t != nil {
		return t.session.ID()
	}
	return ""
}

// loseSession ends the node's session, as a waiter does that has not seen it renewed.
func (p *proc) loseSession() {
	p.t.Helper()
	t := p.now.Load().term
	marker := nats.NewMsg("$KV." + p.store.names.nodesBucket() + "-0.session." + t.session.ID())
	marker.Header.Set("KV-Operation", "DEL")
	_, err := p.store.js.PublishMsg(p.t.Context(), marker)
	must(p.t, err)
	receive(p.t, t.session.Done(), "the session is over")
}

// keyIn gives a key that lies in a partition of those of a test's group.
func keyIn(r *handoff.Record, p int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("key", i); r.Ring().Partition(key) == p {
			return key
		}
	}
}

// owned are the partitions of a node.
func owned(r *handoff.Record, node string) (partitions []int) {
	for p := range r.Partitions {
		if r.Owner(p) == node {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(testPatience):
		t.Fatalf("waited in vain until %s", what)
		panic("unreachable")
	}
}

// enter waits until a node lets work in.
func (p *proc) enter(key string) (leave func()) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s acts for %s", p.cfg.Name, key), func() (ok bool) {
		var err error
		leave, err = p.Enter(key, 0, 0)
		return err == nil
	})
	return leave
}

// acts tells whether a node lets work in.
func (p *proc) acts(key string) bool {
	leave, err := p.Enter(key, 0, 0)
	if err == nil {
		leave()
	}
	return err == nil
}

// refuses tells that a node lets no work in, and why. It may hear of the ring that a test has read later than the test, so the
// reason may be an older one for a while; but let in it must not.
func (p *proc) refuses(key string, target error, reason string) {
	p.t.Helper()
	for begun := time.Now(); ; streams.Pause(context.Background(), time.Millisecond) {
		leave, err := p.Enter(key, 0, 0)
		if err == nil {
			leave()
		}
		if errors.Is(err, target) && strings.Contains(err.Error(), reason) {
			return
		}
		if err == nil || time.Since(begun) > testPatience {
			p.t.Errorf("%s, asked for %s: %v; want %v because of %q", p.cfg.Name, key, err, target, reason)
			return
		}
	}
}

// script is Hooks that a test writes and looks at. It is shared by the nodes of a group, and fails the test when one of them
// acquires what another has not released, unless the test says that owners die.
type script struct {
	t    testing.TB
	call func(ctx context.Context, name string, hook string, m Move) error
	dies atomic.Bool
	fail atomic.Bool // every Release

	mu      sync.Mutex
	holders map[int]string
	tokens  map[int]locks.Token
	running map[string]bool
	log     []string
}

func newScript(t testing.TB) *script {
	return &script{t: t, holders: map[int]string{}, tokens: map[int]locks.Token{}, running: map[string]bool{}}
}

// of gives the hooks of one node.
func (s *script) of(name string) *scripted { return &scripted{s, name} }

type scripted struct {
	s    *script
	name string
}

func (h *scripted) Acquire(ctx context.Context, m Move) error {
	return h.s.do(ctx, h.name, "acquire", m)
}
func (h *scripted) Release(ctx context.Context, m Move) error {
	return h.s.do(ctx, h.name, "release", m)
}
func (h *scripted) Drop(ctx context.Context, m Move) error { return h.s.do(ctx, h.name, "drop", m) }

func (s *script) do(ctx context.Context, name, hook string, m Move) error {
	one := fmt.Sprint(name, " ", m.Partition)
	s.mu.Lock()
	if s.running[one] {
		s.t.Errorf("two hooks of %s at once", one)
	}
	s.running[one] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running[one] = false
		s.mu.Unlock()
	}()
	if s.fail.Load() && hook == "release" {
		return errors.New("not now")
	}
	if s.call != nil {
		if err := s.call(ctx, name, hook, m); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	holder := s.holders[m.Partition]
	switch hook {
	case "acquire":
		if holder != "" && holder != name && !s.dies.Load() {
			s.t.Errorf("%s acquires %d, which %s has", name, m.Partition, holder)
		}
		if m.Token.Compare(s.tokens[m.Partition]) < 0 {
			s.t.Errorf("%s acquires %d with token %v after %v", name, m.Partition, m.Token, s.tokens[m.Partition])
		}
		s.holders[m.Partition], s.tokens[m.Partition] = name, m.Token
	case "release":
		if holder != "" && holder != name && !s.dies.Load() {
			s.t.Errorf("%s releases %d, which %s has", name, m.Partition, holder)
		}
		s.holders[m.Partition] = ""
	}
	s.log = append(s.log, fmt.Sprintf("%s %s %d", name, hook, m.Partition))
	return nil
}

// count is how many calls there were that begin so.
func (s *script) count(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if strings.HasPrefix(line+" ", prefix+" ") {
			n++
		}
	}
	return n
}

func (s *script) hooks(name string) func(*NodeConfig) {
	return func(cfg *NodeConfig) { cfg.Hooks = s.of(name) }
}

// lines is a log that a test can wait for.
type lines struct {
	logger *logrus.Logger
	mu     sync.Mutex
	text   strings.Builder
}

func newLines() *lines {
	l := &lines{logger: logrus.New()}
	l.logger.SetOutput(l)
	l.logger.SetLevel(logrus.DebugLevel)
	return l
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) await(t testing.TB, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the log says %q", text), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(l.text.String(), text)
	})
}
