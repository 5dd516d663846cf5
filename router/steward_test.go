// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// member is a node as far as a steward sees it: a session and what it says.
type member struct {
	c       *cluster
	s       *store
	nc      *nats.Conn
	group   string
	name    string
	session *locks.Session
	said    handoff.Presence
	at      raw
}

// member lets a node say that it wants to join a group. Its session outlives the test, however slow the machine is.
func (c *cluster) member(s *store, group, name string) *member {
	c.t.Helper()
	return c.mortal(s, group, name, 5*testPatience)
}

// mortal is a member whose end is found out within a TTL.
func (c *cluster) mortal(s *store, group, name string, ttl time.Duration) *member {
	c.t.Helper()
	v, err := s.record(c.t.Context(), group)
	must(c.t, err)
	m := &member{c: c, s: s, nc: c.connect(), group: group, name: name}
	m.session, err = locks.Open(c.t.Context(), m.nc, locks.Config{Bucket: "assent-nodes", Streams: 1, TTL: ttl, Owner: name})
	must(c.t, err)
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = m.session.Close(ctx)
	})
	m.said = handoff.Presence{Session: m.session.ID(), Weight: 1, Incarnation: v.record.Incarnation}
	_, m.at, err = s.presence(c.t.Context(), group, name)
	must(c.t, err)
	m.say()
	return m
}

func (m *member) say() {
	m.c.t.Helper()
	var err error
	m.at, err = m.s.putPresence(m.c.t.Context(), m.group, m.name, &m.said, m.at)
	must(m.c.t, err)
}

// die ends a node without a word.
func (m *member) die() { m.nc.Close() }

func (m *member) close() {
	m.c.t.Helper()
	must(m.c.t, m.session.Close(m.c.t.Context()))
}

// serve releases whatever is asked of it, until the test ends.
func (m *member) serve() {
	f := m.c.follow(m.s, m.group, never)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.c.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			changed := f.changed()
			if r, err := f.current(); err == nil {
				released := []handoff.Move{}
				for _, move := range r.Moving {
					if r.Owner(move.Partition) == m.name {
						released = append(released, move)
					}
				}
				if !slices.Equal(released, m.said.Released) {
					m.said.Released = released
					if at, err := m.s.putPresence(ctx, m.group, m.name, &m.said, m.at); err == nil {
						m.at = at
					}
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// awaitRing waits for a ring of a group.
func (c *cluster) awaitRing(s *store, group, what string, want func(*handoff.Record) bool) *handoff.Record {
	c.t.Helper()
	f := c.follow(s, group, 100*time.Millisecond)
	c.await(f, what, func(r *handoff.Record, err error) bool { return err == nil && want(r) })
	return f.record()
}

// shares tells whether all is owned by exactly these nodes, evenly, and nothing moves.
func shares(names ...string) func(*handoff.Record) bool {
	return func(r *handoff.Record) bool {
		counts := map[string]int{}
		for p := range r.Partitions {
			if r.Owner(p) != r.Target(p) {
				return false
			}
			counts[r.Owner(p)]++
		}
		for _, name := range names {
			if n := counts[name]; n < r.Partitions/len(names) || n > r.Partitions/len(names)+1 {
				return false
			}
		}
		return len(counts) == len(names) && len(r.Moving) == 0
	}
}

func (c *cluster) made(s *store, group string, settings handoff.Settings) {
	c.t.Helper()
	_, err := s.create(c.t.Context(), group, settings)
	must(c.t, err)
}

func TestTheStewardTakesNodesIn(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.service(ServiceConfig{})
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64, Kind: handoff.HandOff, GraceMS: -1})
	a := c.member(s, "g", "a")
	a.serve()
	c.awaitRing(s, "g", "a alone", shares("a"))
	b := c.mortal(s, "g", "b", 6*time.Second)
	b.serve()
	r := c.awaitRing(s, "g", "a and b", shares("a", "b"))
	if n := r.Node("b"); n.Session != b.session.ID() || n.Revision == 0 || n.Static {
		t.Fatalf("noted %+v", n)
	}
	b.die()
	c.awaitRing(s, "g", "a alone again", shares("a"))
	if err := b.session.Err(); !errors.Is(err, locks.ErrLost) {
		t.Fatalf("b was taken out and believes that it lives: %v", err)
	}
}

// A node of kind data that is lost keeps what it has, until it is back.
func TestTheStewardLeavesDataWhereTheyAre(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.service(ServiceConfig{})
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64})
	c.member(s, "g", "a").serve()
	c.awaitRing(s, "g", "a alone", shares("a"))
	b := c.mortal(s, "g", "b", 6*time.Second)
	c.awaitRing(s, "g", "a and b", shares("a", "b"))
	b.close()
	r := c.awaitRing(s, "g", "b down", func(r *handoff.Record) bool { return r.Node("b").Down })
	if !shares("a", "b")(r) {
		t.Fatal("its partitions were given away")
	}
	again := c.member(s, "g", "b")
	c.awaitRing(s, "g", "b back", func(r *handoff.Record) bool {
		return !r.Node("b").Down && r.Node("b").Session == again.session.ID()
	})
}

