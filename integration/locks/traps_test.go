// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

// The traps of NATS, each as what our package does about it, at one and at three replicas.

const (
	expectHeader = "Nats-Expected-Last-Subject-Sequence"
	filterHeader = "Nats-Expected-Last-Subject-Sequence-Subject"
)

// records are the streams of the locks; all that is published to them is heard, whether it is stored or not.
func (w *world) hearWrites(each func(*nats.Msg)) {
	w.t.Helper()
	for n := range 2 {
		_, err := w.nc.Subscribe(fmt.Sprintf("$KV.%s-%d.>", bucket, n), each)
		must(w.t, err)
	}
	must(w.t, w.nc.Flush())
}

// Every write is a compare-and-swap on its own subject: none is without a condition (a lost update), and none has a condition
// on other subjects, which three replicas do not keep (2000 of 2000 trials violated a wildcard's). What a key's record says lives until
// somebody changes it: only what is over has a TTL, and that of a session is renewed with every beat (an update without it would make
// the record permanent), is far longer than the lease, and decides nothing.
func TestEveryWriteIsACompareAndSwap(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		kinds := make(map[string]int)
		w.hearWrites(func(msg *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			kind := strings.Split(msg.Subject, ".")[2]
			over := msg.Header.Get("KV-Operation") != ""
			if over {
				kind += " over"
			}
			kinds[kind]++
			if msg.Header.Get(expectHeader) == "" || msg.Header.Get(filterHeader) != "" {
				t.Errorf("a write to %s with the headers %v", msg.Subject, msg.Header)
			}
			if why := expires(msg, kind); why != "" {
				t.Error(why)
			}
		})
		w.add(2)
		w.more(enough)
		killClients(w)
		w.more(enough)
		w.finish()
		mu.Lock()
		defer mu.Unlock()
		for _, kind := range []string{"lock", "lock over", "session", "session over"} {
			if kinds[kind] == 0 {
				t.Errorf("no write of a %q was heard: %v", kind, kinds)
			}
		}
	})
}

// expires says what is wrong with the TTL of a message.
func expires(msg *nats.Msg, kind string) string {
	lives, err := time.ParseDuration(msg.Header.Get(jetstream.MsgTTLHeader))
	switch {
	case kind == "lock" && msg.Header.Get(jetstream.MsgTTLHeader) != "":
		return fmt.Sprintf("a lock with a TTL: %v", msg.Header)
	case kind != "lock" && (err != nil || lives < time.Hour):
		return fmt.Sprintf("%s, with the headers %v", kind, msg.Header)
	default:
		return ""
	}
}

// The same of one lock, which is held for longer than the TTL.
func TestNoLockExpiresByTheServersClock(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		var beats atomic.Int32
		w.hearWrites(func(msg *nats.Msg) {
			kind := strings.Split(msg.Subject, ".")[2]
			if msg.Header.Get("KV-Operation") != "" {
				kind += " over"
			}
			if kind == "session" {
				beats.Add(1)
			}
			if why := expires(msg, kind); why != "" {
				t.Error(why)
			}
		})
		s, _ := w.throughFor("a", ruleTTL)
		l, err := s.Lock(t.Context(), "key0")
		must(t, err)
		<-time.After(ruleTTL * 5 / 4)
		must(t, l.Err())
		must(t, l.Unlock(t.Context()))
		must(t, s.Close(t.Context()))
		must(t, w.nc.Flush())
		if beats.Load() < 3 {
			t.Errorf("%d beats were heard", beats.Load())
		}
	})
}

// A direct get is answered by a replica that may be behind (19 to 29 of 100 were, right after one's own write). None is ever sent, the
// streams do not allow them, and neither is a bucket taken on which somebody has allowed them. So with the other settings that
// locks rest on; a marker of the server's own, for one, can overwrite a renewal that was acknowledged.
func TestNoDirectGets(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.through("a")
		var gets, direct atomic.Int32
		judgedBy(links, func(f *frame) fate {
			switch {
			case f.toServer && strings.HasPrefix(f.subject, "$JS.API.DIRECT.GET."):
				direct.Add(1)
			case f.toServer && strings.HasPrefix(f.subject, "$JS.API.STREAM.MSG.GET.KV_"+bucket):
				gets.Add(1)
			}
			return passes
		})
		other, _ := w.through("b")
		l, err := other.Lock(t.Context(), "key0")
		must(t, err)
		if _, err := s.TryLock(t.Context(), "key0"); !errors.Is(err, locks.ErrHeld) {
			t.Errorf("got %v", err)
		}
		if _, err := s.Lock(t.Context(), "key0", locks.Wait(time.Second)); !errors.Is(err, locks.ErrHeld) {
			t.Errorf("got %v", err)
		}
		must(t, l.Unlock(t.Context()))
		if direct.Load() != 0 || gets.Load() == 0 {
			t.Errorf("%d direct gets, %d of the leader", direct.Load(), gets.Load())
		}
		for _, stream := range w.streams() {
			info, err := w.js().Stream(t.Context(), stream)
			must(t, err)
			if c := info.CachedInfo().Config; c.AllowDirect || c.SubjectDeleteMarkerTTL != 0 || c.MaxAge != 0 || c.Replicas != w.replicas {
				t.Errorf("%s: %+v", stream, c)
			}
		}
	})
}

func TestChangedSettingsAreRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		for name, change := range map[string]func(*jetstream.StreamConfig){
			"allow direct":              func(c *jetstream.StreamConfig) { c.AllowDirect = true },
			"max age":                   func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
			"subject delete marker TTL": func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL, c.AllowMsgTTL = time.Second, true },
			"max messages per subject":  func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 2 },
			"discard":                   func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		} {
			stream := fmt.Sprintf("KV_%s-1", bucket)
			s, err := w.js().Stream(t.Context(), stream)
			must(t, err)
			whole := s.CachedInfo().Config
			broken := whole
			change(&broken)
			_, err = w.js().UpdateStream(t.Context(), broken)
			must(t, err)
			if _, err := locks.Open(t.Context(), w.nc, w.config()); !errors.Is(err, locks.ErrSettings) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), stream) {
				t.Errorf("%s changed: %v", name, err)
			}
			_, err = w.js().UpdateStream(t.Context(), whole)
			must(t, err)
		}
		session, err := locks.Open(t.Context(), w.nc, w.config())
		must(t, err)
		must(t, session.Close(t.Context()))
	})
}

// mislead makes the server refuse the first writes of a kind, as 10164 says it: "another write is under way". Nothing of theirs is
// stored, and nothing of anybody else's is either.
func mislead(links []*link, writes int32, kind func(*frame) bool) *atomic.Int32 {
	left, told := new(atomic.Int32), new(atomic.Int32)
	left.Store(writes)
	judgedBy(links, func(f *frame) fate {
		expect := []byte(expectHeader + ": ")
		switch at := bytes.Index(f.raw, expect); {
		case kind(f) && at > 0 && left.Add(-1) >= 0:
			for at += len(expect); f.raw[at] != '\r'; at++ { // another revision, of as many digits
				f.raw[at] = '0' + (f.raw[at]-'0'+7)%10
			}
		case !f.toServer:
			if at := bytes.Index(f.raw, []byte(`"err_code":10071`)); at > 0 {
				told.Add(1)
				copy(f.raw[at:], `"err_code":10164`)
			}
		}
		return passes
	})
	return told
}

// 10164 of three replicas says that another write is under way on the subject, not that it will be stored. It means "not yet known":
// neither that the key is held, nor that the session is lost, nor that the lock is.
func TestAWriteUnderWayProvesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s, links := w.throughFor("a", ruleTTL)
		const refusals = 3
		check := func(told *atomic.Int32) {
			t.Helper()
			if told.Load() < refusals {
				t.Errorf("%d writes were refused, want %d", told.Load(), refusals)
			}
		}
		told := mislead(links, refusals, isLock)
		l, err := s.TryLock(t.Context(), "key0")
		must(t, err)
		check(told)

		told = mislead(links, refusals, isSession)
		<-time.After(ruleTTL * 5 / 4)
		check(told)
		must(t, l.Err())

		told = mislead(links, refusals, isLock)
		must(t, l.Unlock(t.Context()))
		check(told)
	})
}

// The same as it happens by itself: many try to get a free key at one moment. Exactly one does, and the others are told who.
func TestOneOfManyGetsAFreeKey(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const sessions, rounds = 6, 25
		all := make([]*locks.Session, sessions)
		var refused atomic.Int32
		for i := range all {
			var links []*link
			all[i], links = w.through(fmt.Sprintf("s%d", i))
			judgedBy(links, func(f *frame) fate {
				if !f.toServer && (bytes.Contains(f.payload, []byte(`"err_code":10164`)) || bytes.Contains(f.payload, []byte(`"err_code":10071`))) {
					refused.Add(1)
				}
				return passes
			})
		}
		for round := range rounds {
			won := make(chan *locks.Lock, sessions)
			var trying sync.WaitGroup
			for _, s := range all {
				trying.Go(func() {
					l, err := s.TryLock(t.Context(), fmt.Sprintf("free%d", round))
					var held *locks.HeldError
					switch {
					case err == nil:
						won <- l
					case !errors.As(err, &held) || len(held.Holders) != 1:
						t.Errorf("refused with %v", err)
					}
				})
			}
			trying.Wait()
			if len(won) != 1 {
				t.Fatalf("%d got the key", len(won))
			}
			must(t, (<-won).Unlock(t.Context()))
		}
		if refused.Load() == 0 {
			t.Error("no write met another: this tests nothing")
		}
	})
}

// Tokens grow when the bucket is deleted and made again, though its sequences begin anew.
func TestTokensGrowAcrossBuckets(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		var last locks.Token
		for range 2 {
			w.create()
			s, _ := w.through("a")
			for range 3 {
				l, err := s.Lock(t.Context(), "key0")
				must(t, err)
				if l.Token().Compare(last) <= 0 {
					t.Errorf("token %v after %v", l.Token(), last)
				}
				last = l.Token()
				must(t, l.Unlock(t.Context()))
			}
			must(t, s.Close(t.Context()))
			for _, stream := range w.streams() {
				w.eventually(stream+" is deleted", func(ctx context.Context) error {
					if err := w.js().DeleteStream(ctx, stream); !errors.Is(err, jetstream.ErrStreamNotFound) {
						return err
					}
					return nil
				})
			}
		}
	})
}
