// SPDX-License-Identifier: Apache-2.0

package locks_test

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

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
)

func (c *cluster) js() jetstream.JetStream {
	c.t.Helper()
	// The default is 5 s, which a busy machine may need for a question.
	js, err := jetstream.New(c.connect(), jetstream.WithDefaultTimeout(time.Minute))
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// crash opens a session whose connection is then cut for good, as if its process had died.
func (c *cluster) crash(cfg locks.Config) (s *locks.Session, kill func()) {
	c.t.Helper()
	nc := c.connect()
	s, err := locks.Open(c.t.Context(), nc, cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		nc.Close()
		<-s.Done()
	})
	return s, nc.Close
}

func TestTheNextTakesOverFromTheDead(t *testing.T) {
	c := start(t)
	cfg := locks.Config{TTL: time.Second}
	dying, kill := c.crash(cfg)
	held := mustLock(t, dying, "k")
	next, after := queue(t, c.open(cfg), "k"), queue(t, c.open(cfg), "k")
	c.stored("k", 2) // so that the order outlives the holder
	if held.Err() != nil {
		t.Fatal("lost too early")
	}
	kill()
	got := next.lock()
	if err := held.Err(); !errors.Is(err, locks.ErrLost) {
		t.Errorf("two hold it: %v", err)
	}
	if got.Token().Compare(held.Token()) <= 0 {
		t.Errorf("token %s after %s", got.Token(), held.Token())
	}
	select {
	case <-held.Done():
	case <-time.After(patience):
		t.Error("the former holder is not told")
	}
	after.waits()
	mustUnlock(t, got)
	mustUnlock(t, after.lock())
	if err := held.Unlock(t.Context()); !errors.Is(err, locks.ErrLost) {
		t.Errorf("giving back what was lost: %v", err)
	}
	if _, err := dying.Lock(t.Context(), "other"); !errors.Is(err, locks.ErrLost) {
		t.Errorf("a session that is lost takes a lock: %v", err)
	}
}

// Whoever waits next and dies with the holder must not cost a further TTL.
func TestTheDeadInTheQueueArePassedOver(t *testing.T) {
	c := start(t)
	cfg := locks.Config{TTL: time.Second}
	holder, killHolder := c.crash(cfg)
	held := mustLock(t, holder, "k")
	waiter, killWaiter := c.crash(cfg)
	dying := queue(t, waiter, "k")
	last := queue(t, c.open(cfg), "k")
	c.stored("k", 2)
	killHolder()
	killWaiter()
	mustUnlock(t, last.lock())
	if err := <-dying.failed; !errors.Is(err, locks.ErrLost) {
		t.Errorf("got %v", err)
	}
	<-held.Done()
}

func TestReadersDieAndWritersGetIn(t *testing.T) {
	c := start(t)
	cfg := locks.Config{TTL: time.Second}
	first, killFirst := c.crash(cfg)
	second, killSecond := c.crash(cfg)
	mustLock(t, first, "k", locks.Shared())
	mustLock(t, second, "k", locks.Shared())
	alive := c.open(cfg)
	third := mustLock(t, alive, "k", locks.Shared())
	writer := queue(t, c.open(cfg), "k")
	killSecond()
	killFirst() // the keeper
	mustUnlock(t, third)
	mustUnlock(t, writer.lock())
}

// stored waits until a number of those who wait for a key are stored, and gives what is.
func (c *cluster) stored(key string, waiters int) []locks.Info {
	c.t.Helper()
	for begun := time.Now(); time.Since(begun) < patience; {
		list, err := locks.List(c.t.Context(), c.connect(), "")
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range list {
			if list[i].Key == key && len(list[i].Waiters) == waiters {
				return list
			}
		}
	}
	c.t.Fatalf("%d who wait for %s are not stored", waiters, key)
	return nil
}

func TestASessionEndedByOthersKnowsIt(t *testing.T) {
	c := start(t)
	cfg := locks.Config{TTL: 3 * time.Second, Streams: 1}
	s := c.open(cfg)
	l := mustLock(t, s, "k")
	// What a waiter does that has not seen a renewal for long enough.
	marker := nats.NewMsg("$KV.assent-locks-0.session." + s.ID())
	marker.Header.Set("KV-Operation", "DEL")
	if _, err := c.js().PublishMsg(t.Context(), marker); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("it lives on")
	}
	if err := s.Err(); !errors.Is(err, locks.ErrLost) || !strings.Contains(err.Error(), "ended by another") {
		t.Errorf("got %v", err)
	}
	if err := l.Err(); !errors.Is(err, locks.ErrLost) {
		t.Errorf("got %v", err)
	}
	other := c.open(cfg)
	mustUnlock(t, mustLock(t, other, "k")) // at once: the session is known to have ended
}

