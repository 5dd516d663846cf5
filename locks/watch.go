// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"github.com/assent-tx/assent/locks/internal/agent"
	"github.com/assent-tx/assent/locks/internal/record"
)

// watcher watches another session, for the entries to which its death matters.
type watcher struct {
	entries map[*entry]int // how many wait before this session there
	stop    context.CancelFunc
	nearer  chan struct{} // told when one of them has become fewer
}

// place is the least number of those who wait before this session for what the other has. The session's mutex is held.
func (w *watcher) place() int {
	least := math.MaxInt
	for _, place := range w.entries {
		least = min(least, place)
	}
	return least
}

// pollTime is the time between looks at a record that somebody waits for, and at the sessions in the way: a part of the
// TTL, so that what is told by message alone is found out soon without.
func (s *Session) pollTime() time.Duration { return pollTime(s.cfg.TTL) }

func pollTime(ttl time.Duration) time.Duration {
	return min(max(ttl/8, 100*time.Millisecond), 400*time.Millisecond)
}

// grace is what a session is given beyond its TTL: as much as two clocks may drift apart meanwhile, if their rates differ
// by less than one in a hundred.
func grace(ttl time.Duration) time.Duration { return ttl/100 + 10*time.Millisecond }

// watch begins to watch a session for an entry, before which place others wait.
func (s *Session) watch(e *entry, session string, ttl time.Duration, place int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	w := s.watchers[session]
	if w == nil {
		ctx, stop := context.WithCancel(s.ctx)
		w = &watcher{entries: make(map[*entry]int), stop: stop, nearer: make(chan struct{}, 1)}
		s.watchers[session] = w
		s.running.Go(func() { s.observe(ctx, session, max(ttl, minTTL), w) })
	}
	w.entries[e] = place
}

// moved says to those who watch for an entry how many wait before it now.
func (s *Session) moved(e *entry, place int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range e.watching {
		w := s.watchers[session]
		if w == nil {
			continue
		}
		before := w.place()
		if w.entries[e] = place; w.place() >= before {
			continue
		}
		select {
		case w.nearer <- struct{}{}:
		default:
		}
	}
}

func (s *Session) unwatch(e *entry, session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.watchers[session]; w != nil {
		if delete(w.entries, e); len(w.entries) == 0 {
			w.stop()
			delete(s.watchers, session)
		}
	}
}

// observe watches a session until it has ended, for the entries of a watcher. Who is next in a queue looks every pollTime; whoever
// comes after that is there for the case that those before are dead too, and looks the rarer the more they are: all of those
// who wait together look little more often than the first few, however many they are.
func (s *Session) observe(ctx context.Context, session string, ttl time.Duration, w *watcher) {
	pace := func(ttl, took time.Duration) time.Duration {
		s.mu.Lock()
		place := w.place()
		s.mu.Unlock()
		return min(max(pollTime(ttl), restAfter*took)*time.Duration(min(place, maxPlace)+1), ttl)
	}
	if s.sleep(ctx, time.Now().Add(-pollTime(ttl)), func() time.Duration { return pace(ttl, 0) }, w.nearer) == nil &&
		s.outlive(ctx, session, func(raw) time.Duration { return ttl }, pace, w.nearer) == nil {
		s.died(session, w)
	}
}

// suspect finds out whether those are alive who kept somebody out. Who waits watches them, but a try does not stay: so where everybody only tries, nobody
// would ever find out that a holder is dead. Each is looked at until it is renewed, which is life enough until somebody is kept out again, or has ended.
func (s *Session) suspect(e *entry, r *record.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	for op := range agent.InTheWay(r) {
		session := op.Session()
		if session == s.id {
			continue
		}
		if s.suspects[session] == nil {
			s.suspects[session] = make(map[*entry]bool)
			s.running.Go(func() { s.examine(session) })
		}
		s.suspects[session][e] = true
	}
}

// examine looks at a session that is suspected to be dead: twice, if it lives.
func (s *Session) examine(session string) {
	ctx, lives := context.WithCancel(s.ctx)
	defer lives()
	versions := 0
	err := s.outlive(ctx, session, func(last raw) time.Duration {
		if versions++; versions > 1 {
			lives()
		}
		return s.ttlOf(last)
	}, func(ttl, took time.Duration) time.Duration { return max(ttl/2, restAfter*took) }, nil)
	s.mu.Lock()
	entries := slices.Collect(maps.Keys(s.suspects[session]))
	delete(s.suspects, session)
	s.mu.Unlock()
	if err == nil {
		s.tellDeath(session, entries)
	}
}

// restAfter is how many times as long as a look took nobody looks again: a server that is slow, or a machine that is, is asked the
// rarer the slower it is. Else many that wait would keep it from ever catching up.
const restAfter = 4

// maxPlace bounds the place by which a pace is computed.
const maxPlace = 1 << 20

