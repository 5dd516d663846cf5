// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"time"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/locks"
)

// term is a session with the lock of the node's name: the right to act for the node.
type term struct {
	session *locks.Session
	lock    *locks.Lock
	// ctx ends with the term, or by end, which has those end that act in it.
	ctx context.Context //nolint:containedctx // the life of what is done in a term, which no call's context bounds
	end context.CancelFunc
}

// err is nil while the term lasts. It is exact, also when the process has just been woken up; but whether somebody has taken
// the lock away by force is known only when that was heard, and then the term ends.
func (t *term) err() error {
	if t == nil {
		return errNoTerm
	}
	return t.session.Err()
}

const (
	// firstReopen and lastReopen are the pauses before another session is opened after a failure: the first, and at most.
	firstReopen = 100 * time.Millisecond
	lastReopen  = 2 * time.Second
	// closeTime is how long it may take to end a session. It ends by itself anyway.
	closeTime = 2 * time.Second
)

// keepTerm brings one term after the other, until ctx ends; then it ends the last one. It begins when the node's participants take
// part.
func (n *Node) keepTerm(ctx context.Context) {
	n.claims.allTakePart(ctx)
	for pauseTime := firstReopen; ctx.Err() == nil; {
		t, err := n.openTerm(ctx)
		if err == nil {
			pauseTime = firstReopen
			n.serveTerm(ctx, t)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, locks.ErrInvalid) || errors.Is(err, locks.ErrSettings) {
			n.events.put(func(r *nodeRun) { r.fail(err) })
			return
		}
		n.log.WithError(err).Warn("no session for the node could be opened; trying on")
		streams.Pause(ctx, pauseTime)
		pauseTime = min(2*pauseTime, lastReopen)
	}
}

// serveTerm lets the node act in a term until that is over.
func (n *Node) serveTerm(ctx context.Context, t *term) {
	t.ctx, t.end = context.WithCancel(ctx)
	defer t.end()
	n.events.put(func(r *nodeRun) { r.joined(t) })
	select {
	case <-t.session.Done():
	case <-t.lock.Done():
	case <-ctx.Done():
	}
	t.end()
	if ctx.Err() == nil {
		n.log.WithError(errors.Join(t.session.Err(), t.lock.Err())).Warn("the node's session is lost; it acts for nothing until it has another one")
	}
	n.events.put(func(r *nodeRun) { r.lost(t) })
	n.closeTerm(t.session)
}

// openTerm opens a session, and waits until it has the lock of the node's name.
func (n *Node) openTerm(ctx context.Context) (*term, error) {
	session, err := locks.Open(ctx, n.store.nc, locks.Config{
		Bucket: n.store.names.nodesBucket(), Streams: 1, Replicas: n.cfg.Replicas, TTL: n.cfg.TTL, Log: n.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	told := false
	lock, err := session.Lock(ctx, nodeLock(n.cfg.Group, n.cfg.Name), locks.OnQueue(func(p locks.Position) {
		if !told && len(p.Holders) > 0 {
			told = true
			n.log.WithField("holder", p.Holders[0].Owner).Warn("another process is this node, or was: waiting until its session has ended")
		}
	}))
	if err != nil {
		n.closeTerm(session)
		return nil, err
	}
	return &term{session: session, lock: lock}, nil
}

func (n *Node) closeTerm(session *locks.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := session.Close(ctx); err != nil {
		n.log.WithError(err).Debug("closing the node's session; it runs out by itself")
	}
}
