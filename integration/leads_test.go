// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
)

// leads is who leads what, by what the coordinators tell each other.
type leads struct {
	c  *cluster
	mu sync.Mutex
	// by name; a coordinator that is dead or paused stays until somebody else leads its shards.
	by map[string][]int
	// last is who led a shard last, by what was heard.
	last map[int]string
	// changes counts how often a shard got another leader, steps that of each shard.
	changes int
	steps   map[int]int
}

func (c *cluster) watchLeads() *leads {
	c.t.Helper()
	l := &leads{c: c, by: make(map[string][]int), last: make(map[int]string), steps: make(map[int]int)}
	_, err := c.nc.Subscribe("assent.coordinators", func(msg *nats.Msg) {
		var beat struct {
			Name  string `json:"name"`
			Leads []int  `json:"leads"`
		}
		if err := json.Unmarshal(msg.Data, &beat); err != nil {
			c.t.Errorf("%s: %v", msg.Data, err)
			return
		}
		l.note(beat.Name, beat.Leads)
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

func (l *leads) note(name string, now []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, shard := range now {
		if slices.Contains(l.by[name], shard) {
			continue
		}
		if l.last[shard] != name {
			l.changes++
			l.steps[shard]++
			l.last[shard] = name
		}
		for other, theirs := range l.by {
			l.by[other] = slices.DeleteFunc(slices.Clone(theirs), func(s int) bool { return s == shard })
		}
	}
	l.by[name] = now
}

// of is who leads a shard; "" when nobody has said so.
func (l *leads) of(shard int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, shards := range l.by {
		if slices.Contains(shards, shard) {
			return name
		}
	}
	return ""
}

// until waits until a shard is led by another one than before, and gives its name.
func (l *leads) until(shard int, other string) (name string) {
	l.c.t.Helper()
	eventually(l.c.t, fmt.Sprintf("shard %d is led by another one than %q", shard, other), func() error {
		if name = l.of(shard); name == "" || name == other {
			return fmt.Errorf("it is led by %q", name)
		}
		return nil
	})
	return name
}

// shared waits until the shards are spread like that, whoever has which, among those that are named.
func (l *leads) shared(counts []int, names ...string) {
	l.c.t.Helper()
	eventually(l.c.t, fmt.Sprintf("the shards are shared %v among %v", counts, names), func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		got := []int{}
		for _, name := range names {
			got = append(got, len(l.by[name]))
		}
		slices.Sort(got)
		if !slices.Equal(got, counts) {
			return fmt.Errorf("they are shared %v", maps.Collect(maps.All(l.by)))
		}
		return nil
	})
}

// count is how often a shard has got another leader so far.
func (l *leads) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

// stepsOf is how often each shard got another leader so far.
func (l *leads) stepsOf() map[int]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.steps)
}

// coordinators adds so many coordinators to a cluster, and waits until all are ready.
func (c *cluster) coordinators(names []string, args ...string) map[string]*node {
	c.t.Helper()
	nodes := make(map[string]*node)
	for _, name := range names {
		nodes[name] = c.coordinator(name, args...)
		nodes[name].start()
		nodes[name].ready()
	}
	return nodes
}

// probe is transfers by several clients without a pause, each with its times.
type probe struct {
	c       *cluster
	workers sync.WaitGroup
	stop    func()
	mu      sync.Mutex
	took    []span
}

type span struct {
	began, ended time.Time
	committed    bool
}

func (c *cluster) probe(workers int) *probe {
	stopped := make(chan struct{})
	p := &probe{c: c, stop: sync.OnceFunc(func() { close(stopped) })}
	c.endWithTest(&p.workers, p.stop)
	for i := range workers {
		p.workers.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
				}
				began := time.Now()
				e := c.do(order{from: c.names[i%2], to: c.names[1-i%2], cents: 1, timeout: patience, fromAcct: i % 10, toAcct: i % 10})
				p.mu.Lock()
				p.took = append(p.took, span{began, time.Now(), e.outcome == assent.Committed})
				p.mu.Unlock()
				if e.err != nil && e.outcome != assent.Aborted {
					c.t.Errorf("a client was told %v", e.err)
				}
			}
		})
	}
	return p
}

// more waits until so many more transfers have ended.
func (p *probe) more(n int) {
	p.c.t.Helper()
	p.mu.Lock()
	want := len(p.took) + n
	p.mu.Unlock()
	eventually(p.c.t, fmt.Sprintf("%d more transfers", n), func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.took) < want {
			return fmt.Errorf("%d are left", want-len(p.took))
		}
		return nil
	})
}

// end stops the transfers and gives them.
func (p *probe) end() []span {
	p.stop()
	p.workers.Wait()
	return p.took
}

// after is the time from a moment to the first commit of a transfer that began after it.
func after(spans []span, at time.Time) time.Duration {
	first := time.Duration(-1)
	for _, s := range spans {
		if took := s.ended.Sub(at); s.committed && s.began.After(at) && (first < 0 || took < first) {
			first = took
		}
	}
	return first
}

// longest is the longest time without any commit, and the longest that one transfer took, of what ended in a time.
func longest(spans []span, from, to time.Time) (gap, transfer time.Duration) {
	slices.SortFunc(spans, func(a, b span) int { return a.ended.Compare(b.ended) })
	last := from
	for _, s := range spans {
		if !s.committed || s.ended.Before(from) || s.began.After(to) {
			continue
		}
		gap, last = max(gap, s.ended.Sub(last)), s.ended
		transfer = max(transfer, s.ended.Sub(s.began))
	}
	return gap, transfer
}

// within fails the test when something took longer than it may.
func (c *cluster) within(what string, took, bound time.Duration) {
	c.t.Helper()
	c.t.Logf("%s: %v", what, took.Round(time.Millisecond))
	if took < 0 || took > bound {
		c.t.Errorf("%s took %v; it may take %v", what, took, bound)
	}
}