// sleep waits until a pause since a moment is over. The pause is asked for again when nearer says so. The error is the context's.
func (s *Session) sleep(ctx context.Context, since time.Time, pause func() time.Duration, nearer <-chan struct{}) error {
	for {
		wait := time.Until(since.Add(pause()))
		if wait <= 0 {
			return context.Cause(ctx)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-nearer:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// Present tells whether another session of the same bucket is there: that it has begun, and that nobody has found out that
// it has ended. Whether it is renewed it does not tell; see Ended. It costs one read. The error is as Ended's, or what a server
// says that does not answer.
func (s *Session) Present(ctx context.Context, id string) (bool, error) {
	if err := s.checkOther(id); err != nil {
		return false, err
	}
	if err := s.Err(); err != nil {
		return false, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	last, err := s.lookAt(ctx, s.bucket.place(kindSession, id))
	switch {
	case err != nil && s.ctx.Err() != nil:
		<-s.done // its error is known before
		return false, s.Err()
	case err != nil:
		return false, fmt.Errorf("locks: %w", err)
	}
	return last.revision > 0 && !last.deleted, nil
}

// bounded gives a context that ends when ctx or the session does: a look waits for a server that does not answer.
func (s *Session) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// checkOther refuses what is no other session's id.
func (s *Session) checkOther(id string) error {
	if !legalSession.MatchString(id) {
		return fmt.Errorf("locks: %w: the session %.40q: want 16 hexadecimal digits", ErrInvalid, id)
	}
	if id == s.id {
		return fmt.Errorf("locks: %w: the session %s is this one: look at Done and Err", ErrInvalid, id)
	}
	return nil
}

// Ended waits until another session of the same bucket has ended, and is nil then: it was closed, or was not renewed for its
// TTL. In the second case it is this one that ends it, or another that waits, so that it cannot be renewed any more. When Ended
// is nil, that session's Err says so already, wherever it is, as long as clocks run at the same rate within one in a hundred.
// A session that there never was, or that ended more than an hour ago, has ended when it has not been seen for this one's TTL.
//
// It costs a read every quarter of that session's TTL. The error is the context's, ErrLost or ErrClosed when this session
// is over, or ErrInvalid for what is no other session's id. It may be called again.
func (s *Session) Ended(ctx context.Context, id string) error {
	if err := s.checkOther(id); err != nil {
		return err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.Err(); err != nil {
		return err
	}
	err := s.outlive(ctx, id, s.ttlOf, func(ttl, took time.Duration) time.Duration { return max(ttl/4, restAfter*took) }, nil)
	if err != nil && s.ctx.Err() != nil {
		<-s.done // its error is known before
		return s.Err()
	}
	return err
}

// legalSession is what newID gives.
var legalSession = regexp.MustCompile(`^[0-9a-f]{16}$`)

// ttlOf is the TTL that a session's record says, and this session's when it says none: those of a bucket are alike.
func (s *Session) ttlOf(stored raw) time.Duration {
	var r sessionRecord
	if json.Unmarshal(stored.data, &r) != nil || r.TTL <= 0 || r.TTL > ms(maxTTL) {
		return s.cfg.TTL
	}
	return max(time.Duration(r.TTL)*time.Millisecond, minTTL)
}

// outlive looks at a session's record, at a pace, until the session has ended. If it stays the same for the TTL, by our own
// monotonic clock and from when we saw it first, the session's own deadline has passed, because that counts from before
// what we saw was sent; then it is ended by a compare-and-swap on just that version, so that it cannot be renewed any more.
// The error is the context's.
func (s *Session) outlive(ctx context.Context, session string, ttlOf func(raw) time.Duration, pace func(ttl, took time.Duration) time.Duration, nearer <-chan struct{}) error {
	at := s.bucket.place(kindSession, session)
	var seen raw
	var since time.Time
	for ttl := s.cfg.TTL; ; {
		began := time.Now()
		if last, err := s.lookAt(ctx, at); err == nil {
			if last.deleted {
				return nil
			}
			if since.IsZero() || last.revision != seen.revision {
				seen, since, ttl = last, time.Now(), ttlOf(last)
			} else if time.Since(since) >= ttl+grace(ttl) && s.endOther(ctx, at, seen.revision) {
				s.log.WithField("ended", session).Info("a session that was not renewed for its TTL was ended")
				return nil
			}
		}
		looked := time.Now()
		if err := s.sleep(ctx, looked, func() time.Duration {
			wait := pace(ttl, looked.Sub(began))
			if !since.IsZero() {
				wait = min(wait, max(since.Add(ttl+grace(ttl)).Sub(looked), tickTime))
			}
			return wait
		}, nearer); err != nil {
			return err
		}
	}
}

// lookAt gives what is stored at a place, or what the server says instead. It waits for either.
func (s *Session) lookAt(ctx context.Context, at place) (raw, error) {
	type answer struct {
		last raw
		err  error
	}
	var first answer
	err := repeat(ctx, s.patiently(), func(ctx context.Context) answer {
		last, err := s.bucket.last(ctx, at)
		return answer{last, err}
	}, func(a answer) bool {
		first = a
		return true
	})
	if err != nil {
		return raw{}, err
	}
	return first.last, first.err
}

// endOther ends another's session, if its record still has a revision.
func (s *Session) endOther(ctx context.Context, at place, revision uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, s.request())
	defer cancel()
	_, _, err := s.bucket.swap(ctx, at, tombstone(nil, endedFor), revision)
	switch {
	case errors.Is(err, errRemade):
		s.end(err)
	case err != nil && !errors.Is(err, errConflict):
		s.log.WithError(err).Debug("ending a session that is not renewed; trying again")
	}
	return err == nil
}

// died ends a watcher, and tells the entries that cared.
func (s *Session) died(session string, w *watcher) {
	s.mu.Lock()
	if s.watchers[session] == w {
		delete(s.watchers, session)
	}
	entries := slices.Collect(maps.Keys(w.entries))
	s.mu.Unlock()
	w.stop()
	s.tellDeath(session, entries)
}

// tellDeath tells entries that a session has ended. They are told one after the other, so that the one that is told first writes and the others find it
// written; across processes a short random pause does the same.
func (s *Session) tellDeath(session string, entries []*entry) {
	s.pause(rand.N(tickTime))
	for _, e := range entries {
		e.do(func(a *agent.Agent, now int64) []agent.Effect { return a.Died(now, session) })
	}
}
