// SPDX-License-Identifier: Apache-2.0

package router_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

const (
	bankPartitions = 32
	bankPatience   = 30 * time.Second
)

// vault is a node's store: what its keys have, and what is prepared. It outlives the process.
type vault struct {
	name string
	bank *bank

	mu       sync.Mutex
	balances map[string]int
	prepared map[messages.ID]map[string]int
	seen     map[messages.ID]bool
	prepares map[messages.ID]int
	gate     func(ctx context.Context, hook string, m router.Move) error
}

func (v *vault) Prepare(_ context.Context, b *participant.Branch) (participant.Vote, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prepares[b.Tx]++
	if v.prepared[b.Tx] != nil {
		return participant.Yes, nil
	}
	if v.seen[b.Tx] {
		return 0, participant.Refuse(errors.New("it is over"))
	}
	changes := map[string]int{}
	for i := range b.Operations {
		var amount int
		if err := b.Decode(i, &amount); err != nil {
			return 0, err
		}
		changes[b.Operations[i].Route.Key] += amount
	}
	v.prepared[b.Tx] = changes
	return participant.Yes, nil
}

func (v *vault) Commit(_ context.Context, tx messages.ID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, amount := range v.prepared[tx] {
		v.balances[key] += amount
	}
	delete(v.prepared, tx)
	v.seen[tx] = true
	return nil
}

func (v *vault) Rollback(_ context.Context, tx messages.ID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.prepared, tx)
	v.seen[tx] = true
	return nil
}

func (v *vault) InDoubt(context.Context) (branches []participant.Prepared, _ error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for tx := range v.prepared {
		branches = append(branches, participant.Prepared{Tx: tx, AllKeys: true})
	}
	return branches, nil
}

// moving calls the test's hook, outside of the lock.
func (v *vault) moving(ctx context.Context, hook string, m router.Move) error {
	v.mu.Lock()
	gate := v.gate
	v.mu.Unlock()
	if gate == nil {
		return nil
	}
	return gate(ctx, hook, m)
}

func (v *vault) Acquire(ctx context.Context, m router.Move) error { return v.moving(ctx, "acquire", m) }

// Release gives the partition's keys to the next owner. Nothing that is prepared may be about them.
func (v *vault) Release(ctx context.Context, m router.Move) error {
	if err := v.moving(ctx, "release", m); err != nil {
		return err
	}
	keys := map[string]int{}
	v.mu.Lock()
	for key, balance := range v.balances {
		if partitionOf(key) == m.Partition {
			keys[key] = balance
		}
	}
	for tx, changes := range v.prepared {
		for key := range changes {
			if partitionOf(key) == m.Partition {
				v.bank.t.Errorf("%s releases partition %d, for whose key %s %s is prepared", v.name, m.Partition, key, tx)
			}
		}
	}
	v.mu.Unlock()
	next := v.bank.vault(m.To)
	next.mu.Lock()
	defer next.mu.Unlock()
	maps.Copy(next.balances, keys)
	return nil
}

// Drop forgets the keys.
func (v *vault) Drop(ctx context.Context, m router.Move) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.balances, func(key string, _ int) bool { return partitionOf(key) == m.Partition })
	return nil
}

func partitionOf(key string) int { return ring.PartitionOf(ring.Hash(key), bankPartitions) }

func (v *vault) setGate(gate func(ctx context.Context, hook string, m router.Move) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gate = gate
}

// bank is a group of nodes with vaults, on a server with a coordinator and a routing service.
type bank struct {
	t      testing.TB
	srv    *embedded.Server
	nc     *nats.Conn
	kind   router.Kind
	client *assent.Client
	groups *router.Groups
	rings  *router.Client

	mu     sync.Mutex
	vaults map[string]*vault
	// made hears of each node before it runs.
	made func(n *router.Node)
}

func newBank(t testing.TB, kind router.Kind) *bank {
	t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	ok(t, err)
	t.Cleanup(func() { _ = srv.Close() })
	b := &bank{t: t, srv: srv, kind: kind, vaults: map[string]*vault{}}
	b.nc = b.connect()
	c, err := coordinator.New(b.connect(), coordinator.Config{Shards: 1})
	ok(t, err)
	b.run(c.Run, c.Ready())
	s, err := router.NewService(b.connect(), router.ServiceConfig{})
	ok(t, err)
	b.run(s.Run, s.Ready())
	b.groups, err = router.Open(t.Context(), b.nc, router.Config{})
	ok(t, err)
	b.client, err = assent.New(b.connect(), assent.Config{})
	ok(t, err)
	t.Cleanup(b.client.Close)
	b.rings, err = router.NewClient(b.connect(), router.Config{})
	ok(t, err)
	t.Cleanup(b.rings.Close)
	return b
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bank) connect() *nats.Conn {
	b.t.Helper()
	nc, err := nats.Connect(b.srv.URL(), nats.MaxReconnects(-1))
	ok(b.t, err)
	b.t.Cleanup(nc.Close)
	return nc
}

