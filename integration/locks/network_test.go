// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// proxies is the network as TCP proxies, one for each direction in which somebody connects.
type proxies struct {
	t    testing.TB
	ties []tie
}

// tie is the link by which one host reaches another.
type tie struct {
	from, to *host
	*link
}

func (p *proxies) between(from, to *host, port int, frames bool) string {
	l := newLink(p.t, fmt.Sprintf("%s:%d", to.address, port), frames)
	p.ties = append(p.ties, tie{from, to, l})
	return l.address()
}

func (p *proxies) launch(h *host, log string, args []string) (*process, error) {
	return launch(h.name, log, h.binary, args...)
}

func (p *proxies) part(group ...*host) {
	for _, t := range p.ties {
		if slices.Contains(group, t.from) != slices.Contains(group, t.to) {
			t.freeze()
		}
	}
}

func (p *proxies) heal() {
	for _, t := range p.ties {
		t.thawed()
	}
}

func (p *proxies) close() {
	for _, t := range p.ties {
		t.link.close()
	}
}

// links are those of clients.
func (w *world) links() (links []*link) {
	for _, t := range w.network.(*proxies).ties { //nolint:errcheck // only worlds of proxies ask
		if t.frames {
			links = append(links, t.link)
		}
	}
	return links
}

// judge lets a rule with dice judge the frames of all clients.
func (w *world) judge(rule func(f *frame, roll func(n int) int) fate) {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(w.seed, 1))
	for _, l := range w.links() {
		l.judgedBy(func(f *frame) fate {
			mu.Lock()
			defer mu.Unlock()
			return rule(f, dice.IntN)
		})
	}
}

// unjudge lets everything pass again. What was lost stays lost.
func (w *world) unjudge() {
	for _, l := range w.links() {
		l.judgedBy(nil)
	}
}

// milliseconds is short for tables of fates.
func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// receive waits for a value.
func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}
