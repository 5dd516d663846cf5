// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/router/internal/handoff"
)

func TestOpenMakesTheBucketOnceAndAssertsItsSettings(t *testing.T) {
	c := start(t)
	var opening sync.WaitGroup
	for range 4 {
		s, err := newStore(c.connect(), Config{})
		must(t, err)
		opening.Go(func() {
			if err := s.open(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	stream, err := c.js().Stream(t.Context(), "KV_assent-rings")
	must(t, err)
	if cfg := stream.CachedInfo().Config; cfg.AllowDirect || cfg.MaxMsgsPerSubject != 1 || cfg.Discard != jetstream.DiscardNew {
		t.Fatalf("made with %+v", cfg)
	}
}

func TestUnsafeSettingsAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*jetstream.StreamConfig){
		"allow direct":             func(cfg *jetstream.StreamConfig) { cfg.AllowDirect = true },
		"max age":                  func(cfg *jetstream.StreamConfig) { cfg.MaxAge = time.Hour },
		"max messages per subject": func(cfg *jetstream.StreamConfig) { cfg.MaxMsgsPerSubject = 5 },
		"discard":                  func(cfg *jetstream.StreamConfig) { cfg.Discard = jetstream.DiscardOld },
		"storage":                  func(cfg *jetstream.StreamConfig) { cfg.Storage = jetstream.MemoryStorage },
		"max messages is":          func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs = 100 },
		"allow message TTL":        func(cfg *jetstream.StreamConfig) { cfg.AllowMsgTTL = false },
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			c := start(t)
			cfg := bucketSettings(names{"assent"}, 1)
			spoil(&cfg)
			_, err := c.js().CreateStream(t.Context(), cfg)
			must(t, err)
			s, err := newStore(c.connect(), Config{})
			must(t, err)
			err = s.open(t.Context())
			wantError(t, err, ErrSettings)
			if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "nats stream edit KV_assent-rings") {
				t.Fatalf("it does not say what is wrong and what to do: %v", err)
			}
		})
	}
}

func TestRecordsAreWrittenAndRead(t *testing.T) {
	c := start(t)
	s := c.store()
	_, err := s.record(t.Context(), "g")
	wantError(t, err, ErrNoGroup)
	v := c.group(s, "g")
	for range 3 {
		v = c.bump(s, v)
	}
	read, err := s.record(t.Context(), "g")
	must(t, err)
	if read.record.Epoch != 4 || read.raw.revision != v.raw.revision {
		t.Fatalf("read epoch %d, revision %d, want 4 and %d", read.record.Epoch, read.raw.revision, v.raw.revision)
	}
	must(t, s.remove(t.Context(), "g", read))
	gone, err := s.record(t.Context(), "g")
	wantError(t, err, ErrNoGroup)
	if gone.last != (hint{v.record.Incarnation, 4}) {
		t.Fatalf("what was deleted is forgotten: %+v", gone.last)
	}
}

func TestAnEpochThatDoesNotFollowIsABug(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	next := nextOf(t, nextOf(t, v.record))
	defer func() {
		if recover() == nil {
			t.Fatal("a gap in the epochs was written")
		}
	}()
	_, _ = s.put(t.Context(), v, next)
}

