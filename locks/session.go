// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
)

// Session is one process's claim to be alive, for all the locks that it holds: they live as long as it does. It is safe
// for concurrent use. See Open.
type Session struct {
	cfg    Config
	id     string
	at     place
	bucket *bucket
	log    *logrus.Entry
	inbox  *nats.Subscription

	begun    time.Time
	deadline atomic.Int64 // when it is lost unless it is renewed, in ns after begun
	numbers  atomic.Uint64
	renewal  renewal // of the goroutine of keepAlive

	ctx     context.Context //nolint:containedctx // the life of the session's goroutines, which no call's context bounds
	stop    context.CancelFunc
	running sync.WaitGroup
	done    chan struct{}
	leaving chan struct{} // closed when Close begins

	mu       sync.Mutex
	err      error
	closing  bool
	entries  map[string]*entry
	busy     map[*entry]bool
	wake     chan struct{}
	watchers map[string]*watcher
}

// renewal is what a session knows of its own record.
type renewal struct {
	revision uint64
	beat     uint64
	sent     time.Time // when the beat under way was first sent; zero when none is
	missing  int       // reads in a row that did not find the record
}

// sessionRecord is what is stored of a session.
type sessionRecord struct {
	V     int    `json:"v"`
	Owner string `json:"owner"`
	TTL   int64  `json:"ttl"` // ms
	Beat  uint64 `json:"beat"`
}

// kindSession is the place of session records among the kinds of keys.
const kindSession = "session"

// Open opens a bucket, making it if need be, and begins a session on it. The connection stays the caller's, and must outlive
// the session; it should reconnect for ever. One session is enough for all the locks of a process: it costs one write every
// third of the TTL.
//
// The error is ErrInvalid for a cfg out of its bounds, ErrSettings for a bucket that somebody changed.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Session, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b, err := openBucket(ctx, nc, &cfg, true)
	if err != nil {
		return nil, err
	}
	id := newID()
	s := &Session{
		cfg: cfg, id: id, bucket: b, at: b.place(kindSession, id), begun: time.Now(),
		log: cfg.Log.WithFields(logrus.Fields{"session": id, "bucket": cfg.Bucket}), done: make(chan struct{}), leaving: make(chan struct{}),
		entries: make(map[string]*entry), busy: make(map[*entry]bool), wake: make(chan struct{}, 1),
		watchers: make(map[string]*watcher),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.introduce(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("locks: begin a session: %w", err)
	}
	s.running.Go(s.keepAlive)
	s.running.Go(s.expire)
	s.running.Go(s.tick)
	return s, nil
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails: it ends the program
	return hex.EncodeToString(b[:])
}

// introduce stores the session's record and listens for the others.
func (s *Session) introduce(ctx context.Context) (err error) {
	if s.inbox, err = s.bucket.nc.Subscribe(s.bucket.inbox(s.id), s.hear); err != nil {
		return err
	}
	for {
		if s.renew(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			_ = s.inbox.Unsubscribe()
			return context.Cause(ctx)
		case <-s.done:
			_ = s.inbox.Unsubscribe()
			return s.Err()
		case <-time.After(s.retry()):
		}
	}
}

// ID names the session: 16 hexadecimal digits.
func (s *Session) ID() string { return s.id }

// TTL is how long the session lives without a renewal.
func (s *Session) TTL() time.Duration { return s.cfg.TTL }

// Done is closed when the session is lost, or may be, or was closed; Err says which. Then none of its locks is held.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives, an ErrLost when it is lost or may be, ErrClosed when it was closed. It is
// exact: it looks at the clock, also when the process has just been woken up and Done is not closed yet.
func (s *Session) Err() error {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err == nil && s.remaining() <= 0 {
		return errExpired
	}
	return err
}

var errExpired = fmt.Errorf("locks: %w: no renewal was acknowledged for the session's TTL", ErrLost)

// remaining is how long the session is sure to live. The deadline counts from before the last acknowledged renewal was
// sent, so it is over before anybody else's patience with that renewal is.
func (s *Session) remaining() time.Duration {
	return time.Duration(s.deadline.Load()) - time.Since(s.begun)
}

// now is the time for agents, in ms, never 0.
func (s *Session) now() int64 { return ms(time.Since(s.begun)) + 1 }

// Bounds of the pace of a session.
const (
	beatsPerTTL = 3
	minRequest  = 250 * time.Millisecond
	maxRequest  = 2 * time.Second
)

// request is how long one request may take before it is made again.
func (s *Session) request() time.Duration { return min(max(s.cfg.TTL/4, minRequest), maxRequest) }

// retry is the pause after a renewal that came to nothing.
func (s *Session) retry() time.Duration {
	return min(max(s.cfg.TTL/40, 10*time.Millisecond), 250*time.Millisecond)
}

// keepAlive renews the session for as long as it lives.
func (s *Session) keepAlive() {
	timer := time.NewTimer(s.cfg.TTL / beatsPerTTL)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
		}
		if s.renew(s.ctx) {
			timer.Reset(s.cfg.TTL/beatsPerTTL - time.Since(s.begun.Add(time.Duration(s.deadline.Load())-s.cfg.TTL)))
		} else {
			timer.Reset(s.retry())
		}
	}
}

// renew stores the next beat, or the one before until it is known what came of it: true when it was stored. It is always
// the same message on the same revision, so however often it is sent, it is stored once.
func (s *Session) renew(ctx context.Context) bool {
	r := &s.renewal
	if r.sent.IsZero() {
		r.beat++
		r.sent = time.Now()
	}
	ctx, cancel := context.WithTimeout(ctx, s.request())
	defer cancel()
	revision, _, err := s.bucket.swap(ctx, s.at, s.beatMessage(r.beat), r.revision)
	switch {
	case err == nil:
		s.renewed(revision)
		return true
	case errors.Is(err, errConflict):
		return s.settleRenewal(ctx)
	default:
		if ctx.Err() == nil {
			s.log.WithError(err).Debug("a renewal was not acknowledged; trying again")
		}
		return false
	}
}