// run runs something until the test ends, or stop is called, which waits for its end.
func (b *bank) run(run func(context.Context) error, ready <-chan struct{}) (stop func() error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return wait(b.t, ended, "it ends")
	})
	b.t.Cleanup(func() { _ = stop() })
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		b.t.Fatalf("it ended before it was ready: %v", err)
	case <-time.After(bankPatience):
		b.t.Fatal("it is not ready")
	}
	return stop
}

func wait[T any](t testing.TB, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(bankPatience):
		t.Errorf("waited in vain until %s", what)
	}
	return v
}

func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(bankPatience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (b *bank) vault(name string) *vault {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.vaults[name] == nil {
		b.vaults[name] = &vault{
			name: name, bank: b, balances: map[string]int{}, prepared: map[messages.ID]map[string]int{}, seen: map[messages.ID]bool{}, prepares: map[messages.ID]int{},
		}
	}
	return b.vaults[name]
}

// member is a process: a node and its participant.
type member struct {
	node                  *router.Node
	stopNode, stopParties func() error
}

// join starts a process on a vault; unready does not wait until it acts for what it owns.
func (b *bank) join(name string, log *logrus.Logger, unready ...bool) *member {
	b.t.Helper()
	v, nc := b.vault(name), b.connect()
	n, err := router.NewNode(nc, router.NodeConfig{
		Group: "accounts", Name: name, Hooks: v, TTL: 2 * time.Second, Settings: router.Settings{Kind: b.kind, Partitions: bankPartitions, Grace: -1},
		DrainTimeout: bankPatience, Config: router.Config{Log: log},
	})
	ok(b.t, err)
	if b.made != nil {
		b.made(n)
	}
	p, err := participant.New(nc, participant.Config{Name: name, Handler: v, Ownership: n, Log: log})
	ok(b.t, err)
	m := &member{node: n}
	ready := n.Ready()
	if len(unready) > 0 {
		now := make(chan struct{})
		close(now)
		ready = now
	}
	m.stopParties = b.run(p.Run, p.Ready())
	m.stopNode = b.run(n.Run, ready)
	return m
}

// end ends a process in order: first the node, which hands over what its participant lets go of.
func (m *member) end(t testing.TB) {
	t.Helper()
	ok(t, m.stopNode())
	ok(t, m.stopParties())
}

// settled waits until all partitions are where they are to be, on so many nodes.
func (b *bank) settled(nodes int) *router.Group {
	b.t.Helper()
	var g *router.Group
	until(b.t, fmt.Sprintf("%d nodes own everything", nodes), func() bool {
		var err error
		g, err = b.groups.Show(b.t.Context(), "accounts")
		return err == nil && len(g.Nodes) == nodes && g.Moving+g.Waiting+g.Unowned == 0
	})
	return g
}

// keyOf gives a key that a node owns now.
func (b *bank) keyOf(name string) (key string, route router.Route) {
	b.t.Helper()
	for i := range 10_000 {
		key = fmt.Sprint("account/", i)
		route, err := b.rings.Route(b.t.Context(), "accounts", key)
		ok(b.t, err)
		if route.Node == name {
			return key, route
		}
	}
	b.t.Fatalf("%s owns nothing", name)
	panic("unreachable")
}

func (b *bank) pin(key, name string) {
	b.t.Helper()
	_, err := b.groups.Change(b.t.Context(), router.ChangeRequest{Group: "accounts", Action: router.ActionPin, Node: name, Key: &key})
	ok(b.t, err)
}

// Money moves between accounts while nodes come and go: none is lost or made, and every transfer commits.
func TestTransfersWhileNodesComeAndGo(t *testing.T) {
	b := newBank(t, router.HandOff)
	first := b.join("n1", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done atomic.Int64
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				tx := b.client.Begin(assent.WithTimeout(20 * time.Second))
				tx.EnlistKey("accounts", fmt.Sprint("account/", (7*i+n)%40), -1)
				tx.EnlistKey("accounts", fmt.Sprint("account/", (11*i+3*n+1)%40), 1)
				if err := tx.Commit(context.WithoutCancel(ctx)); err != nil {
					t.Errorf("a transfer: %v", err)
				}
				done.Add(1)
			}
		})
	}
	some := func() {
		t.Helper()
		before := done.Load()
		until(t, "some are done", func() bool { return done.Load() > before+20 })
	}
	some()
	second := b.join("n2", nil)
	b.settled(2)
	some()
	b.join("n3", nil)
	b.settled(3)
	some()
	first.end(t)
	b.settled(2)
	some()
	first = b.join("n1", nil)
	second.end(t)
	b.settled(2)
	some()
	cancel()
	clients.Wait()
	first.end(t)
	b.settled(1)
	until(t, "everything is settled", func() bool { txs, err := b.vault("n3").InDoubt(t.Context()); return err == nil && len(txs) == 0 })
	sum, last := 0, b.vault("n3")
	last.mu.Lock()
	defer last.mu.Unlock()
	for _, balance := range last.balances {
		sum += balance
	}
	if sum != 0 || len(last.balances) != 40 {
		t.Errorf("%d accounts have %d altogether, want 40 with 0", len(last.balances), sum)
	}
}

