// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/locks"
)

// A server that is slow is not out of reach: what it answers late counts. Sessions ask again long before these answers come.
const (
	slowTTL = 12 * time.Second
	// late is how late each answer is: more than the 2 s after which a session asks again, and less than half the TTL.
	late = 2500 * time.Millisecond
)

// isAnswer tells whether a frame is a message to a client.
func isAnswer(f *frame) bool { return !f.toServer && strings.HasSuffix(f.verb, "MSG") }

// isRecord tells whether a frame is the answer to who reads a record.
func isRecord(f *frame) bool {
	return isAnswer(f) && bytes.Contains(f.payload, []byte("stream_msg_get_response"))
}

func slow(f *frame) fate {
	if isAnswer(f) {
		return fate{late}
	}
	return passes
}

// A session each of whose answers takes longer than it waits before it asks again lives as long as it likes, takes locks and gives them
// back, and is closed.
func TestASessionLivesOnASlowServer(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.throughFor("a", slowTTL)
		judgedBy(links, slow)
		l, err := s.TryLock(t.Context(), "key0")
		must(t, err)
		select {
		case <-s.Done():
			t.Fatal(s.Err())
		case <-time.After(2 * slowTTL):
		}
		must(t, l.Unlock(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		must(t, s.Close(ctx))
		if !w.isBuried(s.ID()) {
			t.Error("closing it has not ended it")
		}
	})
}

// Whoever waits on a slow server finds out that a holder is dead.
func TestTakeoverOnASlowServer(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		dying, dead := w.throughFor("a", ruleTTL)
		held, err := dying.Lock(t.Context(), "key0")
		must(t, err)
		s, links := w.throughFor("b", slowTTL)
		judgedBy(links, slow)
		judgedBy(dead, func(*frame) fate { return isLost })
		l, err := s.Lock(t.Context(), "key0")
		must(t, err)
		if !errors.Is(held.Err(), locks.ErrLost) {
			t.Errorf("two hold it: %v", held.Err())
		}
		must(t, l.Unlock(t.Context()))
	})
}

// For a while no write of the session's record is acknowledged at all, and what is read comes late: so the session learns of each renewal
// only from what its record says when the next sending is refused.
func TestRenewalsWithoutAcknowledgements(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.throughFor("a", slowTTL)
		var lost, read atomic.Int32
		judgedBy(links, func(f *frame) fate {
			switch {
			case isPubAck(f):
				lost.Add(1)
				return isLost
			case isRecord(f):
				read.Add(1)
				return fate{late}
			}
			return passes
		})
		select {
		case <-s.Done():
			t.Fatal(s.Err())
		case <-time.After(2 * slowTTL):
		}
		if lost.Load() < 2 || read.Load() < 2 {
			t.Errorf("%d acknowledgements were lost, and %d records came late", lost.Load(), read.Load())
		}
	})
}

// Who is ended by another meanwhile learns it, also from a slow server.
func TestASessionEndedByAnotherOnASlowServer(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.throughFor("a", slowTTL)
		l, err := s.Lock(t.Context(), "key0")
		must(t, err)
		judgedBy(links, slow)
		subject, _ := w.recordOf(s.ID())
		marker := nats.NewMsg(subject)
		marker.Header.Set("KV-Operation", "DEL")
		_, err = w.js().PublishMsg(t.Context(), marker)
		must(t, err)
		select {
		case <-s.Done():
		case <-time.After(patience):
			t.Fatal("it lives on")
		}
		if err := l.Err(); !errors.Is(err, locks.ErrLost) || !strings.Contains(err.Error(), "ended by another") {
			t.Errorf("got %v", err)
		}
	})
}
