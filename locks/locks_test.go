// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// cluster is a server for one test.
type cluster struct {
	t   testing.TB
	srv *embedded.Server
}

func start(t testing.TB) *cluster {
	t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return &cluster{t, srv}
}

func (c *cluster) connect() *nats.Conn {
	c.t.Helper()
	nc, err := nats.Connect(c.srv.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// open opens a session of its own connection.
func (c *cluster) open(cfg locks.Config) *locks.Session {
	c.t.Helper()
	s, err := locks.Open(c.t.Context(), c.connect(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			c.t.Errorf("close: %v", err)
		}
	})
	return s
}

func mustLock(t testing.TB, s *locks.Session, key string, opts ...locks.Option) *locks.Lock {
	t.Helper()
	l, err := s.Lock(t.Context(), key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustUnlock(t testing.TB, l *locks.Lock) {
	t.Helper()
	if err := l.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTokensGrowFromHolderToHolder(t *testing.T) {
	c := start(t)
	a, b := c.open(locks.Config{}), c.open(locks.Config{})
	var last locks.Token
	for i := range 10 {
		s := a
		if i%2 == 1 {
			s = b
		}
		l := mustLock(t, s, "k")
		if l.Token().Compare(last) <= 0 {
			t.Fatalf("token %s after %s", l.Token(), last)
		}
		last = l.Token()
		mustUnlock(t, l)
	}
}

func TestContended(t *testing.T) {
	c := start(t)
	const sessions, rounds = 8, 25
	var inside, total int
	var mu sync.Mutex
	var last locks.Token
	var running sync.WaitGroup
	for i := range sessions {
		s := c.open(locks.Config{Owner: fmt.Sprint(i)})
		running.Go(func() {
			for range rounds {
				l, err := s.Lock(t.Context(), "k")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if inside++; inside != 1 || l.Token().Compare(last) <= 0 {
					t.Errorf("%d inside, token %s after %s", inside, l.Token(), last)
				}
				last = l.Token()
				total++
				mu.Unlock()
				mu.Lock()
				inside--
				mu.Unlock()
				if err := l.Unlock(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	if total != sessions*rounds {
		t.Fatalf("%d of %d", total, sessions*rounds)
	}
}

func TestUnlockTwice(t *testing.T) {
	c := start(t)
	l := mustLock(t, c.open(locks.Config{}), "k")
	mustUnlock(t, l)
	if err := l.Unlock(t.Context()); !errors.Is(err, locks.ErrNotHeld) {
		t.Fatal(err)
	}
}
