// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// presence is what the node has said of itself, and is to say.
type presence struct {
	// due: there is something to say. writing: a write is under way; what becomes due meanwhile goes into the next one.
	due, writing bool
	// stored is what is stored, as far as is known.
	stored raw
	known  bool
	// told is the newest that was stored in this term: with leaving, or not.
	leaving  bool
	failures int
}

// forget: another term begins, and what is stored may be another process's.
func (p *presence) forget() { p.known, p.leaving = false, false }

// announce stores the node's presence, if it is due and no write is under way.
func (r *nodeRun) announce() {
	if !r.presence.due || r.presence.writing || r.term == nil {
		return
	}
	r.presence.due, r.presence.writing = false, true
	cfg, t := &r.n.cfg, r.term
	said := r.h.Presence()
	said.Weight, said.Zone, said.Subject, said.Leaving = cfg.Weight, cfg.Zone, cfg.Subject, r.leaving.says
	stored, known, failures := r.presence.stored, r.presence.known, r.presence.failures
	r.background.Go(func() {
		after, err := r.n.store.say(t.ctx, cfg, &said, stored, known)
		if err != nil {
			pause(t.ctx, min(firstHookPause<<min(failures, 16), lastHookPause))
		}
		r.n.events.put(func(r *nodeRun) { r.announced(t, &said, after, err) })
	})
}

// announced takes what came of a write.
func (r *nodeRun) announced(t *term, said *handoff.Presence, after raw, err error) {
	p := &r.presence
	p.writing = false
	if r.term != t {
		p.due = true // of the term before; this one's is another
		return
	}
	if err != nil {
		p.due, p.known = true, false
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
		pause(ctx, attemptPause)
	}
}