// Eight writers at once: every epoch is written by one of them, and none is left out.
func TestWritersRaceWithoutGaps(t *testing.T) {
	c := start(t)
	first := c.store()
	c.group(first, "g")
	const writers, rounds = 8, 15
	var mu sync.Mutex
	written := map[uint64]int{}
	var racing sync.WaitGroup
	for i := range writers {
		s := first
		if i%2 == 1 {
			s = c.store()
		}
		racing.Go(func() {
			for done := 0; done < rounds; {
				v, err := s.record(t.Context(), "g")
				if err != nil {
					t.Error(err)
					return
				}
				next := nextOf(t, v.record)
				_, err = s.put(t.Context(), v, next)
				if err == nil {
					mu.Lock()
					written[next.Epoch]++
					mu.Unlock()
					done++
				} else if !errors.Is(err, errConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	racing.Wait()
	for epoch := uint64(2); epoch <= writers*rounds+1; epoch++ {
		if written[epoch] != 1 {
			t.Errorf("epoch %d was written %d times", epoch, written[epoch])
		}
	}
	v, err := first.record(t.Context(), "g")
	must(t, err)
	if v.record.Epoch != writers*rounds+1 {
		t.Fatalf("it ends with epoch %d", v.record.Epoch)
	}
}

// deafAcks gives a store whose writes are stored and never acknowledged, as often as it is told; then they are as usual.
func (c *cluster) deafAcks(times int) (*store, *deaf) {
	c.t.Helper()
	s := c.store()
	d := &deaf{JetStream: s.js, times: times}
	s.js = d
	return s, d
}

type deaf struct {
	jetstream.JetStream
	times int
	after func() // what happens between the write and its repetition
}

func (d *deaf) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := d.JetStream.PublishMsg(ctx, msg, opts...)
	if d.times > 0 && err == nil {
		d.times--
		if d.after != nil {
			d.after()
		}
		return nil, nats.ErrTimeout
	}
	return ack, err
}

func TestAWriteThatWasNotAcknowledgedIsRecognised(t *testing.T) {
	c := start(t)
	s, d := c.deafAcks(1)
	v := c.group(s, "g") // the first write has no acknowledgement
	if v.record.Epoch != 1 {
		t.Fatalf("epoch %d", v.record.Epoch)
	}
	d.times = 1
	v = c.bump(s, v)
	read, err := s.record(t.Context(), "g")
	must(t, err)
	if v.record.Epoch != 2 || read.record.Epoch != 2 || read.raw.revision != v.raw.revision {
		t.Fatalf("put gave epoch %d, stored is %d", v.record.Epoch, read.record.Epoch)
	}
}

// A write is known to be stored also when others have written since.
func TestAnOwnWriteIsRecognisedUnderLaterOnes(t *testing.T) {
	for later, want := range map[int]error{1: nil, maxWrites - 1: nil, maxWrites: ErrUnknown} {
		t.Run(fmt.Sprint(later), func(t *testing.T) {
			c := start(t)
			other := c.store()
			s, d := c.deafAcks(1)
			v := c.group(other, "g")
			d.after = func() {
				now, err := other.record(t.Context(), "g")
				must(t, err)
				for range later {
					now = c.bump(other, now)
				}
			}
			after, err := s.put(t.Context(), v, nextOf(t, v.record))
			if want != nil {
				wantError(t, err, want)
				if errors.Is(err, errConflict) {
					t.Fatal("it claims to know")
				}
				return
			}
			must(t, err)
			if after.record.Epoch != uint64(2+later) {
				t.Fatalf("what is stored is said to have epoch %d", after.record.Epoch)
			}
		})
	}
}

// A write that was lost on its way is sent again; one that another was quicker than is a conflict, also when nobody knows at
// first.
func TestALostWriteIsSentAgain(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	s.js = &lossy{JetStream: s.js, times: 2}
	if v = c.bump(s, v); v.record.Epoch != 2 {
		t.Fatalf("epoch %d", v.record.Epoch)
	}
	other := c.store()
	s.js = &lossy{JetStream: s.js, times: 1, after: func() { c.bump(other, v) }}
	_, err := s.put(t.Context(), v, nextOf(t, v.record))
	wantError(t, err, errConflict)
}

type lossy struct {
	jetstream.JetStream
	times int
	after func()
}

func (l *lossy) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if l.times > 0 {
		l.times--
		if l.after != nil {
			l.after()
		}
		return nil, nats.ErrTimeout
	}
	return l.JetStream.PublishMsg(ctx, msg, opts...)
}

func TestAWriteThatNobodyAcknowledgesIsUnknown(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	ctx, cancel := context.WithCancel(t.Context())
	s.js = &lossy{JetStream: s.js, times: 1 << 30, after: cancel}
	_, err := s.put(ctx, v, nextOf(t, v.record))
	wantError(t, err, ErrUnknown)
}

func TestAWriteSurvivesARestartOfTheServer(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	c.down()
	stored := make(chan error, 1)
	go func() {
		_, err := s.put(t.Context(), v, nextOf(t, v.record))
		stored <- err
	}()
	c.up()
	must(t, <-stored)
}

func TestWhatCannotBeReadSaysWhy(t *testing.T) {
	c := start(t)
	s := c.store()
	c.write("$KV.assent-rings.g", "garbage", nil)
	v, err := s.record(t.Context(), "g")
	wantError(t, err, ErrRecord)
	if v.raw.revision == 0 || !strings.Contains(err.Error(), "group g") {
		t.Fatalf("revision %d, error %v", v.raw.revision, err)
	}
	c.write("$KV.assent-rings.g", `{"v":99}`, nil)
	_, err = s.record(t.Context(), "g")
	wantError(t, err, ErrNewerRecord)
	c.group(s, "other")
	other, err := s.record(t.Context(), "other")
	must(t, err)
	c.write("$KV.assent-rings.g", string(other.raw.data), nil)
	_, err = s.record(t.Context(), "g")
	wantError(t, err, ErrRecord)
}

func TestPresences(t *testing.T) {
	c := start(t)
	s := c.store()
	_, at, err := s.presence(t.Context(), "g", "n1")
	must(t, err)
	at, err = s.putPresence(t.Context(), "g", "n1", &handoff.Presence{V: 1, Session: "0011223344556677", Weight: 1}, at)
	must(t, err)
	p, read, err := s.presence(t.Context(), "g", "n1")
	must(t, err)
	if p.Session != "0011223344556677" || read.revision != at.revision {
		t.Fatalf("%+v at %d, want revision %d", p, read.revision, at.revision)
	}
	_, err = s.putPresence(t.Context(), "g", "n1", &p, raw{})
	wantError(t, err, errConflict)
	at, err = s.deletePresence(t.Context(), "g", "n1", at)
	must(t, err)
	_, read, err = s.presence(t.Context(), "g", "n1")
	must(t, err)
	if !read.deleted {
		t.Fatal("it is still there")
	}
	_, err = s.putPresence(t.Context(), "g", "n1", &p, at)
	must(t, err)
}

func TestParseKey(t *testing.T) {
	n := names{"a.b"}
	for subject, want := range map[string]string{
		n.recordSubject("g"): "g  true", n.presenceSubject("g", "n"): "g n true", "$KV.a-b-rings.g.n.x": "g n.x false",
		"$KV.a-b-rings.g.": "g  false", "$KV.a-b-rings.": "  false", "$KV.other.g": "  false",
	} {
		group, node, ok := n.parseKey(subject)
		if got := fmt.Sprint(group, " ", node, " ", ok); got != want {
			t.Errorf("%s: %q, want %q", subject, got, want)
		}
	}
}
