// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Three NATS servers hold every log. The one that leads the log's stream is shut down while transactions run: no
// acknowledged outcome is lost, every transaction has one outcome that the participants share, and the rest go on.
// (NATS-FACTS: five to eight seconds without acknowledgements after the death of a stream's leader, unclean; a shut down
// one hands over.)
func TestThreeReplicasLoseAServer(t *testing.T) {
	servers := startCluster(t, 3)
	nc := connectAll(t, servers)
	c, err := coordinator.New(nc, coordinator.Config{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	live(t, c.Run, c.Ready())
	applied := map[string]*applied{"a": {}, "b": {}}
	for name, handler := range applied {
		p, err := participant.New(connectAll(t, servers), participant.Config{Name: name, Handler: handler})
		if err != nil {
			t.Fatal(err)
		}
		live(t, p.Run, p.Ready())
	}
	client, err := assent.New(connectAll(t, servers), assent.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)

	const clients, each = 8, 40
	var committed, ended sync.Map
	var running sync.WaitGroup
	half := make(chan struct{})
	var once sync.Once
	for n := range clients {
		running.Go(func() {
			for i := range each {
				if i == each/2 {
					once.Do(func() { close(half) })
				}
				tx := client.Begin(assent.WithTimeout(60 * time.Second))
				tx.Enlist("a", fmt.Sprintf("%d/%d", n, i))
				tx.Enlist("b", fmt.Sprintf("%d/%d", n, i))
				err := tx.Commit(t.Context())
				if errors.Is(err, assent.ErrUnknown) {
					t.Errorf("%s: %v", tx.ID(), err)
				}
				ended.Store(tx.ID(), true)
				if err == nil {
					committed.Store(tx.ID(), true)
				}
			}
		})
	}
	<-half
	shutDownLeader(t, servers, nc, messages.Subjects{}.Stream(0))
	running.Wait()

	// Whoever was told "committed" finds it at both; nothing else is committed anywhere.
	deadline := time.Now().Add(time.Minute)
	committed.Range(func(key, _ any) bool {
		for name, handler := range applied {
			for !handler.committed(key.(messages.ID)) { //nolint:errcheck // nothing else is stored there
				if time.Now().After(deadline) {
					t.Fatalf("%s never committed %v", name, key)
				}
			}
		}
		return true
	})
	for name, handler := range applied {
		handler.mu.Lock()
		for tx, outcome := range handler.outcomes {
			if _, ok := committed.Load(tx); (outcome == assent.Committed) != ok {
				t.Errorf("%s has %s %v; the client was told committed: %t", name, tx, outcome, ok)
			}
		}
		handler.mu.Unlock()
	}
}

// applied is a participant that notes each transaction's outcome and refuses to have two.
type applied struct {
	mu       sync.Mutex
	outcomes map[messages.ID]assent.Outcome
}

func (a *applied) Prepare(context.Context, *participant.Branch) (participant.Vote, error) {
	return participant.Yes, nil
}

func (a *applied) Commit(_ context.Context, tx messages.ID) error {
	return a.note(tx, assent.Committed)
}
func (a *applied) Rollback(_ context.Context, tx messages.ID) error {
	return a.note(tx, assent.Aborted)
}

func (a *applied) note(tx messages.ID, outcome assent.Outcome) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.outcomes == nil {
		a.outcomes = make(map[messages.ID]assent.Outcome)
	}
	if had, ok := a.outcomes[tx]; ok && had != outcome {
		return participant.Heuristic(fmt.Errorf("%s is %v and shall be %v", tx, had, outcome))
	}
	a.outcomes[tx] = outcome
	return nil
}

func (a *applied) committed(tx messages.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.outcomes[tx] == assent.Committed
}

// startCluster gives n NATS servers with JetStream, clustered on loopback.
func startCluster(t *testing.T, n int) (servers []*server.Server) {
	t.Helper()
	ports := freePorts(t, n)
	var routes string
	for _, port := range ports {
		routes += fmt.Sprintf("nats://127.0.0.1:%d,", port)
	}
	for i, port := range ports {
		options := &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
			Cluster: server.ClusterOpts{Name: "assent", Host: "127.0.0.1", Port: port},
			Routes:  server.RoutesFromStr(routes[:len(routes)-1]),
		}
		s, err := server.NewServer(options)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		servers = append(servers, s)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		for _, s := range servers {
			if s.ReadyForConnections(time.Second) && s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == n {
				return servers
			}
		}
		if time.Now().After(deadline) {
			for _, s := range servers {
				t.Logf("%s: %d routes, leader %t, current %t, peers %v", s.Name(), s.NumRoutes(), s.JetStreamIsLeader(), s.JetStreamIsCurrent(), s.JetStreamClusterPeers())
			}
			t.Fatal("the NATS cluster has no meta leader that sees all")
		}
	}
}

func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		address, ok := listener.Addr().(*net.TCPAddr)
		if !ok {
			t.Fatalf("%v is no TCP address", listener.Addr())
		}
		ports = append(ports, address.Port)
	}
	return ports
}

func connectAll(t *testing.T, servers []*server.Server) *nats.Conn {
	t.Helper()
	return connectTo(t, urlsOf(servers))
}

// urlsOf are the servers' URLs, comma-separated.
func urlsOf(servers []*server.Server) string {
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.ClientURL()
	}
	return strings.Join(urls, ",")
}

func connectTo(t *testing.T, urls string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// live runs until the test ends.
func live(t *testing.T, run func(context.Context) error, ready <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Logf("a drain without a quorum: %v", err)
		}
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
}

func shutDownLeader(t *testing.T, servers []*server.Server, nc *nats.Conn, name string) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	leader := stream.CachedInfo().Cluster.Leader
	for _, s := range servers {
		if s.Name() == leader {
			s.Shutdown()
			return
		}
	}
	t.Fatalf("no server is called %q", leader)
}