// Nobody who follows misses a ring for long, whatever was lost: the steward says again which is the newest.
func TestTheStewardRepeatsItself(t *testing.T) {
	t.Parallel()
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	f := c.follow(c.store(), "g", never)
	c.awaitEpoch(f, v)
	must(t, f.hints.Unsubscribe())
	must(t, f.s.nc.Flush())
	v = c.bump(s, v) // which it does not hear of
	var err error
	f.hints, err = f.s.nc.Subscribe(s.names.hintSubject("g"), f.hear)
	must(t, err)
	c.service(ServiceConfig{})
	c.awaitEpoch(f, v)
	gone, err := s.record(t.Context(), "g")
	must(t, err)
	must(t, f.hints.Unsubscribe())
	must(t, s.remove(t.Context(), "g", gone))
	f.hints, err = f.s.nc.Subscribe(s.names.hintSubject("g"), f.hear)
	must(t, err)
	c.awaitError(f, ErrNoGroup)
}

// Two who both believe that they are the steward do no harm, and neither do their successors.
func TestTwoStewards(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.service(ServiceConfig{Name: "one"})
	c.service(ServiceConfig{Name: "two"})
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64, Kind: handoff.HandOff, GraceMS: -1})
	third := c.rogue(s, keepTime) // and one who was never granted it
	var names []string
	for i := range 6 {
		names = append(names, fmt.Sprint("n", i))
		c.member(s, "g", names[i]).serve()
		if i%2 == 1 {
			before := c.stewardSession()
			if _, err := locks.ForceRelease(t.Context(), c.lister(), "assent-nodes", locks.KindLock, stewardLock); err != nil && !errors.Is(err, locks.ErrNotHeld) {
				t.Fatal(err)
			}
			eventually(t, "another is the steward", func() bool { now := c.stewardSession(); return now != "" && now != before })
		}
	}
	c.awaitRing(s, "g", "six nodes", shares(names...))
	third()
}

// rogue runs a steward's tenure without the lock.
func (c *cluster) rogue(s *store, keep time.Duration) (stop func()) {
	c.t.Helper()
	return c.tenure(s, func(t *tenure) { t.keep = keep })
}

func (c *cluster) tenure(s *store, change func(*tenure)) (stop func()) {
	c.t.Helper()
	session, err := locks.Open(c.t.Context(), c.connect(), locks.Config{Bucket: "assent-nodes", Streams: 1})
	must(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	steward := newTenure(s, session, s.cfg.Log)
	change(steward)
	go func() { ended <- steward.run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			c.t.Errorf("the tenure ended with %v", err)
		}
		must(c.t, session.Close(context.Background()))
	}
}

