// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/integration/locks/history"
)

// Every fault, at one and at three replicas. What the tests look for is written in check_test.go; a scenario only has to make trouble
// while enough happens.

// faults are what goes wrong in a scenario. Each is one round, which ends with everything whole again.
var faults = []struct {
	name  string
	round func(w *world)
	// cluster: it needs three servers.
	cluster bool
}{
	{"ClientsAreKilled", killClients, false},
	{"ClientsArePaused", pauseClients, false},
	{"ServerIsKilled", killServer, false},
	{"ServerIsPaused", pauseServer, false},
	{"LeadersStepDown", stepDown, true},
	{"Partition", partition, false},
	{"AcknowledgementsAreLost", loseAcknowledgements, false},
	{"MessagesAreLost", loseMessages, false},
	{"ClockIsSet", setClocks, false},
}

const (
	clients = 3
	// enough is how many locks are got before, between and after faults.
	enough = 30
)

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 3} {
		for _, fault := range faults {
			if fault.cluster && replicas == 1 {
				continue
			}
			t.Run(fmt.Sprintf("%s/R%d", fault.name, replicas), func(t *testing.T) {
				t.Parallel()
				rounds(newWorld(t, replicas), fault.round)
			})
		}
	}
}

// Partitions once more, where the packets themselves are lost.
func TestPartitionOfNamespaces(t *testing.T) {
	if !inNamespace() {
		t.Parallel()
		inSpaces(t)
		return
	}
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprintf("R%d", replicas), func(t *testing.T) {
			rounds(newWorldIn(t, replicas, newSpaces(t)), partition)
		})
	}
}

// rounds is a scenario: work, a fault, and work again.
func rounds(w *world, round func(*world)) {
	w.t.Helper()
	w.add(clients)
	w.more(enough)
	for until := time.Now().Add(*duration); ; {
		round(w)
		w.more(enough)
		if !*allFlag || time.Now().After(until) {
			break
		}
	}
	w.finish()
}

// anyClient and anyServer are drawn with the scenario's dice.
func (w *world) anyClient() *host { return w.clients[w.rand.IntN(len(w.clients))] }
func (w *world) anyServer() *host { return w.servers[w.rand.IntN(len(w.servers))] }

// aHolder is a client that has just got the key which is held for longer than the TTL.
func (w *world) aHolder() (holder *host) {
	w.t.Helper()
	w.eventually("a holder of "+longKey, func(context.Context) error {
		now := history.Now() // what is read is as of now at the earliest, and on a busy machine it takes a while
		s, err := read(w.dir)
		must(w.t, err)
		for _, g := range s.grants {
			name, _, _ := strings.Cut(g.name, "-")
			i := slices.IndexFunc(w.clients, func(h *host) bool { return h.name == name })
			if g.key == longKey && len(g.unlocks) == 0 && time.Duration(now-g.ret) < ttl/2 {
				holder = w.clients[i]
				return nil
			}
		}
		return errors.New("none")
	})
	return holder
}

// aLeader leads one of the streams of the locks.
func (w *world) aLeader() *host {
	w.t.Helper()
	streams := w.streams()
	return w.leader(streams[w.rand.IntN(len(streams))])
}

// Clients die with what they hold, and others take their place.
func killClients(w *world) {
	for range 2 {
		victim := w.anyClient()
		victim.proc().kill(w.t)
		w.more(enough / 3)
		victim.begin()
		victim.proc().hear(w.t, "ready")
	}
}

// A client is paused (SIGSTOP, a garbage collection, a migrated machine) for longer than its lease, and goes on as if nothing had
// happened: it still believes what it believed (Kleppmann, "How to do distributed locking", 2016).
func pauseClients(w *world) {
	for _, victim := range []*host{w.aHolder(), w.anyClient()} {
		victim.proc().pause(w.t)
		w.outlast()
		w.more(enough / 3)
		victim.proc().resume(w.t)
		w.more(enough / 3)
	}
}

// A server is killed: with three the leader of a stream. It comes back, and has lost nothing that was acknowledged.
func killServer(w *world) {
	victim := w.aLeader()
	victim.proc().kill(w.t)
	if w.replicas > 1 {
		w.more(enough / 3) // the others carry on
	} else {
		<-time.After(ttl / 2)
	}
	victim.start()
	victim.proc().hear(w.t, "ready")
}

// A server is paused for longer than every lease: with one nobody can renew his; with three another leads meanwhile, and
// the old leader wakes up as one.
func pauseServer(w *world) {
	victim := w.aLeader()
	victim.proc().pause(w.t)
	w.outlast()
	if w.replicas > 1 {
		w.more(enough / 3)
	}
	victim.proc().resume(w.t)
}

// The leaders of all streams step down, several times.
func stepDown(w *world) {
	for range 3 {
		for _, stream := range w.streams() {
			w.eventually("the leader of "+stream+" steps down", func(ctx context.Context) error {
				_, err := w.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
				return err
			})
		}
		w.more(enough / 2)
	}
}

// A part of the network is cut off for longer than every lease. A client that holds something alone; with three servers a leader too, alone or with a
// client that believes in it.
func partition(w *world) {
	groups := [][]*host{{w.aHolder()}}
	if w.replicas > 1 {
		leader := w.aLeader()
		groups = append(groups, []*host{leader, w.anyClient()})
		if *allFlag {
			groups = append(groups, []*host{leader}, []*host{w.anyServer()})
		}
	}
	for _, group := range groups {
		w.network.part(group...)
		w.outlast()
		w.more(enough / 3)
		w.network.heal()
		w.more(enough / 3)
	}
}

// What the servers stored is not acknowledged: first some of it, then nothing at all for a while, and the connections break.
func loseAcknowledgements(w *world) {
	w.judge(func(f *frame, roll func(int) int) fate {
		if isPubAck(f) && roll(20) == 0 {
			return isLost
		}
		return passes
	})
	w.more(enough)
	w.judge(func(f *frame, _ func(int) int) fate {
		if isPubAck(f) {
			return isLost
		}
		return passes
	})
	<-time.After(ttl / 2)
	for _, l := range w.links() {
		l.cut()
	}
	w.unjudge()
}

// Messages between the clients are lost, late, and come twice. So are acknowledgements late.
func loseMessages(w *world) {
	w.judge(func(f *frame, roll func(int) int) fate {
		switch dice := roll(12); {
		case isPubAck(f) && dice == 0:
			return fate{milliseconds(roll(300))}
		case !isCore(f):
			return passes
		case dice < 3:
			return isLost
		case dice < 6:
			return fate{milliseconds(roll(1500))}
		case dice < 8:
			return fate{0, milliseconds(roll(1500))}
		default:
			return passes
		}
	})
	w.more(enough / 2)
	w.judge(func(f *frame, _ func(int) int) fate {
		if isCore(f) {
			return isLost
		}
		return passes
	})
	w.more(enough / 6)
	w.unjudge()
}

// The servers' wall clocks are set, by an hour forward and back, while locks are held. With three, one after the other.
func setClocks(w *world) {
	for _, by := range []string{"1h", "-1h", "-1h", "1h"} {
		for _, h := range w.servers {
			h.proc().tell(w.t, "step "+by)
			h.proc().hear(w.t, "stepped")
			w.more(enough / 6)
		}
	}
}
