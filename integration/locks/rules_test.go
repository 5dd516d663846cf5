// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/locks/fence"
)

// One rule of the algorithm each, at one and at three replicas, with the one fault that breaks whoever does not keep it. They are
// what catches the mutants quickly (mutants_test.go); the faults with their dice (faults_test.go) are for what nobody thought of.

const (
	// ruleTTL is the TTL of those tests in which a session runs out, or must not though time passes. A machine that stands
	// still for so long is taken for a fault.
	ruleTTL = 3 * time.Second
	// calmTTL is that of the others.
	calmTTL = time.Minute
)

func everywhere(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprintf("R%d", replicas), func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, replicas))
		})
	}
}

// isSession and isLock tell whether a frame is a write of such a record.
func isSession(f *frame) bool { return isWrite(f, ".session.") }
func isLock(f *frame) bool    { return isWrite(f, ".lock.") }

func isWrite(f *frame, kind string) bool {
	return f.toServer && strings.HasPrefix(f.verb+f.subject, "HPUB$KV."+bucket+"-") && strings.Contains(f.subject, kind)
}

// The acknowledgement of a grant is lost: the grant is known again by its operation, and neither taken for another's nor for a failure.
func TestGrantWithoutAcknowledgement(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.through("a")
		var lost, writes atomic.Int32
		judgedBy(links, func(f *frame) fate {
			switch {
			case isLock(f):
				writes.Add(1)
			case isPubAck(f) && writes.Load() > 0 && lost.CompareAndSwap(0, 1):
				return isLost
			}
			return passes
		})
		l, err := s.TryLock(t.Context(), "key0")
		must(t, err)
		if lost.Load() != 1 {
			t.Fatal("nothing was lost")
		}
		other, _ := w.through("b")
		if _, err := other.TryLock(t.Context(), "key0"); !errors.Is(err, locks.ErrHeld) {
			t.Errorf("another gets: %v", err)
		}
		must(t, l.Unlock(t.Context()))
	})
}

// So is that of a release.
func TestReleaseWithoutAcknowledgement(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.through("a")
		l, err := s.Lock(t.Context(), "key0")
		must(t, err)
		var lost, writes atomic.Int32
		judgedBy(links, func(f *frame) fate {
			switch {
			case isLock(f):
				writes.Add(1)
			case isPubAck(f) && writes.Load() > 0 && lost.CompareAndSwap(0, 1):
				return isLost
			}
			return passes
		})
		must(t, l.Unlock(t.Context()))
		if lost.Load() != 1 {
			t.Fatal("nothing was lost")
		}
		other, _ := w.through("b")
		again, err := other.TryLock(t.Context(), "key0")
		must(t, err)
		if again.Token().Compare(l.Token()) <= 0 {
			t.Errorf("token %v after %v", again.Token(), l.Token())
		}
	})
}

// A session is sure of itself until the TTL after it began to send what was acknowledged last, however late the acknowledgement came;
// and others wait until then.
func TestDeadlineCountsFromTheSending(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.throughFor("a", ruleTTL)
		l, err := s.Lock(t.Context(), "key0")
		must(t, err)
		const late = ruleTTL / 10 // within what a session waits for one answer
		var sent, acknowledged atomic.Int64
		base := time.Now()
		beats := make(chan struct{}, 100)
		judgedBy(links, func(f *frame) fate {
			switch {
			case isSession(f):
				sent.Store(int64(time.Since(base)))
			case isPubAck(f):
				acknowledged.Store(sent.Load())
				beats <- struct{}{}
				return fate{late}
			}
			return passes
		})
		other, _ := w.throughFor("b", ruleTTL)
		for range 2 {
			receive(t, beats, "an acknowledgement of a renewal")
		}
		// The second acknowledgement is on its way. Nothing that is sent from now on arrives.
		judgedBy(links, func(f *frame) fate {
			if f.toServer {
				return isLost
			}
			return passes
		})
		from := base.Add(time.Duration(acknowledged.Load()))
		for known := time.Now(); ; known = time.Now() {
			if l.Err() != nil {
				break
			}
			if known.Sub(from) >= ruleTTL {
				t.Fatalf("%v after the last renewal was sent it still believes", known.Sub(from))
			}
		}
		next, err := other.Lock(t.Context(), "key0", locks.Wait(patience))
		must(t, err)
		if time.Since(from) < ruleTTL {
			t.Errorf("another got it %v after the last renewal was sent", time.Since(from))
		}
		must(t, next.Unlock(t.Context()))
	})
}

// Whoever waits does not end the session of one who lives.
func TestALiveSessionIsNotEnded(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		a, _ := w.throughFor("a", ruleTTL)
		b, _ := w.throughFor("b", ruleTTL)
		l, err := a.Lock(t.Context(), "key0")
		must(t, err)
		if _, err := b.Lock(t.Context(), "key0", locks.Wait(2*ruleTTL)); !errors.Is(err, locks.ErrHeld) {
			t.Errorf("whoever waits gets: %v", err)
		}
		must(t, l.Err())
		must(t, l.Unlock(t.Context()))
	})
}

