// SPDX-License-Identifier: Apache-2.0

package router

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

	"github.com/assent-tx/assent/internal/streams"
)

// three starts a cluster of three servers, and gives their addresses.
func three(t testing.TB) (urls []string) {
	t.Helper()
	var ports []int
	var routes []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		address, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			t.Fatalf("listening on %v", l.Addr())
		}
		must(t, l.Close())
		ports = append(ports, address.Port)
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", address.Port))
	}
	for i, port := range ports {
		srv, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port}, Routes: server.RoutesFromStr(strings.Join(routes, ",")),
		})
		must(t, err)
		go srv.Start()
		t.Cleanup(func() {
			srv.Shutdown()
			srv.WaitForShutdown()
		})
		if !srv.ReadyForConnections(testPatience) {
			t.Fatal("the server does not start")
		}
		urls = append(urls, srv.ClientURL())
	}
	return urls
}

// Three replicas whose leader changes all the time: no epoch is left out or written twice, nobody who follows goes back, and who
// is told that his write was stored finds it.
func TestWritersRaceOnThreeReplicas(t *testing.T) {
	urls := three(t)
	open := func(i int) *store {
		nc, err := nats.Connect(urls[i%3], nats.MaxReconnects(-1))
		must(t, err)
		t.Cleanup(nc.Close)
		s, err := newStore(nc, Config{Replicas: 3})
		must(t, err)
		eventually(t, "the bucket is open", func() bool { return s.open(t.Context()) == nil })
		return s
	}
	c := &cluster{t: t}
	first := open(0)
	c.group(first, "g")
	var following sync.WaitGroup
	stop := make(chan struct{})
	for i := range 3 {
		f := c.follow(open(i), "g", 50*time.Millisecond)
		following.Go(func() { neverBack(t, f, stop) })
	}
	const writers, rounds = 6, 12
	var mu sync.Mutex
	written := map[uint64]int{}
	var racing sync.WaitGroup
	for i := range writers {
		s := open(i)
		racing.Go(func() {
			for done := 0; done < rounds; {
				epoch, err := bumpOnce(t.Context(), s)
				if err == nil {
					mu.Lock()
					written[epoch]++
					mu.Unlock()
					done++
				} else if !errors.Is(err, errConflict) && !errors.Is(err, ErrUnknown) {
					t.Error(err)
					return
				}
			}
		})
	}
	racing.Go(func() { // meanwhile the leader steps down
		for range 4 {
			_, _ = first.nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+first.names.stream(), nil, time.Second) // nobody may lead just now
			streams.Pause(t.Context(), 100*time.Millisecond)
		}
	})
	racing.Wait()
	close(stop)
	following.Wait()
	v, err := first.find(t.Context(), "g")
	must(t, err)
	unknown := 0
	for epoch := uint64(2); epoch <= v.record.Epoch; epoch++ {
		switch written[epoch] {
		case 1:
		case 0:
			unknown++ // stored by a writer who never heard of it
		default:
			t.Errorf("epoch %d was written %d times", epoch, written[epoch])
		}
	}
	if got := int(v.record.Epoch) - 1 - unknown; got != writers*rounds {
		t.Errorf("%d epochs are known to be written, want %d", got, writers*rounds)
	}
}

// bumpOnce stores the record that follows what is stored.
func bumpOnce(ctx context.Context, s *store) (uint64, error) {
	v, err := s.find(ctx, "g")
	if err != nil {
		return 0, err
	}
	next, err := decodeNext(v)
	if err != nil {
		return 0, err
	}
	_, err = s.put(ctx, v, next)
	return next.Epoch, err
}

// neverBack sees to it that a follower does not go back, until stop is closed.
func neverBack(t *testing.T, f *follower, stop <-chan struct{}) {
	var last uint64
	for {
		changed := f.changed()
		if r := f.record(); r != nil {
			if r.Epoch < last {
				t.Errorf("epoch %d after %d", r.Epoch, last)
			}
			last = r.Epoch
		}
		select {
		case <-changed:
		case <-stop:
			return
		}
	}
}