// A vote against what is another's is in the log, with the epoch.
func TestWrongOwnerIsInTheLog(t *testing.T) {
	b := newBank(t, router.HandOff)
	b.join("n1", nil)
	b.join("n2", nil)
	g := b.settled(2)
	key, route := b.keyOf("n2")
	tx, vote, msg := b.ask("n1", key, route)
	want := fmt.Sprintf("wrong owner: n1 does not own key %q in epoch %d", key, g.Epoch)
	if vote.Vote != messages.VoteNo || !vote.Held || vote.WrongOwner != g.Epoch || vote.Reason != want {
		t.Errorf("vote %+v, want a held no by the wrong owner in epoch %d: %s", vote, g.Epoch, want)
	}
	js, err := jetstream.New(b.nc)
	ok(t, err)
	stream, err := js.Stream(t.Context(), messages.Subjects{}.Stream(0))
	ok(t, err)
	if stored, err := stream.GetLastMsgForSubject(t.Context(), msg.Subject); err != nil || string(stored.Data) != string(msg.Data) {
		t.Errorf("the log has %v, %v", stored, err)
	}
	if n := b.vault("n1").count(tx); n != 0 {
		t.Errorf("%d calls of Prepare", n)
	}
}

// ask submits a transaction for a node as one who has found it by a route, and gives the node's vote, and the message that it came in.
func (b *bank) ask(node, key string, route router.Route) (tx messages.ID, vote messages.VoteRecord, msg *nats.Msg) {
	b.t.Helper()
	sub := messages.Submission{
		Tx: messages.NewID(), TimeoutMS: 20_000,
		Operations: []messages.Operation{{Participant: node, Payload: []byte(`1`), Route: &messages.Route{Group: "accounts", Key: key, Incarnation: route.Incarnation, Epoch: route.Epoch}}},
	}
	var subjects messages.Subjects
	votes := make(chan *nats.Msg, 10)
	listening, err := b.nc.Subscribe("assent.log.*.vote."+node, func(msg *nats.Msg) { votes <- msg })
	ok(b.t, err)
	defer func() { ok(b.t, listening.Unsubscribe()) }()
	ok(b.t, b.nc.Flush())
	ok(b.t, b.nc.PublishRequest(subjects.Submit(sub.Tx.Shard(1)), b.nc.NewInbox(), messages.AppendSubmission(nil, &sub)))
	if msg = wait(b.t, votes, node+" votes"); msg == nil {
		b.t.FailNow()
	}
	ok(b.t, new(messages.Decoder).Vote([]byte(strings.TrimSpace(string(msg.Data))), &vote))
	if vote.Tx != sub.Tx {
		b.t.Fatalf("vote %+v, want one of %s", vote, sub.Tx)
	}
	return sub.Tx, vote, msg
}

// A node that has handed everything over stays a moment: a prepare that was routed by an older ring, and arrives after the last partition has
// gone, is told who does not own the key any more, and since which epoch. Without that its process ends, and nobody would answer it
// until it times out.
func TestNodeStaysForWhoRoutedByAnOlderRing(t *testing.T) {
	b := newBank(t, router.HandOff)
	stays, leave := make(chan time.Duration, 1), make(chan struct{})
	b.made = func(n *router.Node) {
		n.Stays(func(ctx context.Context, d time.Duration) bool {
			stays <- d
			select {
			case <-leave:
			case <-ctx.Done():
			}
			return ctx.Err() == nil
		})
	}
	n1 := b.join("n1", nil)
	b.made = nil
	b.join("n2", nil)
	before := b.settled(2)
	key, route := b.keyOf("n1")
	ended := make(chan error, 1)
	go func() { // as a process ends
		err := n1.stopNode()
		ended <- errors.Join(err, n1.stopParties())
	}()
	select {
	case d := <-stays:
		if d != 500*time.Millisecond {
			t.Errorf("it stays for %v, want a quarter of its TTL of 2 s", d)
		}
	case err := <-ended:
		t.Fatalf("it has ended (%v), and did not stay", err)
	}
	_, vote, _ := b.ask("n1", key, route)
	if vote.Vote != messages.VoteNo || !vote.Held || vote.WrongOwner <= before.Epoch || !strings.Contains(vote.Reason, "n1 does not own key") {
		t.Errorf("vote %+v, want a held no by the wrong owner in an epoch after %d", vote, before.Epoch)
	}
	close(leave)
	ok(t, wait(t, ended, "it ends"))
}

