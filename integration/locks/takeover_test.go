// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-tx/assent/integration/locks/history"
	"github.com/assent-tx/assent/locks"
)

// hears is the time and the token of a client's "held".
func (h *host) hears(word string) (at int64, rest string) {
	h.w.t.Helper()
	first, rest, _ := strings.Cut(h.proc().hear(h.w.t, word), " ")
	at, err := strconv.ParseInt(first, 10, 64)
	must(h.w.t, err)
	return at, rest
}

// keeps starts a client that takes a key and keeps it.
func (w *world) keeps(name, key string, ttl time.Duration) *host {
	w.t.Helper()
	h := w.host(name)
	h.start("-one", key, "-ttl", ttl.String())
	return h
}

// A holder is killed while another waits. The other has the lock within the TTL and a second, whatever the moment: the holder has
// renewed its session before, so a lease that a renewal makes permanent (what kv.Update does to a key with a TTL) would show.
func TestTakeover(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		for _, ttl := range []time.Duration{time.Second, 3 * time.Second} {
			t.Run(fmt.Sprintf("R%d/%v", replicas, ttl), func(t *testing.T) {
				t.Parallel() // with each other; not with the faults, which take the processors away
				w := newWorld(t, replicas)
				holder := w.keeps("holder", "key0", ttl)
				_, token := holder.hears("held")
				rounds := int(3 * time.Second / ttl)
				if *allFlag {
					rounds *= 10
				}
				for n := range rounds {
					waiter := w.keeps(fmt.Sprintf("waiter%d", n), "key0", ttl)
					waiter.proc().hear(t, "waits")
					<-time.After(ttl/2 + time.Duration(w.rand.Int64N(int64(ttl/3)))) // a renewal at least
					killed := history.Now()
					holder.proc().kill(t)
					at, next := waiter.hears("held")
					took := time.Duration(at - killed)
					t.Logf("taken over after %v", took.Round(time.Millisecond))
					if took > ttl+time.Second {
						t.Errorf("taken over after %v; the TTL is %v", took, ttl)
					}
					if next <= token {
						t.Errorf("token %s after %s", next, token)
					}
					holder, token = waiter, next
				}
				holder.proc().tell(t, "unlock")
				if said := holder.proc().hear(t, "unlock"); said != fmt.Sprint(error(nil)) {
					t.Errorf("unlock: %s", said)
				}
				w.stopAll()
			})
		}
	}
}

// stopAll ends the clients in order.
func (w *world) stopAll() {
	w.t.Helper()
	var ending sync.WaitGroup
	for _, h := range w.clients {
		ending.Go(func() { h.proc().stop(w.t, "stop") })
	}
	ending.Wait()
}

// The server's wall clock is set by an hour, both ways, while a lock is held: the holder keeps it, nobody else gets it, and the next
// grant has a greater token. With three servers the clocks are then an hour apart.
func TestClockIsSetWhileALockIsHeld(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		holder := w.keeps("holder", "key0", ttl)
		_, token := holder.hears("held")
		other, err := locks.Open(t.Context(), w.nc, w.config())
		must(t, err)
		for _, by := range []string{"1h", "-1h", "-1h", "1h"} {
			for _, server := range w.servers {
				server.proc().tell(t, "step "+by)
				server.proc().hear(t, "stepped")
			}
			w.outlast()
			holder.proc().tell(t, "err")
			if _, said := holder.hears("err"); said != fmt.Sprint(error(nil)) {
				t.Errorf("after %s the holder's lock is: %s", by, said)
			}
			if lock, err := other.TryLock(t.Context(), "key0"); err == nil {
				t.Fatalf("after %s another got it too, with token %v", by, lock.Token())
			}
		}
		holder.proc().tell(t, "unlock")
		holder.proc().hear(t, "unlock")
		lock, err := other.Lock(t.Context(), "key0", locks.Wait(patience))
		must(t, err)
		if lock.Token().String() <= token {
			t.Errorf("token %v after %s", lock.Token(), token)
		}
		must(t, other.Close(t.Context()))
		w.stopAll()
	})
}
