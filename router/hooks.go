// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"time"

	"github.com/assent-tx/assent/internal/panics"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// Hooks is what an application does when partitions come and go. They are called by several goroutines at once, at most 64, but
// never twice at once for one partition. Each must bear to be called again for what it has done already: after a
// failure (a panic is one), a lost session, a crash between the call and the record of it. A hook that fails is called
// again after a pause, 50 ms at first and 5 s at most, for as long as it is wanted.
//
// Their context ends after NodeConfig.HookTimeout, and when the session is lost: then others may be about to take over,
// and whatever the hook still does must be refused by what it acts upon (Move.Token, package locks/fence).
type Hooks interface {
	// Acquire makes ready to act for a partition. Work for it begins after it has succeeded.
	Acquire(ctx context.Context, m Move) error
	// Release hands over what the node holds of a partition, or only lets go of it. Nothing of the partition is in hand then. The
	// new owner acquires it after it has succeeded. What is kept must be kept until Drop: the move may yet be called
	// off, and then Acquire comes again. When the last node of a group leaves, Move.To is "": nobody takes over.
	Release(ctx context.Context, m Move) error
}

// Dropper is an optional interface of Hooks.
type Dropper interface {
	// Drop is called when a partition that was released is another node's for good, so that what was kept of it may be deleted. It is not
	// called when the process or its session ended in between.
	Drop(ctx context.Context, m Move) error
}

// Move is a partition that comes or goes.
type Move struct {
	Partition int
	// From and To are the nodes that it goes from and to; "" when that is nobody, or is not known: a node that starts again
	// acquires what it owns from nobody.
	From, To string
	// Epoch is that of the ring by which the hook is called, Since that in which the move began; Since is 0 for an Acquire whose
	// move was not seen.
	Epoch, Since uint64
	// Token grows from owner to owner of a partition, also when the group is deleted and made anew: a fencing token for what the
	// partition's owner acts upon.
	Token locks.Token
}

const (
	// maxHooks is how many hooks run at once. They are independent, and stores share one sync among those that wait for it.
	maxHooks = 64
	// firstHookPause and lastHookPause are the pauses before a hook that failed is called again: the first, and at most.
	firstHookPause = 50 * time.Millisecond
	lastHookPause  = 5 * time.Second
)

// hooks are those that are to be called, run or have failed. The goroutine of Run owns it.
type hooks struct {
	queue   []hookCall
	running int
	// failures counts how often in a row a partition's hook has failed.
	failures map[int]int
}

// hookCall is one call of a hook, in a term.
type hookCall struct {
	kind handoff.StepKind
	move Move
	term *term
}

// askHook has a hook called, as soon as there is room. It tells whether there is nothing to call.
func (r *nodeRun) askHook(s *handoff.Step) (done bool) {
	_, drops := r.n.cfg.Hooks.(Dropper)
	if r.n.cfg.Hooks == nil || s.Kind == handoff.AskDrop && !drops {
		return true
	}
	r.hooks.queue = append(r.hooks.queue, hookCall{s.Kind, Move{
		Partition: s.Partition, From: s.From, To: s.To, Epoch: s.Epoch, Since: s.Since,
		Token: locks.Token{Incarnation: r.gates.incarnation, Sequence: s.Epoch},
	}, r.term})
	return false
}

// startHooks calls those for which there is room.
func (r *nodeRun) startHooks() {
	for r.hooks.running < maxHooks && len(r.hooks.queue) > 0 {
		call := r.hooks.queue[0]
		r.hooks.queue = r.hooks.queue[1:]
		r.hooks.running++
		ended := func(err error) { r.n.events.put(func(r *nodeRun) { r.hookEnded(&call, err) }) }
		if call.term != r.term { // its session was lost while it waited for its turn
			ended(errNoTerm)
			continue
		}
		r.background.Go(func() { ended(call.run(&r.n.cfg)) })
	}
}

// run calls the hook, unless its session is lost: it would act for what may be another's.
func (c *hookCall) run(cfg *NodeConfig) (err error) {
	if err := c.term.err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.term.ctx, cfg.HookTimeout)
	defer cancel()
	late := context.AfterFunc(ctx, func() {
		if c.term.ctx.Err() == nil {
			cfg.Log.WithFields(c.fields(cfg)).Warnf("the hook has not returned within %v; it is waited for", cfg.HookTimeout)
		}
	})
	defer late()
	defer func() {
		if reason := recover(); reason != nil {
			err = panics.Recovered("the hook", reason)
		}
	}()
	switch c.kind {
	case handoff.AskAcquire:
		return cfg.Hooks.Acquire(ctx, c.move)
	case handoff.AskRelease:
		return cfg.Hooks.Release(ctx, c.move)
	default:
		return cfg.Hooks.(Dropper).Drop(ctx, c.move) //nolint:errcheck // askHook has looked
	}
}

func (c *hookCall) fields(cfg *NodeConfig) map[string]any {
	return map[string]any{"group": cfg.Group, "node": cfg.Name, "partition": c.move.Partition, "hook": c.kind.String(), "epoch": c.move.Epoch}
}

// hookEnded takes what a hook said. One that failed may be asked again after a pause.
func (r *nodeRun) hookEnded(c *hookCall, err error) {
	r.hooks.running--
	p := c.move.Partition
	r.h.Done(p, err == nil)
	if err == nil {
		delete(r.hooks.failures, p)
		return
	}
	failures := r.hooks.failures[p]
	r.hooks.failures[p]++
	pause := min(firstHookPause<<min(failures, 16), lastHookPause)
	if log := panics.Log(r.n.log, err).WithFields(c.fields(&r.n.cfg)); c.term.err() == nil && failures&(failures+1) == 0 { // 1, 2, 4, 8 …
		log.Warnf("the hook has failed %d times; it is called again until it succeeds or is not wanted any more", failures+1)
	} else {
		log.Debug("the hook failed")
	}
	time.AfterFunc(pause, func() { r.n.events.put(func(r *nodeRun) { r.h.Retry(p) }) })
}