func TestASessionSurvivesAReconnect(t *testing.T) {
	dir := t.TempDir()
	srv, err := embedded.Start(embedded.Config{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t, srv}
	s := c.open(locks.Config{TTL: 30 * time.Second})
	l := mustLock(t, s, "k")
	address := strings.TrimPrefix(srv.URL(), "nats://")
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if l.Err() != nil {
		t.Error("lost at once")
	}
	if c.srv, err = embedded.Start(embedded.Config{Dir: dir, Listen: address}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.srv.Close() })
	next := queue(t, c.open(locks.Config{}), "k")
	mustUnlock(t, l)
	got := next.lock()
	if got.Token().Compare(l.Token()) <= 0 {
		t.Errorf("token %s after %s, across a restart", got.Token(), l.Token())
	}
	mustUnlock(t, got)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Close(ctx); err != nil { // before the server goes
		t.Error(err)
	}
}

func TestCloseGivesEverythingBack(t *testing.T) {
	c := start(t)
	s, err := locks.Open(t.Context(), c.connect(), locks.Config{})
	if err != nil {
		t.Fatal(err)
	}
	held := mustLock(t, s, "a")
	mustLock(t, s, "b", locks.Shared())
	blocked := queue(t, s, "a")
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-blocked.failed; !errors.Is(err, locks.ErrClosed) {
		t.Errorf("who waited got %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("closing again: %v", err)
	}
	if err := held.Err(); err == nil {
		t.Error("it says that it holds")
	}
	if _, err := s.Lock(t.Context(), "c"); !errors.Is(err, locks.ErrClosed) {
		t.Errorf("got %v", err)
	}
	other := c.open(locks.Config{})
	for _, key := range []string{"a", "b"} {
		l, err := other.TryLock(t.Context(), key)
		if err != nil {
			t.Errorf("%s was not given back: %v", key, err)
			continue
		}
		mustUnlock(t, l)
	}
}

// Deleting the bucket is the end of its sessions; the tokens of its successor are greater all the same.
func TestTokensGrowAcrossTheBucketsReCreation(t *testing.T) {
	c := start(t)
	before, err := locks.Open(t.Context(), c.connect(), locks.Config{TTL: time.Second, Streams: 1})
	if err != nil {
		t.Fatal(err)
	}
	var last *locks.Lock
	for range 5 {
		last = mustLock(t, before, "k")
		mustUnlock(t, last)
	}
	if err := c.js().DeleteStream(t.Context(), "KV_assent-locks-0"); err != nil {
		t.Fatal(err)
	}
	<-before.Done()
	if !errors.Is(before.Err(), locks.ErrLost) {
		t.Errorf("got %v", before.Err())
	}
	l := mustLock(t, c.open(locks.Config{Streams: 1}), "k")
	if l.Token().Sequence > last.Token().Sequence || l.Token().Compare(last.Token()) <= 0 {
		t.Errorf("token %s after %s", l.Token(), last.Token())
	}
	if strings.Compare(l.Token().String(), last.Token().String()) <= 0 {
		t.Error("the text of tokens sorts otherwise than they do")
	}
	mustUnlock(t, l)
}

func TestForceRelease(t *testing.T) {
	c := start(t)
	s := c.open(locks.Config{Owner: "stuck"})
	l := mustLock(t, s, "k")
	next := queue(t, c.open(locks.Config{Owner: "next"}), "k")
	was, err := forceRelease(c, "k")
	if err != nil || len(was.Holders) != 1 || was.Holders[0].Owner != "stuck" || was.Holders[0].Token != l.Token() {
		t.Fatalf("got %+v, %v", was, err)
	}
	got := next.lock()
	if got.Token().Compare(l.Token()) <= 0 {
		t.Errorf("token %s after %s", got.Token(), l.Token())
	}
	select {
	case <-l.Done():
	case <-time.After(patience):
		t.Fatal("the former holder is not told")
	}
	if err := l.Err(); !errors.Is(err, locks.ErrLost) || !strings.Contains(err.Error(), "force") {
		t.Errorf("got %v", err)
	}
	if err := l.Unlock(t.Context()); !errors.Is(err, locks.ErrLost) {
		t.Errorf("got %v", err)
	}
	if got.Err() != nil {
		t.Error("the former holder's Unlock took it away")
	}
	mustUnlock(t, got)
	if _, err := forceRelease(c, "k"); !errors.Is(err, locks.ErrNotHeld) {
		t.Errorf("releasing what nobody holds: %v", err)
	}
	mustUnlock(t, mustLock(t, s, "k")) // the session itself is well
}

func forceRelease(c *cluster, key string) (locks.Info, error) {
	return locks.ForceRelease(c.t.Context(), c.connect(), "", locks.KindLock, key)
}

// Deleting a held lock's record by other means takes it from its holder, who learns it at the latest at Unlock.
func TestUnlockOfWhatSomebodyDeleted(t *testing.T) {
	c := start(t)
	s := c.open(locks.Config{Streams: 1})
	l := mustLock(t, s, "k")
	kv, err := c.js().KeyValue(t.Context(), "assent-locks-0")
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "lock.k"); err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(t.Context()); !errors.Is(err, locks.ErrLost) {
		t.Errorf("got %v", err)
	}
	again := mustLock(t, s, "k")
	if again.Token().Compare(l.Token()) <= 0 {
		t.Errorf("token %s after %s", again.Token(), l.Token())
	}
	mustUnlock(t, again)
}