// A session that was ended while it could not be heard stays ended, and unlocking takes nothing from the next holder. It
// cannot hear either, so that it sends what it has to send when all is over.
func TestAnEndedSessionTakesNothingBack(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		a, links := w.throughFor("a", ruleTTL)
		b, _ := w.throughFor("b", ruleTTL)
		l, err := a.Lock(t.Context(), "key0")
		must(t, err)
		// The way to the server is long: what a sends arrives after the others have ended its session.
		judgedBy(links, func(f *frame) fate {
			if isSession(f) || isLock(f) {
				return fate{3 * ruleTTL}
			}
			return passes
		})
		unlocking, cancel := context.WithTimeout(t.Context(), ruleTTL/2)
		defer cancel()
		if err := l.Unlock(unlocking); !errors.Is(err, locks.ErrUnknown) {
			t.Fatalf("an unlock that does not arrive: %v", err)
		}
		next, err := b.Lock(t.Context(), "key0", locks.Wait(patience))
		must(t, err)
		<-time.After(3 * ruleTTL) // now all of it has arrived
		must(t, next.Err())
		c, _ := w.throughFor("c", ruleTTL)
		if _, err := c.TryLock(t.Context(), "key0"); !errors.Is(err, locks.ErrHeld) {
			t.Errorf("the lock of the next holder is gone: a third gets %v", err)
		}
		if err := a.Err(); !errors.Is(err, locks.ErrLost) {
			t.Errorf("the ended session says: %v", err)
		}
		must(t, next.Unlock(t.Context()))
		if !w.isBuried(a.ID()) {
			t.Error("its renewals have brought its record back")
		}
	})
}

// isBuried tells whether the record of a session says that it has ended.
func (w *world) isBuried(session string) bool {
	w.t.Helper()
	_, msg := w.recordOf(session)
	return msg.Header.Get("KV-Operation") != ""
}

// recordOf is where the record of a session is, and what it says.
func (w *world) recordOf(session string) (subject string, msg *jetstream.RawStreamMsg) {
	w.t.Helper()
	for n := range 2 {
		stream, err := w.js().Stream(w.t.Context(), fmt.Sprintf("KV_%s-%d", bucket, n))
		must(w.t, err)
		subject := fmt.Sprintf("$KV.%s-%d.session.%s", bucket, n, session)
		if msg, err := stream.GetLastMsgForSubject(w.t.Context(), subject); err == nil {
			return subject, msg
		}
	}
	w.t.Fatalf("no stream has a record of session %s", session)
	return "", nil
}

// Unlocking what was taken away is an error, and takes nothing from the next holder; also when the message about it was lost.
func TestUnlockOfWhatWasTakenAway(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		a, links := w.through("a")
		b, _ := w.through("b")
		first, err := a.Lock(t.Context(), "key0")
		must(t, err)
		judgedBy(links, func(f *frame) fate {
			if !f.toServer && strings.HasPrefix(f.subject, "assent.") {
				return isLost
			}
			return passes
		})
		_, err = locks.ForceRelease(t.Context(), w.nc, bucket, locks.KindLock, "key0")
		must(t, err)
		next, err := b.Lock(t.Context(), "key0", locks.Wait(patience))
		must(t, err)
		if next.Token().Compare(first.Token()) <= 0 {
			t.Errorf("token %v after %v", next.Token(), first.Token())
		}
		if err := first.Unlock(t.Context()); !errors.Is(err, locks.ErrLost) {
			t.Errorf("unlock of what was taken away: %v", err)
		}
		if _, err := a.TryLock(t.Context(), "key0"); !errors.Is(err, locks.ErrHeld) {
			t.Errorf("the lock of the next holder is gone: another gets %v", err)
		}
		must(t, next.Unlock(t.Context()))
		if err := next.Unlock(t.Context()); !errors.Is(err, locks.ErrNotHeld) {
			t.Errorf("unlocked twice: %v", err)
		}
	})
}

// Nobody overtakes one who waits, though he could share with those who hold.
func TestNobodyOvertakes(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		reader, _ := w.through("reader")
		writer, _ := w.through("writer")
		late, _ := w.through("late")
		l, err := reader.Lock(t.Context(), "key0", locks.Shared())
		must(t, err)
		queued, written := make(chan struct{}, 100), make(chan *locks.Lock, 1)
		go func() {
			lock, err := writer.Lock(t.Context(), "key0", locks.OnQueue(func(locks.Position) { queued <- struct{}{} }))
			if err != nil {
				t.Error(err)
			}
			written <- lock
		}()
		receive(t, queued, "the writer waits")
		if overtaker, err := late.Lock(t.Context(), "key0", locks.Shared(), locks.Wait(time.Second)); err == nil {
			t.Error("a reader overtakes a writer")
			must(t, overtaker.Unlock(t.Context()))
		} else if !errors.Is(err, locks.ErrHeld) {
			t.Error(err)
		}
		must(t, l.Unlock(t.Context()))
		must(t, receive(t, written, "the writer's turn").Unlock(t.Context()))
	})
}

// A late holder is refused by a resource that has seen a newer token (Kleppmann's paused client).
func TestAResourceRefusesThePausedHolder(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		a, _ := w.through("a")
		b, _ := w.through("b")
		protected, err := fence.OpenKV(t.Context(), w.nc, resource)
		must(t, err)
		write := func(l *locks.Lock, text string) error {
			_, err := protected.Put(t.Context(), "key0", []byte(text), l.Token())
			return err
		}
		first, err := a.Lock(t.Context(), "key0")
		must(t, err)
		must(t, write(first, "first"))
		must(t, first.Unlock(t.Context()))
		second, err := b.Lock(t.Context(), "key0")
		must(t, err)
		must(t, write(second, "second"))
		if err := write(first, "late"); !errors.Is(err, fence.ErrStale) {
			t.Errorf("a late write: %v", err)
		}
		entry, err := protected.Get(t.Context(), "key0")
		must(t, err)
		if !bytes.Equal(entry.Value, []byte("second")) {
			t.Errorf("it is %q", entry.Value)
		}
		must(t, second.Unlock(t.Context()))
	})
}
