// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"time"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/locks"
)

// maxJudged is how many sessions are judged at a time, by a goroutine each. Nodes whose sessions are not, do not join.
const maxJudged = 4096

// judged is a session of a node that somebody looks after.
type judged struct {
	stop   context.CancelFunc
	seen   bool      // it was there
	ended  time.Time // since when it is known to have ended; zero while it is not
	wanted bool      // a node has it, or says so
}

// judgement is what was found out about a session: it is there, or it has ended.
type judgement struct {
	session string
	ended   bool
}

// judgeAll has exactly the sessions judged that nodes have, in records or by what they say.
func (t *tenure) judgeAll(ctx context.Context) {
	for _, g := range t.groups {
		if !g.dirty {
			continue
		}
		for _, s := range g.nodes {
			t.judge(ctx, s.presence.Session)
		}
		if g.at.record != nil {
			for i := range g.at.record.Nodes {
				t.judge(ctx, g.at.record.Nodes[i].Session)
			}
		}
	}
}

// judge has a session judged, if it is not yet.
func (t *tenure) judge(ctx context.Context, session string) {
	if session == "" || t.sessions[session] != nil {
		return
	}
	if len(t.sessions) >= maxJudged {
		t.forget()
	}
	if len(t.sessions) >= maxJudged {
		t.log.WithField("session", session).Error("there are too many sessions to judge: a node is not looked after")
		return
	}
	ctx, stop := context.WithCancel(ctx)
	t.sessions[session] = &judged{stop: stop}
	t.running.Go(func() { t.observe(ctx, session) })
}

// forget ends the judging of sessions that no node has any more.
func (t *tenure) forget() {
	for _, g := range t.groups {
		for _, s := range g.nodes {
			t.want(s.presence.Session)
		}
		if g.at.record != nil {
			for i := range g.at.record.Nodes {
				t.want(g.at.record.Nodes[i].Session)
			}
		}
	}
	for id, j := range t.sessions {
		if !j.wanted {
			j.stop()
			delete(t.sessions, id)
		}
		j.wanted = false
	}
}

func (t *tenure) want(session string) {
	if j := t.sessions[session]; j != nil {
		j.wanted = true
	}
}

// observe finds out whether a session is there, and waits for its end.
func (t *tenure) observe(ctx context.Context, session string) {
	for {
		seen, err := t.session.Present(ctx, session)
		if err == nil {
			if seen {
				t.tell(ctx, judgement{session: session})
			}
			err = t.end(ctx, session, seen)
		}
		switch {
		case err == nil:
			t.tell(ctx, judgement{session, true})
			return
		case ctx.Err() != nil, errors.Is(err, locks.ErrLost), errors.Is(err, locks.ErrClosed):
			return
		case errors.Is(err, locks.ErrInvalid):
			t.log.WithError(err).Error("a node has a session that is none, and is not looked after")
			return
		}
		if !streams.Pause(ctx, streams.AttemptPause) {
			return
		}
	}
}

// end waits for the end of a session. One that was not there is looked for again after a while: a server that was deposed may
// have been behind.
func (t *tenure) end(ctx context.Context, session string, seen bool) error {
	if !seen {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 3*t.session.TTL())
		defer cancel()
	}
	return t.session.Ended(ctx, session)
}

func (t *tenure) tell(ctx context.Context, j judgement) {
	select {
	case t.judgements <- j:
	case <-ctx.Done():
	}
}

// hear takes what was found out about a session.
func (t *tenure) hear(found judgement) {
	j := t.sessions[found.session]
	if j == nil {
		return
	}
	if j.seen = true; found.ended {
		j.ended = time.Now()
	}
	for _, g := range t.groups {
		g.dirty = g.dirty || g.has(found.session)
	}
}

// has tells whether a node of the group has a session, or says so.
func (g *watched) has(session string) bool {
	for _, s := range g.nodes {
		if s.presence.Session == session {
			return true
		}
	}
	if g.at.record != nil {
		for i := range g.at.record.Nodes {
			if g.at.record.Nodes[i].Session == session {
				return true
			}
		}
	}
	return false
}