// A holder that misses the message, because the account lets it hear nothing of the others, learns from the record that it
// does not hold any more.
func TestUnlockAfterAForceThatWasNotHeard(t *testing.T) {
	c := start(t)
	s := c.openDeaf(locks.Config{})
	l := mustLock(t, s, "k")
	if _, err := forceRelease(c, "k"); err != nil {
		t.Fatal(err)
	}
	next := mustLock(t, c.open(locks.Config{}), "k")
	if l.Err() != nil {
		t.Fatal("it was to hear nothing")
	}
	if err := l.Unlock(t.Context()); !errors.Is(err, locks.ErrLost) {
		t.Errorf("got %v", err)
	}
	if next.Err() != nil {
		t.Error("the former holder's Unlock took it away")
	}
	mustUnlock(t, next)
}

// Messages only hurry things up: with none at all everybody gets the lock in turn.
func TestWithoutAnyMessage(t *testing.T) {
	c := start(t)
	const sessions, rounds = 4, 3
	done := make(chan error, sessions)
	var last locks.Token
	for range sessions {
		s := c.openDeaf(locks.Config{})
		go func() {
			for i := range rounds {
				var opts []locks.Option
				if i == 1 {
					opts = append(opts, locks.Shared())
				}
				l, err := s.Lock(t.Context(), "k", opts...)
				if err != nil {
					done <- err
					return
				}
				if !l.Shared() {
					if l.Token().Compare(last) <= 0 {
						t.Errorf("token %s after %s", l.Token(), last)
					}
					last = l.Token()
				}
				if err := l.Unlock(t.Context()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range sessions {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("without messages it does not go on")
		}
	}
}

// openDeaf opens a session that hears nothing of what the others say: its inbox has been taken from it.
func (c *cluster) openDeaf(cfg locks.Config) *locks.Session {
	s := c.open(cfg)
	locks.Deafen(s)
	return s
}

func TestList(t *testing.T) {
	c := start(t)
	nc := c.connect()
	if _, err := locks.List(t.Context(), nc, "nothing"); !errors.Is(err, locks.ErrNoBucket) {
		t.Errorf("got %v", err)
	}
	a, b := c.open(locks.Config{Owner: "ann"}), c.open(locks.Config{Owner: "bob"})
	if list, err := locks.List(t.Context(), nc, ""); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
	l := mustLock(t, a, "z")
	w := queue(t, b, "z", locks.Owner("bob's second"))
	for range 20 {
		mustUnlock(t, mustLock(t, a, "given/back"))
	}
	election, _ := b.Election("e")
	leading, err := election.Campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := c.stored("z", 1)
	if len(list) != 2 || list[0].Kind != locks.KindElection || list[1].Kind != locks.KindLock {
		t.Fatalf("got %+v, %v", list, err)
	}
	if z := list[1]; z.Key != "z" || z.Holders[0].Owner != "ann" || z.Holders[0].Token != l.Token() || z.Waiters[0].Owner != "bob's second" {
		t.Errorf("got %+v", z)
	}
	mustUnlock(t, leading)
	mustUnlock(t, l)
	mustUnlock(t, w.lock())
}

// Whatever the number of those who wait, a hand-off is one write; the queue of those who have just come is one more at most.
func TestAHandOffIsOneWrite(t *testing.T) {
	c := start(t)
	cfg := locks.Config{Streams: 1, TTL: time.Hour} // no renewals meanwhile
	held := mustLock(t, c.open(cfg), "k")
	const waiters = 64
	sessions := make([]*locks.Session, waiters)
	for i := range sessions {
		sessions[i] = c.open(cfg)
	}
	locked := make(chan *locks.Lock)
	var queued sync.WaitGroup
	for _, s := range sessions {
		queued.Add(1)
		var once sync.Once
		go func() {
			l, err := s.Lock(t.Context(), "k", locks.OnQueue(func(locks.Position) { once.Do(queued.Done) }))
			if err != nil {
				t.Error(err)
			}
			locked <- l
		}()
	}
	queued.Wait()
	stream, err := c.js().Stream(t.Context(), "KV_assent-locks-0")
	if err != nil {
		t.Fatal(err)
	}
	sequence := func() uint64 {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.LastSeq
	}
	before := sequence()
	for range waiters {
		mustUnlock(t, held)
		held = <-locked
	}
	mustUnlock(t, held)
	if writes := sequence() - before; writes > waiters+2 {
		t.Errorf("%d writes for %d hand-offs", writes, waiters)
	}
}

// Each of those who wait used to look at the holder, and at the first eight of the queue, every 400 ms: 64 of them read 1,600 records
// a second while nothing happened, and a busy machine answered nothing else any more. How often each looks is counted here
// in the looks of the busiest, so that it does not matter how fast they are.
func TestManyWhoWaitLookLittleMoreThanOne(t *testing.T) {
	const waiters, looks = 32, 6
	c := start(t)
	cfg := locks.Config{Streams: 1, TTL: time.Hour}
	holder := c.open(cfg)
	held := mustLock(t, holder, "k")
	var all int
	enough := make(chan int, 1) // how often all of them have looked, when one has looked that often
	by := make(map[string]int)  // the inbox of who asks tells who it is
	nc := c.connect()
	_, err := nc.Subscribe("$JS.API.STREAM.MSG.GET.KV_assent-locks-0", func(msg *nats.Msg) {
		if !strings.Contains(string(msg.Data), holder.ID()) {
			return
		}
		who := msg.Reply[:strings.LastIndexByte(msg.Reply, '.')]
		all++
		by[who]++
		if by[who] == looks {
			select {
			case enough <- all:
			default: // another was before
			}
		}
	})
	if err := errors.Join(err, nc.Flush()); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	for range waiters {
		s := c.open(cfg)
		done.Go(func() {
			l, err := s.Lock(t.Context(), "k")
			if err == nil {
				err = l.Unlock(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	if together := <-enough; together > waiters*looks/3 {
		t.Errorf("%d who wait looked at the holder %d times, while one of them did so %d times", waiters, together, looks)
	}
	mustUnlock(t, held)
	done.Wait()
}

func TestBadInput(t *testing.T) {
	c := start(t)
	s := c.open(locks.Config{})
	keys := map[string]string{
		"": "empty", strings.Repeat("k", 513): "513 bytes", "a b": "only letters", "*": "only letters", ">": "only letters", "a.>": "only letters",
		".a": "dot", "a.": "dot", "a..b": "dot", "ä": "only letters", "a\x00": "only letters",
	}
	for key, says := range keys {
		_, err := s.Lock(t.Context(), key)
		if !errors.Is(err, locks.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("key %.20q: %v", key, err)
		}
		if _, err := s.Election(key); !errors.Is(err, locks.ErrInvalid) {
			t.Errorf("election %.20q: %v", key, err)
		}
		if _, err := s.Semaphore(key, 1); !errors.Is(err, locks.ErrInvalid) {
			t.Errorf("semaphore %.20q: %v", key, err)
		}
	}
	mustUnlock(t, mustLock(t, s, strings.Repeat("k", 512)))
	bad := map[string]error{}
	_, bad["mixed modes"] = s.LockAll(t.Context(), []locks.Want{{Key: "a"}, {Key: "a", Shared: true}})
	_, bad["no keys"] = s.LockAll(t.Context(), nil)
	_, bad["too many keys"] = s.LockAll(t.Context(), make([]locks.Want, 257))
	_, bad["a key of several"] = s.LockAll(t.Context(), []locks.Want{{Key: "a"}, {Key: " "}})
	_, bad["Shared for several"] = s.LockAll(t.Context(), []locks.Want{{Key: "a"}}, locks.Shared())
	_, bad["a long owner"] = s.Lock(t.Context(), "a", locks.Owner(strings.Repeat("o", 65)))
	_, bad["an owner that is no text"] = s.Lock(t.Context(), "a", locks.Owner("o\xff"))
	_, bad["no permits"] = s.Semaphore("a", 0)
	_, bad["many permits"] = s.Semaphore("a", 1001)
	m, _ := s.Semaphore("a", 1)
	_, bad["a shared permit"] = m.Acquire(t.Context(), locks.Shared())
	for name, cfg := range map[string]locks.Config{
		"a TTL under a second": {TTL: 999 * time.Millisecond}, "a negative TTL": {TTL: -1}, "a TTL of a day": {TTL: 24 * time.Hour},
		"two replicas": {Replicas: 2}, "many streams": {Streams: 65}, "a bucket's name": {Bucket: "a.b"}, "a configured owner": {Owner: strings.Repeat("o", 65)},
		"a configured owner that is no text": {Owner: "o\xff"}, // it would not know its own record again, should an acknowledgement be lost
	} {
		_, bad[name] = locks.Open(t.Context(), c.connect(), cfg)
	}
	for name, err := range bad {
		if !errors.Is(err, locks.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Settings of a stream that somebody changed are found out when it is opened, and named.
func TestChangedSettingsAreRefused(t *testing.T) {
	changes := map[string]func(*jetstream.StreamConfig){
		"allow direct":             func(cfg *jetstream.StreamConfig) { cfg.AllowDirect = true },
		"max age":                  func(cfg *jetstream.StreamConfig) { cfg.MaxAge = time.Hour },
		"max messages":             func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs = 5 },
		"max messages per subject": func(cfg *jetstream.StreamConfig) { cfg.MaxMsgsPerSubject = 10 },
		"discard":                  func(cfg *jetstream.StreamConfig) { cfg.Discard = jetstream.DiscardOld },
		"subject delete marker":    func(cfg *jetstream.StreamConfig) { cfg.SubjectDeleteMarkerTTL = time.Minute },
		"no ack":                   func(cfg *jetstream.StreamConfig) { cfg.NoAck = true },
		"subjects":                 func(cfg *jetstream.StreamConfig) { cfg.Subjects = []string{"$KV.elsewhere.>"} },
		"metadata":                 func(cfg *jetstream.StreamConfig) { delete(cfg.Metadata, "assent-streams") },
		"subject transform": func(cfg *jetstream.StreamConfig) {
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.>", Destination: "X.>"}
		},
	}
	c := start(t)
	js := c.js()
	for name, change := range changes {
		bucket := strings.ReplaceAll(name, " ", "-")
		s, err := locks.Open(t.Context(), c.connect(), locks.Config{Bucket: bucket, Streams: 2})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), fmt.Sprintf("KV_%s-0", bucket))
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		change(&cfg)
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Errorf("%s: the server does not take it: %v", name, err)
			continue
		}
		_, err = locks.Open(t.Context(), c.connect(), locks.Config{Bucket: bucket})
		if !errors.Is(err, locks.ErrSettings) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "KV_"+bucket) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := locks.Open(t.Context(), c.connect(), locks.Config{Bucket: "discard", Streams: 3}); !errors.Is(err, locks.ErrSettings) {
		t.Errorf("another number of streams: %v", err)
	}
}

// What somebody else wrote on a key's place is told, not overwritten; by force it can be.
func TestARecordThatCannotBeRead(t *testing.T) {
	c := start(t)
	s := c.open(locks.Config{Streams: 1})
	js := c.js()
	for name, data := range map[string]string{"garbage": "{", "newer": `{"v":2,"holders":[{"id":"x-1"}]}`, "stranger": `{"v":1,"holders":[{"id":"a b.>-1"}]}`} {
		if _, err := js.Publish(t.Context(), "$KV.assent-locks-0.lock."+name, []byte(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Lock(t.Context(), name); !errors.Is(err, locks.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
		list, err := locks.List(t.Context(), c.connect(), "")
		if err != nil || len(list) != 1 || list[0].Problem == "" {
			t.Errorf("%s: %+v, %v", name, list, err)
		}
		if was, err := forceRelease(c, name); err != nil || was.Problem == "" {
			t.Errorf("%s: %+v, %v", name, was, err)
		}
		mustUnlock(t, mustLock(t, s, name))
	}
}