// The next steward goes on when one dies, and when its session is taken from it.
func TestAnotherStewardTakesOver(t *testing.T) {
	t.Parallel()
	c := start(t)
	_, stop := c.service(ServiceConfig{})
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64, Kind: handoff.HandOff, GraceMS: -1})
	c.member(s, "g", "a").serve()
	c.awaitRing(s, "g", "a", shares("a"))
	stop()
	b := c.mortal(s, "g", "b", 6*time.Second) // nobody is there to take it in
	b.serve()
	c.service(ServiceConfig{TTL: time.Second})
	c.awaitRing(s, "g", "a and b", shares("a", "b"))
	// Somebody ends the steward's session.
	before := c.stewardSession()
	c.write("$KV.assent-nodes-0.session."+before, "", nats.Header{"KV-Operation": {"DEL"}})
	eventually(t, "it has another session", func() bool { now := c.stewardSession(); return now != "" && now != before })
	b.die()
	c.awaitRing(s, "g", "a", shares("a"))
}

// A watch that says nothing any more, for whatever reason, is replaced.
func TestAStewardsWatchThatStalls(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.service(ServiceConfig{})
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64, Kind: handoff.HandOff, GraceMS: -1})
	c.member(s, "g", "a").serve()
	c.awaitRing(s, "g", "a", shares("a"))
	stream, err := c.js().Stream(t.Context(), s.names.stream())
	must(t, err)
	watching := 0
	for name := range stream.ConsumerNames(t.Context()).Name() {
		watching++
		must(t, stream.DeleteConsumer(t.Context(), name))
	}
	if watching == 0 {
		t.Fatal("nobody watches")
	}
	c.member(s, "g", "b").serve()
	c.awaitRing(s, "g", "a and b", shares("a", "b"))
}

// The same when the server says that all is well.
func TestAWatchThatIsBehind(t *testing.T) {
	c := start(t)
	s := c.store()
	c.group(s, "g")
	w, err := s.watch(t.Context())
	must(t, err)
	defer w.stop()
	steward := &tenure{watch: w, groups: map[string]*watched{}}
	w.took(<-w.items)
	if !w.caughtUp() || w.last != 1 {
		t.Fatalf("at %d", w.last)
	}
	for i, step := range []struct {
		g     guarded
		lags  bool
		taken uint64
	}{
		{guarded{created: w.created, last: 1}, false, 0},
		{guarded{created: w.created, last: 3}, false, 0}, // it may come yet
		{guarded{created: w.created, last: 3}, true, 0},
		{guarded{created: w.created, last: 4}, false, 2}, // it is slow, and comes
		{guarded{created: w.created, last: 5}, false, 5},
		{guarded{err: nats.ErrTimeout}, false, 0},
		{guarded{err: jetstream.ErrStreamNotFound}, true, 0},
		{guarded{created: w.created.Add(1), last: 5}, true, 0},
	} {
		w.last = max(w.last, step.taken)
		if err := steward.lags(step.g); (err != nil) != step.lags {
			t.Errorf("step %d: %v", i, err)
		}
	}
	steward.groups["g"] = &watched{name: "g", blocked: time.Now().Add(-time.Hour)}
	if steward.lags(guarded{created: w.created, last: w.last}) == nil {
		t.Error("a record that is not heard of is waited for in vain")
	}
}

func TestAWatchThatMissesSomething(t *testing.T) {
	c := start(t)
	s := c.store()
	w, err := s.watch(t.Context())
	must(t, err)
	w.stop()
	handle := w.handler(make(chan struct{}))
	for _, sequence := range []uint64{1, 2, 4} {
		handle(&counted{sequence: sequence})
	}
	select {
	case err := <-w.broken:
		if err == nil {
			t.Fatal("no reason")
		}
	default:
		t.Fatal("it does not mind")
	}
	if len(w.items) != 2 {
		t.Fatalf("%d items", len(w.items))
	}
}

type counted struct {
	jetstream.Msg
	sequence uint64
}

func (m *counted) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Consumer: m.sequence, Stream: m.sequence}}, nil
}
func (m *counted) Subject() string      { return "s" }
func (m *counted) Data() []byte         { return nil }
func (m *counted) Headers() nats.Header { return nil }

func TestAStewardSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.service(ServiceConfig{})
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64, Kind: handoff.HandOff, GraceMS: -1})
	static := func(name string) {
		v, err := s.find(t.Context(), "g")
		must(t, err)
		next, err := v.record.Apply(&handoff.Change{Action: handoff.Add, Node: name})
		must(t, err)
		_, err = s.put(t.Context(), v, next)
		must(t, err)
	}
	static("a")
	c.down()
	c.up()
	static("b")
	c.awaitRing(s, "g", "a and b", shares("a", "b"))
	c.member(s, "g", "c").serve()
	c.awaitRing(s, "g", "a, b and c", shares("a", "b", "c"))
}

// Who deletes the bucket deletes the groups. It is made anew, and so are they.
func TestABucketThatIsDeleted(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.service(ServiceConfig{})
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64})
	first, err := s.find(t.Context(), "g")
	must(t, err)
	must(t, c.js().DeleteStream(t.Context(), s.names.stream()))
	eventually(t, "the bucket is there again", func() bool {
		_, err := c.js().Stream(t.Context(), s.names.stream())
		return err == nil
	})
	c.made(s, "g", handoff.Settings{Partitions: 64})
	c.member(s, "g", "a").serve()
	r := c.awaitRing(s, "g", "a", shares("a"))
	if r.Incarnation <= first.record.Incarnation {
		t.Fatalf("incarnation %d after %d", r.Incarnation, first.record.Incarnation)
	}
}

// What cannot be read is nobody else's misfortune.
func TestAStewardDoesNotMindGarbage(t *testing.T) {
	t.Parallel()
	c := start(t)
	s := c.store()
	c.write(s.names.recordSubject("bad"), "garbage", nil)
	c.write(s.names.recordSubject("newer"), `{"v":99}`, nil)
	c.write(s.names.presenceSubject("bad", "n"), "garbage", nil)
	c.write(s.names.recordSubject("g")+".n.too.long", "garbage", nil)
	c.service(ServiceConfig{})
	c.made(s, "g", handoff.Settings{Partitions: 64})
	c.write(s.names.presenceSubject("g", "bad"), "garbage", nil)
	c.write(s.names.presenceSubject("g", "newer"), `{"v":99}`, nil)
	c.write(s.names.presenceSubject("g", "odd"), string((&handoff.Presence{Session: "no-session", Weight: 1}).Encode()), nil)
	c.member(s, "g", "a").serve()
	c.awaitRing(s, "g", "a", shares("a"))
	for _, group := range []string{"bad", "newer"} {
		stored, err := s.last(t.Context(), s.names.recordSubject(group))
		if err != nil || len(stored.writes) > 0 {
			t.Fatalf("somebody wrote %s: %v, %v", group, stored.writes, err)
		}
	}
	// Garbage in the place of a ring that was good stops that group only, and what comes after it counts.
	v, err := s.find(t.Context(), "g")
	must(t, err)
	c.write(s.names.recordSubject("g"), "garbage", nil)
	next := nextOf(t, v.record)
	c.write(s.names.recordSubject("g"), string(next.Encode()), nil)
	c.member(s, "g", "b").serve()
	c.awaitRing(s, "g", "a and b", shares("a", "b"))
}

// What a node that is gone has said of itself is taken back; a node that is dead does not join for a moment.
func TestTheStewardTidiesUp(t *testing.T) {
	t.Parallel()
	c := start(t)
	s := c.store()
	c.made(s, "g", handoff.Settings{Partitions: 64})
	dead := c.mortal(s, "g", "dead", 6*time.Second)
	orphan := c.mortal(s, "g", "orphan", 6*time.Second)
	dead.close()
	orphan.group = "none"
	_, err := s.putPresence(t.Context(), "none", "orphan", &orphan.said, raw{})
	must(t, err)
	orphan.close()
	defer c.rogue(s, 10*time.Millisecond)()
	for _, group := range []string{"g", "none"} {
		for _, name := range []string{"dead", "orphan"} {
			eventually(t, "nothing is said of "+name, func() bool {
				_, at, err := s.presence(t.Context(), group, name)
				return err == nil && (at.deleted || at.revision == 0)
			})
		}
	}
	v, err := s.find(t.Context(), "g")
	must(t, err)
	if v.record.Epoch != 1 {
		t.Fatalf("epoch %d: who was dead joined", v.record.Epoch)
	}
}