func (s *Session) beatMessage(beat uint64) *nats.Msg {
	data, err := json.Marshal(&sessionRecord{V: 1, Owner: s.cfg.Owner, TTL: ms(s.cfg.TTL), Beat: beat})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return &nats.Msg{Data: data, Header: nats.Header{"Nats-TTL": {silentFor}}}
}

// renewed: the beat under way was stored.
func (s *Session) renewed(revision uint64) {
	r := &s.renewal
	s.deadline.Store(int64(r.sent.Add(s.cfg.TTL).Sub(s.begun)))
	r.revision, r.sent, r.missing = revision, time.Time{}, 0
}

// lostReads is how often a session's record must be missing before that is believed: a server that was deposed may not
// have it yet.
const lostReads = 4

// settleRenewal finds out why a renewal was refused: an earlier sending of it was stored, or somebody ended the session.
func (s *Session) settleRenewal(ctx context.Context) bool {
	last, err := s.bucket.last(ctx, s.at)
	if err != nil {
		return false
	}
	r := &s.renewal
	var stored sessionRecord
	switch {
	case last.revision > r.revision && last.deleted:
		s.end(fmt.Errorf("locks: %w: the session was ended by another, who did not see it renewed for its TTL of %s", ErrLost, s.cfg.TTL))
		return false
	case last.revision > r.revision && json.Unmarshal(last.data, &stored) == nil && stored.Beat == r.beat && stored.Owner == s.cfg.Owner:
		s.renewed(last.revision)
		return true
	case last.revision > r.revision:
		s.end(fmt.Errorf("locks: %w: somebody else wrote the session's record %s", ErrLost, s.at.subject))
		return false
	case last.revision == 0 && r.revision > 0:
		if r.missing++; r.missing >= lostReads {
			s.end(fmt.Errorf("locks: %w: the session's record %s was deleted", ErrLost, s.at.subject))
		}
	}
	return false // the server has a write under way, or was deposed: once more
}

// expire ends the session when its deadline passes.
func (s *Session) expire() {
	for {
		remaining := s.remaining()
		if remaining <= 0 {
			s.end(errExpired)
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(remaining):
		}
	}
}

// end ends the session here, for a reason. What it leaves behind is freed by those who want it.
func (s *Session) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	entries := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		entries = append(entries, e)
	}
	s.mu.Unlock()
	if !errors.Is(err, ErrClosed) {
		s.log.WithError(err).Warn("the session is over")
	}
	close(s.done)
	s.stop()
	_ = s.inbox.Unsubscribe() // it fails when the connection is closed, which ends it too
	for _, e := range entries {
		e.lose(err)
	}
}

// Close gives back what the session holds, ends it, and lets go of what it waits for. It waits for the writes that this
// takes, at most until ctx ends; what is not given back then is free after the TTL. Afterwards Err is ErrClosed. Closing
// a session that is lost or closed already does nothing.
func (s *Session) Close(ctx context.Context) error {
	held, first := s.beginClose()
	if !first {
		<-s.done
		s.running.Wait()
		return nil
	}
	errs := make([]error, len(held))
	var unlocking sync.WaitGroup
	for i, l := range held {
		unlocking.Go(func() {
			if err := l.Unlock(ctx); !errors.Is(err, ErrNotHeld) {
				errs[i] = err
			}
		})
	}
	unlocking.Wait()
	s.stop()
	s.end(fmt.Errorf("locks: %w", ErrClosed))
	s.running.Wait()
	return errors.Join(errors.Join(errs...), s.bury(ctx))
}

// beginClose lets no more locks be taken, and gives those that are held. It tells false when the session is over, or
// being closed, already.
func (s *Session) beginClose() (held []*Lock, first bool) {
	s.mu.Lock()
	if s.err != nil || s.closing {
		s.mu.Unlock()
		return nil, false
	}
	s.closing = true
	close(s.leaving)
	entries := make([]*entry, 0, len(s.entries))
	for _, e := range s.entries {
		entries = append(entries, e)
	}
	s.mu.Unlock() // entries lock the session, not the other way round
	for _, e := range entries {
		held = append(held, e.close()...)
	}
	return held, true
}

// bury stores that the session has ended, so that nobody needs to wait for its TTL.
func (s *Session) bury(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, s.request())
		revision, _, err := s.bucket.swap(attempt, s.at, tombstone(nil, endedFor), s.renewal.revision)
		if errors.Is(err, errConflict) {
			var last raw
			if last, err = s.bucket.last(attempt, s.at); err == nil && (last.deleted || last.revision == 0) {
				revision = last.revision
			} else if err == nil {
				s.renewal.revision, err = last.revision, errConflict
			}
		}
		cancel()
		if err == nil {
			s.renewal.revision = revision
			return nil
		}
		if ctx.Err() != nil || !errors.Is(err, errUnknown) && !errors.Is(err, errConflict) {
			return fmt.Errorf("locks: end the session: %w", err)
		}
	}
}

// usable says why no lock can be taken.
func (s *Session) usable() error {
	if err := s.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return fmt.Errorf("locks: %w", ErrClosed)
	}
	return nil
}

// number is the id of a new operation.
func (s *Session) number() string {
	return s.id + "-" + strconv.FormatUint(s.numbers.Add(1), 36)
}
