// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// leaving is how a node ends: what was asked for, and until when.
type leaving struct {
	begun    bool
	deadline time.Time
	timer    *time.Timer
	// says: the presence says that the process is about to end.
	says bool
}

// instantTime is how long a node of kind Instant may take to say that it goes: it has nothing to hand over, so that nothing is
// lost when nobody hears it.
const instantTime = 500 * time.Millisecond

// leave begins to end.
func (r *nodeRun) leave() {
	l, timeout := &r.leaving, r.n.cfg.DrainTimeout
	l.begun = true
	record := r.h.Record()
	if record != nil && record.Kind != handoff.Data {
		l.says = true
		r.presence.want(true)
		if record.Kind == handoff.Instant {
			timeout = min(timeout, instantTime)
		}
	}
	l.deadline = time.Now().Add(timeout)
	l.timer = time.NewTimer(timeout)
}

// late has one when it has taken too long.
func (l *leaving) late() <-chan time.Time {
	if l.timer == nil {
		return nil
	}
	return l.timer.C
}

// over tells whether the node has left, as far as that needs its session.
func (l *leaving) over(r *nodeRun) bool {
	record := r.h.Record()
	switch {
	case !l.begun:
		return false
	case r.term == nil, record == nil, r.gone, record.Kind == handoff.Data:
		return true
	case !r.presence.leaving:
		return false
	case record.Kind == handoff.Instant, !r.h.Named():
		return true
	}
	return r.kept() == 0 && r.h.Quiet()
}

// kept is how many partitions are the node's, or on their way to it.
func (r *nodeRun) kept() (partitions int) {
	record := r.h.Record()
	for p := range record.Partitions {
		if record.Owner(p) == r.n.cfg.Name || record.Target(p) == r.n.cfg.Name {
			partitions++
		}
	}
	return partitions
}

// look is the time between looks at what is in hand while a node ends.
const look = 5 * time.Millisecond

// end shuts everything, and waits for what is in hand and for hooks that run. The session ends after it: until then nobody takes
// over.
func (r *nodeRun) end(requests *requests) error {
	r.linger()
	if r.leaving.timer != nil {
		r.leaving.timer.Stop()
	} else { // it failed, or is cut off
		r.leaving.deadline = time.Now().Add(r.n.cfg.DrainTimeout)
	}
	var left []string
	record, t := r.h.Record(), r.term
	if r.leaving.begun && r.named && !r.gone && record.Kind == handoff.HandOff && r.kept() > 0 {
		left = append(left, r.unreleased())
	}
	r.do(func(r *nodeRun) {
		r.term = nil
		r.h.Lost()
	})
	ctx, cancel := context.WithDeadline(r.work, r.leaving.deadline)
	defer cancel()
	if !r.drain(ctx) {
		left = append(left, "work is in hand that Enter let in")
	}
	requests.end(ctx)
	if t != nil {
		t.end() // hooks and writes that are under way; the session goes on until they have ended
	}
	r.stop()
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	if !waitFor(ctx, r.background.Wait) {
		left = append(left, "a hook has not returned although its context has ended")
	}
	if r.failed != nil || len(left) == 0 {
		return r.failed
	}
	return fmt.Errorf("router: %w: node %s of group %s: %s", ErrNotDrained, r.n.cfg.Name, r.n.cfg.Group, strings.Join(left, "; "))
}

// lingerTime is how long a node stays that has handed everything over, at the most; it is a quarter of its session's TTL.
const lingerTime = time.Second

// linger stays for the prepares of those who routed by an older ring and are on their way: the node answers that it owns nothing, and they are
// tried again elsewhere. Its participant ends when Run does, and after that nobody would answer them until they time out.
func (r *nodeRun) linger() {
	record := r.h.Record()
	handedOver := r.failed == nil && r.leaving.begun && r.term != nil && !r.gone && record != nil && record.Kind == handoff.HandOff && r.kept() == 0
	if !handedOver || !r.n.claims.hasParticipant() {
		return
	}
	ctx, cancel := context.WithDeadline(r.work, r.leaving.deadline)
	defer cancel()
	r.n.stay(ctx, min(r.n.cfg.TTL/4, lingerTime))
}

// unreleased says what was not handed over, and why.
func (r *nodeRun) unreleased() string {
	text := fmt.Sprintf("%d partitions were not handed over within %v", r.kept(), r.n.cfg.DrainTimeout)
	if r.term == nil {
		text += ", since its session was lost meanwhile"
	}
	if _, branches := r.n.claims.count(); branches > 0 {
		text += fmt.Sprintf(", while %d branches are not settled (end the participant after the node)", branches)
	}
	if r.recalling {
		text += ", while branches that were prepared before the process began are not settled"
	}
	if failing := len(r.hooks.failures); failing > 0 {
		text += fmt.Sprintf(", while the hooks of %d partitions fail", failing)
	}
	return text
}

// drain waits until nothing is in hand but claims: branches that are prepared stay so, whoever is the node.
func (r *nodeRun) drain(ctx context.Context) bool {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		if r.inHand() == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return r.inHand() == 0
		case <-ticker.C:
		}
	}
}

// inHand is how much Enter has let in that has not left.
func (r *nodeRun) inHand() int {
	if r.gates == nil {
		return 0
	}
	claimed, _ := r.n.claims.count() // before the gates: who settles meanwhile is then missed, and looked for once more
	entered := 0
	for p := range r.gates.all {
		entered += r.gates.all[p].inHand()
	}
	return max(entered-claimed, 0)
}

// waitFor tells whether something ended before ctx did.
func waitFor(ctx context.Context, end func()) bool {
	ended := make(chan struct{})
	go func() {
		end()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}
