// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/link"
	"github.com/assent-tx/assent/locks"
)

// throughLink opens a session whose answers can be lost on the way.
func (c *cluster) throughLink(cfg locks.Config) (*locks.Session, *link.Link) {
	c.t.Helper()
	l, err := link.New(func() string { return strings.TrimPrefix(c.srv.URL(), "nats://") })
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(l.Close)
	nc, err := nats.Connect(l.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	s, err := locks.Open(c.t.Context(), nc, cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { closeInVain(s) })
	return s, l
}

// closeInVain closes a session whose server does not answer.
func closeInVain(s *locks.Session) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Close(ctx) // what it could not end runs out
}

// looks tells of each look at a record whose subject has a part.
func (c *cluster) looks(part string) <-chan bool {
	c.t.Helper()
	seen := make(chan bool, 1)
	nc := c.connect()
	_, err := nc.Subscribe("$JS.API.STREAM.MSG.GET.>", func(msg *nats.Msg) {
		if strings.Contains(string(msg.Data), part) {
			select {
			case seen <- true:
			default:
			}
		}
	})
	if err := errors.Join(err, nc.Flush()); err != nil {
		c.t.Fatal(err)
	}
	return seen
}

// within waits for what must happen.
func within[T any](t *testing.T, what string, c <-chan T) (got T, open bool) {
	t.Helper()
	select {
	case got, open = <-c:
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
	}
	return got, open
}

// Whoever looks at a record through a session, and gets no answer, waits no longer than the session lives, whatever its own context says.
func TestLooksEndWithTheSession(t *testing.T) {
	for name, c := range map[string]struct {
		ttl time.Duration
		end func(*locks.Session)
		is  error
	}{
		"lost":   {time.Second, func(*locks.Session) {}, locks.ErrLost},
		"closed": {time.Hour, closeInVain, locks.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			world := start(t)
			other := world.open(locks.Config{})
			s, l := world.throughLink(locks.Config{TTL: c.ttl})
			election, err := s.Election("somewhere")
			if err != nil {
				t.Fatal(err)
			}
			leaders := election.Observe(context.Background())
			if leader := <-leaders; !leader.None {
				t.Fatalf("%+v leads", leader)
			}
			observes, asks := world.looks("election.somewhere"), world.looks("session."+other.ID())
			l.GoDeaf()
			present := make(chan error, 1)
			go func() {
				_, err := s.Present(context.Background(), other.ID())
				present <- err
			}()
			within(t, "Present asks", asks)
			within(t, "Observe asks", observes)
			c.end(s)
			if _, open := within(t, "Observe ends", leaders); open {
				t.Error("Observe tells of a leader, without an answer")
			}
			if err, _ := within(t, "Present ends", present); !errors.Is(err, c.is) {
				t.Errorf("Present: %v, want %v", err, c.is)
			}
		})
	}
}

// Open on a bucket that has no room says so when its context ends.
func TestOpenOfAFullBucket(t *testing.T) {
	c := start(t)
	s := c.open(locks.Config{Streams: 1})
	stream, err := c.js().Stream(t.Context(), "KV_assent-locks-0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = 1 // what is there stays
	if _, err := c.js().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = locks.Open(ctx, c.connect(), locks.Config{Streams: 1})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Errorf("got %v", err)
	}
	cfg.MaxBytes = -1
	if _, err := c.js().UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, mustLock(t, s, "k"))
}

// beats tells the number of each renewal of a session that is sent.
func (c *cluster) beats(s *locks.Session) <-chan uint64 {
	c.t.Helper()
	beats := make(chan uint64, 16)
	nc := c.connect()
	_, err := nc.Subscribe("$KV.assent-locks-0.session."+s.ID(), func(msg *nats.Msg) {
		var r struct {
			Beat uint64 `json:"beat"`
		}
		if json.Unmarshal(msg.Data, &r) == nil {
			beats <- r.Beat
		}
	})
	if err := errors.Join(err, nc.Flush()); err != nil {
		c.t.Fatal(err)
	}
	return beats
}

