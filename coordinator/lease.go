// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"sync"
	"time"
)

// lease is the right to lead a shard while Done is open. Nothing depends on it but work: two who lead disagree about
// nothing. *locks.Lock is one.
type lease interface {
	Done() <-chan struct{}
	// Err is nil while it is held. It looks at the clock, so it is right also when the process has just been woken up.
	Err() error
	Unlock(ctx context.Context) error
}

// session is where a coordinator campaigns for leases; all that it has been granted are lost together, when Done closes.
type session interface {
	// campaign waits for the lease of a shard.
	campaign(ctx context.Context, shard int) (lease, error)
	// holds asks the server whether the lease of a shard is this session's.
	holds(ctx context.Context, shard int) (bool, error)
	Done() <-chan struct{}
	Close(ctx context.Context) error
}

// sessions has the session of the moment.
type sessions struct {
	mu      sync.Mutex
	now     session       // nil while there is none
	changed chan struct{} // closed, and made anew, when now changes
}

func (s *sessions) set(now session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sessions) live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now != nil
}

// get waits until there is one; nil when ctx ends before.
func (s *sessions) get(ctx context.Context) session {
	for {
		s.mu.Lock()
		now, changed := s.now, s.changed
		s.mu.Unlock()
		if now != nil {
			return now
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// The pauses after a failure: to open a session, and to campaign.
const (
	reopenPause   = time.Second
	campaignPause = 100 * time.Millisecond
	// giveBackPatience is how long a lease may take to be given back. It ends with its session anyway.
	giveBackPatience = 2 * time.Second
)

// keepSession opens a session, and another one whenever it is lost, until ctx ends. Only the first must succeed.
func (c *Coordinator) keepSession(ctx context.Context) error {
	for first := true; ctx.Err() == nil; {
		opened, err := c.openSession(ctx)
		switch {
		case err == nil:
			first = false
			c.sessions.set(opened)
			select {
			case <-opened.Done():
				c.sessions.set(nil)
				c.cfg.Log.Warn("the session of the leases is lost; opening another one")
			case <-ctx.Done(): // it is closed when nobody leads any more
			}
		case ctx.Err() != nil:
		case first:
			return err
		default:
			c.cfg.Log.WithError(err).Warn("no session for the leases could be opened; trying on")
			wait(ctx, reopenPause)
		}
	}
	return nil
}

// closeSession gives back what is left.
func (c *Coordinator) closeSession(ctx context.Context) {
	c.sessions.mu.Lock()
	now := c.sessions.now
	c.sessions.mu.Unlock()
	if now == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackPatience)
	defer cancel()
	if err := now.Close(ctx); err != nil {
		c.cfg.Log.WithError(err).Debug("closing the session of the leases; it runs out by itself")
	}
}

// mandate is a lease in a leader's hands.
type mandate struct {
	lease
	session  session
	once     sync.Once
	released chan struct{}
	over     chan struct{} // closed when nobody leads by it any more
}

// release has the lease given back. Who led by it may lead on, until another one does.
func (m *mandate) release() { m.once.Do(func() { close(m.released) }) }

// end is the end of leading.
func (m *mandate) end() {
	m.release()
	close(m.over)
}

// campaign brings the shard's leader one lease after the other, until ctx ends. It begins when the leader is warm: who is
// not would keep others waiting who are.
func (c *Coordinator) campaign(ctx context.Context, l *leader) {
	select {
	case <-l.warm:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		if now := c.sessions.get(ctx); now != nil {
			c.serveTerm(ctx, now, l)
		}
	}
}

// serveTerm is one campaign, and what becomes of the lease.
func (c *Coordinator) serveTerm(ctx context.Context, now session, l *leader) {
	held, err := now.campaign(ctx, l.shard)
	if err != nil {
		if ctx.Err() == nil {
			l.log.WithError(err).Debug("campaigning for the shard")
		}
		wait(ctx, campaignPause)
		return
	}
	l.share.catchUp(ctx)
	if l.share.passes(l.shard) {
		l.log.Debug("the shard is another coordinator's to lead; passing the lease on")
		l.giveBack(held)
		return
	}
	m := &mandate{lease: held, session: now, released: make(chan struct{}), over: make(chan struct{})}
	select {
	case l.granted <- m:
		select {
		case <-m.released:
			l.giveBack(held)
			l.letTake(ctx, m)
		case <-held.Done():
		}
	case <-held.Done():
	case <-ctx.Done():
		l.giveBack(held)
	}
}

// letTake waits while a shard is handed over: whom it is for may not be in the queue yet.
func (l *leader) letTake(ctx context.Context, m *mandate) {
	if !l.share.handing(l.shard) {
		return
	}
	timer := time.NewTimer(l.share.every)
	defer timer.Stop()
	select {
	case <-m.over:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// giveBack passes the lease to the next who waits for it.
func (l *leader) giveBack(held lease) {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackPatience)
	defer cancel()
	if err := held.Unlock(ctx); err != nil {
		l.log.WithError(err).Debug("giving the lease back; it runs out by itself")
	}
}

// wait waits for a while, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