func (v *vault) count(tx messages.ID) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.prepares[tx]
}

// spy is a log that tells when something is said.
type spy struct{ said chan string }

func (s *spy) Levels() []logrus.Level { return logrus.AllLevels }
func (s *spy) Fire(e *logrus.Entry) error {
	select {
	case s.said <- e.Message:
	default:
	}
	return nil
}

func (s *spy) await(t testing.TB, text string) {
	t.Helper()
	for !strings.Contains(wait(t, s.said, "the log says "+text), text) {
		if t.Failed() {
			t.FailNow()
		}
	}
}

func newSpy() (*logrus.Logger, *spy) {
	log, s := logrus.New(), &spy{make(chan string, 10_000)}
	log.SetOutput(discard{})
	log.SetLevel(logrus.DebugLevel)
	log.AddHook(s)
	return log, s
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// A node that is not ready makes the transaction wait, not fail: its handler is asked once, when it acts.
func TestTransactionWaitsForItsNode(t *testing.T) {
	b := newBank(t, router.HandOff)
	let := make(chan struct{})
	b.vault("n1").setGate(func(ctx context.Context, _ string, _ router.Move) error {
		select {
		case <-let:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	log, said := newSpy()
	b.join("n1", log, true)
	b.settled(1)
	tx := b.client.Begin(assent.WithTimeout(20 * time.Second))
	tx.EnlistKey("accounts", "account/1", 5)
	outcome := make(chan error, 1)
	go func() { outcome <- tx.Commit(t.Context()) }()
	said.await(t, "are not to be had here")
	close(let)
	ok(t, wait(t, outcome, "it commits"))
	if n := b.vault("n1").count(tx.Last()); n != 1 || tx.Last() != tx.ID() {
		t.Errorf("%d calls of Prepare, by %s; want one, by %s", n, tx.Last(), tx.ID())
	}
}

// A branch that is prepared when its process dies keeps its partition from being handed over by the next process, until its
// outcome has come.
func TestPreparedBranchSurvivesARestart(t *testing.T) {
	b := newBank(t, router.Data)
	process := b.join("n1", nil)
	b.join("n2", nil)
	b.settled(2)
	key, route := b.keyOf("n1")
	let := make(chan struct{})
	slow, err := participant.New(b.connect(), participant.Config{Name: "slow", Handler: slowly{let}})
	ok(t, err)
	b.run(slow.Run, slow.Ready())
	tx := b.client.Begin(assent.WithTimeout(time.Minute))
	tx.EnlistKey("accounts", key, 7)
	tx.Enlist("slow", 1)
	outcome := make(chan error, 1)
	go func() { outcome <- tx.Commit(t.Context()) }()
	prepared := func() bool { txs, err := b.vault("n1").InDoubt(t.Context()); return err == nil && len(txs) == 1 }
	until(t, "it is prepared", prepared)
	ok(t, process.stopNode())
	ok(t, process.stopParties())

	released := make(chan int, bankPartitions)
	b.vault("n1").setGate(func(_ context.Context, hook string, m router.Move) error {
		if hook == "release" {
			released <- m.Partition
		}
		return nil
	})
	b.join("n1", nil)
	b.pin(key, "n2")
	until(t, "it is to move", func() bool {
		now, err := b.rings.Route(t.Context(), "accounts", key)
		return err == nil && now.Moving
	})
	ok(t, b.rings.After(t.Context(), "accounts", route.Incarnation, route.Epoch))
	if !prepared() || len(released) != 0 {
		t.Errorf("%d partitions were released while a branch is prepared", len(released))
	}
	close(let)
	ok(t, wait(t, outcome, "it commits"))
	until(t, "n2 has it", func() bool {
		now, err := b.rings.Route(t.Context(), "accounts", key)
		return err == nil && now.Node == "n2" && !now.Moving
	})
	if n := wait(t, released, "it is released"); n != route.Partition {
		t.Errorf("partition %d was released first, want %d", n, route.Partition)
	}
	next := b.vault("n2")
	next.mu.Lock()
	defer next.mu.Unlock()
	if next.balances[key] != 7 {
		t.Errorf("n2 has %v, want %s with what was prepared on n1", next.balances, key)
	}
}

// slowly is a handler that votes when it is let.
type slowly struct{ let chan struct{} }

func (s slowly) Prepare(ctx context.Context, _ *participant.Branch) (participant.Vote, error) {
	select {
	case <-s.let:
		return participant.Yes, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
func (slowly) Commit(context.Context, messages.ID) error   { return nil }
func (slowly) Rollback(context.Context, messages.ID) error { return nil }
