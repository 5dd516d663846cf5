// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"time"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// presence is what the node has said of itself, and is to say.
type presence struct {
	// due: there is something to say; urgent: something else than what was released. writing: a write is under way; what becomes
	// due meanwhile goes into the next one.
	due, urgent, writing bool
	// gather ends the time in which what is released goes into one presence; nil when nothing is due that may wait.
	gather *time.Timer
	// gathered: that time is over.
	gathered bool
	// stored is what is stored, as far as is known.
	stored raw
	known  bool
	// told is the newest that was stored in this term: with leaving, or not.
	leaving  bool
	failures int
}

// forget: another term begins, and what is stored may be another process's.
func (p *presence) forget() { p.known, p.leaving = false, false }

// want has it stored.
func (p *presence) want(urgent bool) { p.due, p.urgent = true, p.urgent || urgent }

// gatherTime is how long a move that was released is announced later at most, because others are about to be: each write is
// synced by the servers, and is a reason for another ring.
const gatherTime = 100 * time.Millisecond

// mayWait tells whether all that is to be said is what was released, and more of it comes at once. The time for that begins
// with the first.
func (r *nodeRun) mayWait() bool {
	p := &r.presence
	if p.urgent || p.gathered || !r.h.Releasing() {
		return false
	}
	if p.gather == nil {
		p.gather = time.AfterFunc(r.n.gather, func() {
			r.n.events.put(func(r *nodeRun) { r.presence.gathered = r.presence.gather != nil })
		})
	}
	return true
}

// announce stores the node's presence, if it is due and no write is under way.
func (r *nodeRun) announce() {
	if !r.presence.due || r.term == nil || r.mayWait() || r.presence.writing {
		return
	}
	r.presence.begin()
	cfg, t := &r.n.cfg, r.term
	said := r.h.Presence()
	said.Weight, said.Zone, said.Subject, said.Leaving = cfg.Weight, cfg.Zone, cfg.Subject, r.leaving.says
	stored, known, failures := r.presence.stored, r.presence.known, r.presence.failures
	r.background.Go(func() {
		after, err := r.n.store.say(t.ctx, cfg, &said, stored, known)
		if err != nil {
			streams.Pause(t.ctx, min(firstHookPause<<min(failures, 16), lastHookPause))
		}
		r.n.events.put(func(r *nodeRun) { r.announced(t, &said, after, err) })
	})
}

// begin notes that all that is due is being written.
func (p *presence) begin() {
	if p.gather != nil {
		p.gather.Stop()
	}
	p.due, p.urgent, p.gather, p.gathered, p.writing = false, false, nil, false, true
}

// announced takes what came of a write.
func (r *nodeRun) announced(t *term, said *handoff.Presence, after raw, err error) {
	p := &r.presence
	p.writing = false
	if r.term != t {
		p.want(true) // of the term before; this one's is another
		return
	}
	if err != nil {
		p.want(true)
		p.known = false
		p.failures++
		r.n.log.WithError(err).Warn("the node's presence was not stored; trying again")
		return
	}
	p.stored, p.known, p.failures, p.leaving = after, true, 0, said.Leaving
}

// say stores a presence in the place of what is there. Only the holder of the node's lock does so, so whatever else is there is of
// a process that was the node before, or of who cleans up.
func (s *store) say(ctx context.Context, cfg *NodeConfig, said *handoff.Presence, stored raw, known bool) (raw, error) {
	for {
		if !known {
			err := persist(ctx, func(ctx context.Context) (err error) {
				_, stored, err = s.presence(ctx, cfg.Group, cfg.Name)
				return err
			})
			if err != nil && !errors.Is(err, ErrRecord) {
				return raw{}, err
			}
		}
		after, err := s.putPresence(ctx, cfg.Group, cfg.Name, said, stored)
		if !errors.Is(err, errConflict) || ctx.Err() != nil {
			return after, err
		}
		known = false
		streams.Pause(ctx, streams.AttemptPause)
	}
}