func (c *cluster) lastSequence() uint64 {
	c.t.Helper()
	stream, err := c.js().Stream(c.t.Context(), "KV_assent-locks-0")
	if err != nil {
		c.t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// The acknowledgement of a renewal is lost with the connection: the next sending finds it stored, and the session lives. Each renewal is stored once.
func TestARenewalIsLostWithTheConnection(t *testing.T) {
	c := start(t)
	s, l := c.throughLink(locks.Config{Streams: 1, TTL: 8 * time.Second})
	beats := c.beats(s)
	l.GoDeaf()
	first, _ := within(t, "a renewal", beats)
	l.Mend()
	again, _ := within(t, "it is sent again", beats)
	next, _ := within(t, "the next renewal", beats)
	if first != 2 || again != 2 || next != 3 {
		t.Errorf("renewals %d, %d and %d, want 2, 2 and 3", first, again, next)
	}
	if err := s.Err(); err != nil {
		t.Error(err)
	}
	if n := c.lastSequence(); n != 2 && n != 3 { // the third may not be stored yet
		t.Errorf("%d records were stored for three renewals", n)
	}
}

// A bucket that was deleted and made anew knows nothing of the sessions before: they are lost, also to themselves, and a renewal of theirs is
// no record in the new one.
func TestABucketMadeAnewEndsItsSessions(t *testing.T) {
	c := start(t)
	s, _ := c.throughLink(locks.Config{Streams: 1, TTL: 8 * time.Second})
	held := mustLock(t, s, "k")
	if err := c.js().DeleteStream(t.Context(), "KV_assent-locks-0"); err != nil {
		t.Fatal(err)
	}
	other := c.open(locks.Config{Streams: 1})
	within(t, "the session ends", s.Done())
	if err := held.Err(); !errors.Is(err, locks.ErrLost) || !strings.Contains(err.Error(), "was deleted") {
		t.Errorf("got %v", err)
	}
	if there, err := other.Present(t.Context(), s.ID()); there || err != nil {
		t.Errorf("the session is present: %v, %v", there, err)
	}
	got := mustLock(t, other, "k")
	if got.Token().Compare(held.Token()) <= 0 {
		t.Errorf("token %s after %s", got.Token(), held.Token())
	}
	mustUnlock(t, got)
}

// Who only tries gets the lock of a dead holder all the same, though nobody waits for it: that it is dead is found out meanwhile.
func TestWhoOnlyTriesTakesOverToo(t *testing.T) {
	t.Parallel()
	c := start(t)
	dead, l := c.throughLink(locks.Config{TTL: time.Second})
	mustLock(t, dead, "k")
	s := c.open(locks.Config{TTL: time.Second})
	l.GoDown()
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		got, err := s.TryLock(t.Context(), "k")
		if err == nil {
			if dead.Err() == nil {
				t.Error("its holder believes that it holds")
			}
			mustUnlock(t, got)
			return
		}
		if !errors.Is(err, locks.ErrHeld) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// One try is enough: the key is free then, for whoever comes.
func TestOneTryFindsADeadHolder(t *testing.T) {
	t.Parallel()
	c := start(t)
	dead, l := c.throughLink(locks.Config{TTL: time.Second})
	mustLock(t, dead, "k")
	s := c.open(locks.Config{TTL: time.Second})
	l.GoDown()
	if _, err := s.TryLock(t.Context(), "k"); !errors.Is(err, locks.ErrHeld) {
		t.Fatal(err)
	}
	nc := c.connect()
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		list, err := locks.List(t.Context(), nc, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not free within %v", patience)
		}
	}
}

// The permit of a dead holder is free for who only tries also while another holder, whose session keeps the record, lives.
func TestATryGetsTheDeadHoldersPermit(t *testing.T) {
	t.Parallel()
	c := start(t)
	permit := func(s *locks.Session) (*locks.Lock, error) {
		m, err := s.Semaphore("two", 2)
		if err != nil {
			t.Fatal(err)
		}
		return m.TryAcquire(t.Context())
	}
	keeper := c.open(locks.Config{TTL: time.Second})
	held, err := permit(keeper)
	if err != nil {
		t.Fatal(err)
	}
	dead, l := c.throughLink(locks.Config{TTL: time.Second})
	if _, err := permit(dead); err != nil {
		t.Fatal(err)
	}
	s := c.open(locks.Config{TTL: time.Second})
	l.GoDown()
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		got, err := permit(s)
		if err == nil {
			mustUnlock(t, got)
			break
		}
		if !errors.Is(err, locks.ErrHeld) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	mustUnlock(t, held)
}

// A holder that lives is looked at twice for all who try within half of its TTL, and keeps its lock.
func TestTriesLeaveALivingHolderAlone(t *testing.T) {
	t.Parallel()
	c := start(t)
	holder := c.open(locks.Config{TTL: time.Second, Streams: 1})
	held := mustLock(t, holder, "k")
	s := c.open(locks.Config{TTL: time.Second, Streams: 1})
	nc := c.connect()
	looks := 0
	sub, err := nc.SubscribeSync("$JS.API.STREAM.MSG.GET.>")
	if err := errors.Join(err, nc.Flush()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < 3*time.Second {
		if _, err := s.TryLock(t.Context(), "k"); !errors.Is(err, locks.ErrHeld) {
			t.Fatal(err)
		}
		<-time.After(time.Millisecond)
	}
	took := time.Since(began)
	for {
		msg, err := sub.NextMsg(200 * time.Millisecond)
		if err != nil {
			break
		}
		if strings.Contains(string(msg.Data), "session."+holder.ID()) {
			looks++
		}
	}
	if most := 2 * (1 + int(2*took/time.Second)); looks < 2 || looks > most {
		t.Errorf("it was looked at %d times in %v, want 2 to %d", looks, took, most)
	}
	if err := held.Err(); err != nil {
		t.Error(err)
	}
	mustUnlock(t, held)
}
