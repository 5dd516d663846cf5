// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/assent-tx/assent/internal/children"
	"github.com/assent-tx/assent/internal/link"
)

// possible are the faults that can be.
func (cfg *Config) possible() (all []string) {
	for _, fault := range Faults() {
		switch {
		case fault == Pause && !children.CanPause:
		case fault == Lose && cfg.Connect != nil: // there is nothing of ours between its server and us
		default:
			all = append(all, fault)
		}
	}
	return all
}

// fault is one that can be injected: its kind, what it hits, and how.
type fault struct {
	name   string // such as "kill store"
	inject func(ctx context.Context, r *rand.Rand) (said string, err error)
}

// trouble injects faults, one after the other: each kind on each sort of victim in turn, in a random order.
type trouble struct {
	every  time.Duration
	r      *rand.Rand
	faults []fault
	brief  bool
	// ended counts the transactions that have ended.
	ended func() int64
	// between is how many must have ended since the last fault before the next one comes: or faults that come faster than this machine
	// mends them would leave no load to suffer them.
	between int64
	after   int64 // so many had ended before the last fault

	mu    sync.Mutex
	count map[string]int
}

func newTrouble(cfg *Config, c *cluster, ended func() int64) *trouble {
	t := &trouble{every: cfg.Every, brief: cfg.brief, ended: ended, between: int64(cfg.Clients), r: rand.New(rand.NewPCG(cfg.Seed, 0)), count: make(map[string]int)}
	add := func(kind, sort string, inject func(context.Context, *rand.Rand) (string, error)) {
		if slices.Contains(cfg.Faults, kind) {
			t.faults = append(t.faults, fault{kind + " " + sort, inject})
		}
	}
	for sort, members := range map[string][]*member{"store": c.stores, "coordinator": c.coordinators} {
		if len(members) == 0 {
			continue
		}
		one := func(r *rand.Rand) *member { return members[r.IntN(len(members))] }
		add(Kill, sort, func(_ context.Context, r *rand.Rand) (string, error) { return one(r).killed() })
		add(Pause, sort, func(ctx context.Context, r *rand.Rand) (string, error) { return one(r).paused(ctx, t.duration(r)) })
		if members[0].link != nil {
			add(Cut, sort, func(_ context.Context, r *rand.Rand) (string, error) { m := one(r); return cutOff(m.link, m.Name) })
			add(Lose, sort, func(ctx context.Context, r *rand.Rand) (string, error) {
				m := one(r)
				return deafened(ctx, m.link, m.Name, t.duration(r))
			})
		}
	}
	if c.clients == nil {
		add(Cut, "clients", func(context.Context, *rand.Rand) (string, error) {
			return "the clients' connection is broken", c.nc.ForceReconnect()
		})
	} else {
		add(Cut, "clients", func(context.Context, *rand.Rand) (string, error) { return cutOff(c.clients, "the clients") })
		add(Lose, "clients", func(ctx context.Context, r *rand.Rand) (string, error) {
			return deafened(ctx, c.clients, "the clients", t.duration(r))
		})
	}
	slices.SortFunc(t.faults, func(a, b fault) int { // the map's order is none
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return t
}

// duration is how long a fault lasts: mostly short, sometimes longer than a time-out of a few seconds.
func (t *trouble) duration(r *rand.Rand) time.Duration {
	if r.IntN(8) == 0 && !t.brief {
		return time.Duration(2000+r.IntN(3000)) * time.Millisecond
	}
	return time.Duration(20+r.IntN(600)) * time.Millisecond
}

// run injects faults until ctx ends, and undoes the last one.
func (t *trouble) run(ctx context.Context, event func(string)) error {
	if len(t.faults) == 0 {
		return nil
	}
	for {
		for _, i := range t.r.Perm(len(t.faults)) {
			if !sleep(ctx, t.every/2+time.Duration(t.r.Int64N(int64(t.every)))) || !t.awaitLoad(ctx) {
				return nil
			}
			said, err := t.faults[i].inject(ctx, t.r)
			if err != nil {
				return fmt.Errorf("%s: %w", t.faults[i].name, err)
			}
			t.mu.Lock()
			t.count[t.faults[i].name]++
			t.mu.Unlock()
			event(said)
		}
	}
}

// standstill is how long there may be no load before the next fault comes all the same: a system that is stuck does not get
// unstuck by being left alone.
const standstill = 30 * time.Second

// awaitLoad waits until the load has gone on since the last fault. It says whether ctx goes on.
func (t *trouble) awaitLoad(ctx context.Context) bool {
	timed, cancel := context.WithTimeout(ctx, standstill)
	defer cancel()
	_ = until(timed, func() bool { return t.ended() >= t.after+t.between }) // or the time is over
	t.after = t.ended()
	return ctx.Err() == nil
}

// all: each fault was injected.
func (t *trouble) all() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.count) == len(t.faults)
}

func (t *trouble) counts() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.count)
}

// sleep says whether ctx goes on after a time.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (m *member) killed() (string, error) {
	if err := m.Kill(); err != nil {
		return "", err
	}
	if err := m.Start(); err != nil {
		return "", err
	}
	return fmt.Sprintf("kill -9 of %s; started again as process %d", m.Name, m.Pid()), nil
}

func (m *member) paused(ctx context.Context, d time.Duration) (string, error) {
	if err := m.Pause(); err != nil {
		return "", err
	}
	sleep(ctx, d)
	return fmt.Sprintf("%s paused for %v", m.Name, d), m.Resume()
}

func cutOff(l *link.Link, of string) (string, error) {
	l.Cut()
	return "connections of " + of + " broken", nil
}

func deafened(ctx context.Context, l *link.Link, of string, d time.Duration) (string, error) {
	l.GoDeaf()
	sleep(ctx, d)
	l.Mend()
	return fmt.Sprintf("what the server said to %s was lost for %v", of, d), nil
}
