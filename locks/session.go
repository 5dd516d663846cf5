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
	begins   bool // it has not been stored in time yet
	closing  bool
	entries  map[string]*entry
	busy     map[*entry]bool
	wake     chan struct{}
	watchers map[string]*watcher
	suspects map[string]map[*entry]bool // sessions that kept somebody out, and where
}

// renewal is what a session knows of its own record.
type renewal struct {
	revision uint64
	beat     uint64
	sent     time.Time // when the beat under way was first sent; zero when none is
	missing  int       // reads in a row, one after the other, that did not find the record
	missed   time.Time // when the last of them was answered
	failure  error     // why the latest sending of a beat came to nothing
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
		watchers: make(map[string]*watcher), suspects: make(map[string]map[*entry]bool), begins: true,
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

// introduce stores the session's record and listens for the others. What was stored only when its TTL was over is renewed at
// once: nobody has seen the session yet.
func (s *Session) introduce(ctx context.Context) (err error) {
	if s.inbox, err = s.bucket.nc.Subscribe(s.bucket.inbox(s.id), s.hear); err != nil {
		return err
	}
	for s.renew(ctx) {
		if s.remaining() > 0 {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.begins = false
			return nil
		}
	}
	_ = s.inbox.Unsubscribe()
	select {
	case <-s.done:
		return s.Err()
	default:
	}
	if failure := s.renewal.failure; failure != nil { // such as a bucket that is full
		return fmt.Errorf("%w: %w", context.Cause(ctx), failure)
	}
	return context.Cause(ctx)
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
	defer s.mu.Unlock()
	if s.err == nil && s.remaining() <= 0 {
		return errExpired
	}
	return s.err
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

// request is how long one request may take before it is made again. It may be answered later all the same: see repeat.
func (s *Session) request() time.Duration { return min(max(s.cfg.TTL/4, minRequest), maxRequest) }

// retry is the pause after a renewal that came to nothing.
func (s *Session) retry() time.Duration {
	return min(max(s.cfg.TTL/40, 10*time.Millisecond), 250*time.Millisecond)
}

// insistently is the tempo of a request on which the session's life depends, and patiently that of others.
func (s *Session) insistently() tempo {
	return tempo{every: s.request(), most: max(s.request(), s.cfg.TTL/16), pause: s.retry()}
}

func (s *Session) patiently() tempo { return tempo{every: s.request(), most: s.cfg.TTL} }

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
		if !s.renew(s.ctx) {
			return // it is over
		}
		timer.Reset(s.cfg.TTL/beatsPerTTL - time.Since(s.begun.Add(time.Duration(s.deadline.Load())-s.cfg.TTL)))
	}
}

// renew stores the next beat, and goes on until it is stored, which is true, the session is over, or ctx ends. It is always the
// same message on the same revision, so however often it is sent, it is stored once.
func (s *Session) renew(ctx context.Context) bool {
	r := &s.renewal
	r.beat++
	r.sent = time.Now()
	beat, expected := r.beat, r.revision
	_ = repeat(ctx, s.insistently(), func(ctx context.Context) written {
		return s.write(ctx, s.beatMessage(beat), expected)
	}, func(w written) bool {
		switch {
		case w.err != nil:
			s.log.WithError(w.err).Debug("a renewal was not acknowledged; trying again")
			r.failure = w.err
			return false
		case w.refused:
			return s.settleRenewal(&w)
		default:
			s.renewed(w.revision)
			return true
		}
	})
	return r.sent.IsZero()
}

// written is what came of a write to the session's record.
type written struct {
	revision uint64    // as which it was stored, unless it was refused
	refused  bool      // because the record has another revision: an earlier sending of the write was stored, or another's
	last     raw       // what was stored then
	asked    time.Time // when that was asked for
	err      error     // what came of it, or what is stored, is not known; or it was refused for good
}

// write writes to the session's record, and reads it when it has another revision.
func (s *Session) write(ctx context.Context, msg *nats.Msg, expected uint64) written {
	revision, _, err := s.bucket.swap(ctx, s.at, msg, expected)
	if !errors.Is(err, errConflict) {
		return written{revision: revision, err: err}
	}
	asked := time.Now()
	last, err := s.bucket.last(ctx, s.at)
	return written{refused: true, last: last, asked: asked, err: err}
}

func (s *Session) beatMessage(beat uint64) *nats.Msg {
	data, err := json.Marshal(&sessionRecord{V: 1, Owner: s.cfg.Owner, TTL: ms(s.cfg.TTL), Beat: beat})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return &nats.Msg{Data: data, Header: nats.Header{"Nats-TTL": {silentFor}}}
}

// renewed: the beat under way was stored. An acknowledgement that comes after the deadline does not bring the session back: somebody
// may have heard that it is lost, and acted on that.
func (s *Session) renewed(revision uint64) {
	r := &s.renewal
	s.mu.Lock()
	if s.begins || s.remaining() > 0 {
		s.deadline.Store(int64(r.sent.Add(s.cfg.TTL).Sub(s.begun)))
	}
	s.mu.Unlock()
	r.revision, r.sent, r.missing = revision, time.Time{}, 0
}

// lostReads is how often a session's record must be missing before that is believed: a server that was deposed may not
// have it yet.
const lostReads = 4

// settleRenewal finds out why a renewal was refused: an earlier sending of it was stored, or somebody ended the session. It is false
// when neither is known.
func (s *Session) settleRenewal(w *written) bool {
	last, r := &w.last, &s.renewal
	var stored sessionRecord
	switch {
	case last.revision > r.revision && last.deleted:
		s.end(fmt.Errorf("locks: %w: the session was ended by another, who did not see it renewed for its TTL of %s", ErrLost, s.cfg.TTL))
		return true
	case last.revision > r.revision && json.Unmarshal(last.data, &stored) == nil && stored.Beat == r.beat && stored.Owner == s.cfg.Owner:
		s.renewed(last.revision)
		return true
	case last.revision > r.revision:
		s.end(fmt.Errorf("locks: %w: somebody else wrote the session's record %s", ErrLost, s.at.subject))
		return true
	case last.revision == 0 && r.revision > 0 && w.asked.After(r.missed): // those that were under way together are one
		r.missed = time.Now()
		if r.missing++; r.missing >= lostReads {
			s.end(fmt.Errorf("locks: %w: the session's record %s was deleted", ErrLost, s.at.subject))
			return true
		}
	case last.revision > 0: // it is there
		r.missing = 0
	}
	return false // the server has a write under way, or was deposed: once more
}

// expire ends the session when its deadline passes.
func (s *Session) expire() {
	for s.Err() == nil {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(s.remaining()):
		}
	}
	s.end(errExpired)
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
		expected := s.renewal.revision
		var w written
		err := repeat(ctx, s.insistently(), func(ctx context.Context) written {
			return s.write(ctx, tombstone(nil, endedFor), expected)
		}, func(answer written) bool {
			w = answer
			switch {
			case w.err != nil:
				return !w.refused && !errors.Is(w.err, errUnknown) || errors.Is(w.err, nats.ErrConnectionClosed)
			case w.refused:
				return w.last.deleted || w.last.revision == 0 || w.last.revision > expected
			default:
				return true
			}
		})
		switch {
		case err != nil:
			return fmt.Errorf("locks: end the session: %w: %w", errUnknown, err)
		case w.err != nil:
			return fmt.Errorf("locks: end the session: %w", w.err)
		case w.refused && w.last.revision > 0 && !w.last.deleted: // a renewal whose acknowledgement did not come
			s.renewal.revision = w.last.revision
		default:
			return nil
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
