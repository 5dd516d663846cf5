// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/assent-tx/assent"
)

// faults is what is killed, and when: at parts of the load's way, never at times. The load cannot run past a fault, so that
// it is under way when the fault comes.
type faults struct {
	of     *cluster
	list   []*fault
	events chan string
}

// fault is the kill and the restart of one process.
type fault struct {
	victim *process
	// leads: the coordinator that leads is killed, whichever that is then; it is started again when another one leads, if there
	// is another one.
	leads   bool
	percent int
	// due is the number of transfers that have ended when it comes; the transfer of the number gate waits for it.
	due, gate int
	reached   chan struct{}
	done      chan struct{}
	killed    time.Time
}

// plan spreads the faults over the load.
func (c *cluster) plan(cfg *Config) *faults {
	f := &faults{of: c, events: make(chan string, 16)}
	if cfg.NoFaults {
		return f
	}
	for i, victim := range []*process{c.banks[0], c.serves[0], c.banks[1]} {
		percent := 25 * (i + 1)
		due := cfg.Transfers * percent / 100
		f.list = append(f.list, &fault{
			victim: victim, leads: victim == c.serves[0], percent: percent, due: due, gate: due + cfg.Transfers/8,
			reached: make(chan struct{}), done: make(chan struct{}),
		})
	}
	f.reach(0)
	return f
}

// run kills and restarts, one after the other.
func (f *faults) run(ctx context.Context) error {
	for _, next := range f.list {
		select {
		case <-next.reached:
		case <-ctx.Done():
			return nil
		}
		if err := next.strike(ctx, f.of); err != nil {
			return err
		}
		f.events <- fmt.Sprintf("kill -9 of %s at %d %%; started again as process %d", next.victim.name, next.percent, next.victim.pid())
		close(next.done)
	}
	return nil
}

// strike kills the victim and starts it again.
func (f *fault) strike(ctx context.Context, c *cluster) error {
	name, changed := c.lead.now()
	if f.leads && len(c.serves) > 1 {
		for _, p := range c.serves {
			if p.name == name {
				f.victim = p
			}
		}
	}
	f.killed = time.Now()
	if err := f.victim.kill(); err != nil {
		return err
	}
	if f.leads && len(c.serves) > 1 {
		select {
		case <-changed:
		case <-time.After(takeoverPatience):
			return fmt.Errorf("nobody took over from %s within %v of its death", name, takeoverPatience)
		case <-ctx.Done():
			return nil
		}
	}
	return f.victim.start()
}

// takeoverPatience is how long a standby may take on a busy machine; its lease is 3 s.
const takeoverPatience = 30 * time.Second

// pass lets the i-th transfer begin once the faults before it have come; false when it is not to begin at all.
func (f *faults) pass(ctx context.Context, i int) bool {
	for _, next := range f.list {
		if i < next.gate {
			break
		}
		select {
		case <-next.done:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// reach hears that so many transfers have ended, and triggers the faults that are due. Each number comes once, in any order.
func (f *faults) reach(ended int) {
	for _, next := range f.list {
		if next.due == ended {
			close(next.reached)
		}
	}
}

// recovery is the time from the kill to the first commit of a transfer that began after it, and to the end of the last of
// those that were under way; 0 when there was none.
func (f *fault) recovery(transfers []transfer) (again, settled time.Duration) {
	for i := range transfers {
		t := &transfers[i]
		after := t.ended.Sub(f.killed)
		switch {
		case t.began.After(f.killed) && t.outcome == assent.Committed && (again == 0 || after < again):
			again = after
		case t.began.Before(f.killed) && after > settled:
			settled = after
		}
	}
	return again, settled
}
