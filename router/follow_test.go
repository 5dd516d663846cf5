// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// follow follows a group that is read when there is a reason only, unless every says otherwise.
func (c *cluster) follow(s *store, group string, every time.Duration) *follower {
	c.t.Helper()
	f, err := followEvery(s, group, every)
	must(c.t, err)
	c.t.Cleanup(f.close)
	return f
}

// await waits until a follower's state is as wanted.
func (c *cluster) await(f *follower, what string, want func(*handoff.Record, error) bool) {
	c.t.Helper()
	timeout := time.After(testPatience)
	for {
		changed := f.changed()
		if r, err := f.current(); want(r, err) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			r, err := f.current()
			c.t.Fatalf("waited in vain for %s: the record is %+v, the error %v", what, r, err)
		}
	}
}

func (c *cluster) awaitEpoch(f *follower, v version) {
	c.t.Helper()
	want := v.record
	c.await(f, fmt.Sprint("epoch ", want.Epoch), func(r *handoff.Record, err error) bool {
		return err == nil && r != nil && r.Incarnation == want.Incarnation && r.Epoch == want.Epoch
	})
}

func (c *cluster) awaitError(f *follower, target error) {
	c.t.Helper()
	c.await(f, target.Error(), func(_ *handoff.Record, err error) bool { return errors.Is(err, target) })
}

const never = time.Hour

func TestAFollowerReadsOnHints(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	f := c.follow(c.store(), "g", never)
	c.awaitEpoch(f, v)
	for range 20 {
		v = c.bump(s, v)
		c.awaitEpoch(f, v)
	}
	reads := f.counts.reads.Load()
	for range 10 { // what is known already is no reason to read
		s.hint("g", v.record.Incarnation, v.record.Epoch)
		s.hint("g", v.record.Incarnation-1, 99)
	}
	must(t, s.nc.Publish(s.names.hintSubject("g"), []byte("garbage")))
	must(t, f.refresh(t.Context()))
	if got := f.counts.reads.Load(); got > reads+2 { // the refresh, and one whose hint came during the read before
		t.Fatalf("%d reads, %d before", got, reads)
	}
}

// A hint that is lost costs time, no more.
func TestAFollowerReadsNowAndThen(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	f := c.follow(c.store(), "g", 20*time.Millisecond)
	must(t, f.hints.Unsubscribe())
	for range 5 {
		v = c.bump(s, v)
		c.awaitEpoch(f, v)
	}
}

func TestAFollowerSurvivesARestartOfTheServer(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	f := c.follow(c.store(), "g", never)
	c.awaitEpoch(f, v)
	c.down()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	if err := f.refresh(ctx); err == nil {
		t.Error("it read from a server that is down")
	}
	cancel()
	if r, err := f.current(); err != nil || r.Epoch != 1 {
		t.Fatalf("the ring that it knows is not in force any more: %v, %v", r, err)
	}
	c.up()
	// Nobody tells of what is written now: it reads because the connection is back.
	must(t, f.hints.Unsubscribe())
	v = c.bump(s, v)
	must(t, f.refresh(t.Context()))
	c.awaitEpoch(f, v)
}

func TestAFollowerReadsWhenTheConnectionIsBack(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	mine := c.store()
	f := c.follow(mine, "g", never)
	c.awaitEpoch(f, v)
	must(t, f.hints.Unsubscribe())
	must(t, mine.nc.Flush())
	v = c.bump(s, v)
	must(t, mine.nc.ForceReconnect())
	c.awaitEpoch(f, v)
}

func TestAFollowerNeverGoesBack(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	first := string(v.raw.data)
	f := c.follow(c.store(), "g", never)
	v = c.bump(s, c.bump(s, v))
	c.awaitEpoch(f, v)
	c.write(s.names.recordSubject("g"), first, nil)
	must(t, f.refresh(t.Context()))
	if r, err := f.current(); err != nil || r.Epoch != 3 || f.counts.stale.Load() == 0 { // more than once, if a hint came late
		t.Fatalf("epoch %d, error %v, %d stale reads", r.Epoch, err, f.counts.stale.Load())
	}
	older, err := handoff.New("g", v.record.Incarnation-1, handoff.Settings{})
	must(t, err)
	c.write(s.names.recordSubject("g"), string(older.Encode()), nil)
	must(t, f.refresh(t.Context()))
	if r, err := f.current(); err != nil || r.Epoch != 3 {
		t.Fatalf("it went back to another incarnation: %v, %v", r, err)
	}
}

// What cannot be read is reported and counted, and leaves the last good record in force, until one can be read again.
func TestAFollowerKeepsTheLastGoodRecord(t *testing.T) {
	for name, bad := range map[string]struct {
		data string
		want error
	}{"garbage": {"garbage", ErrRecord}, "newer": {`{"v":99}`, ErrNewerRecord}} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			s := c.store()
			v := c.group(s, "g")
			f := c.follow(c.store(), "g", never)
			c.awaitEpoch(f, v)
			c.write(s.names.recordSubject("g"), bad.data, nil)
			s.hint("g", v.record.Incarnation, 2)
			c.awaitError(f, bad.want)
			if f.record().Epoch != 1 || f.counts.unreadable.Load() == 0 {
				t.Fatalf("epoch %d, %d counted", f.record().Epoch, f.counts.unreadable.Load())
			}
			reads := f.counts.reads.Load()
			for range 10 {
				s.hint("g", v.record.Incarnation, 2) // as whoever can read it repeats it
			}
			wantError(t, f.refresh(t.Context()), bad.want)
			if got := f.counts.reads.Load(); got > reads+2 {
				t.Errorf("%d reads of what cannot be read, %d before", got, reads)
			}
			good := nextOf(t, nextOf(t, v.record))
			c.write(s.names.recordSubject("g"), string(good.Encode()), nil)
			s.hint("g", good.Incarnation, good.Epoch)
			c.awaitEpoch(f, version{record: good})
		})
	}
}

func TestAFollowerOfNothing(t *testing.T) {
	c := start(t)
	bare, err := newStore(c.connect(), Config{}) // there is no bucket yet
	must(t, err)
	f := c.follow(bare, "g", never)
	wantError(t, f.refresh(t.Context()), ErrNoGroup)
	if f.record() != nil {
		t.Fatal("a record of nothing")
	}
	v := c.group(c.store(), "g")
	c.awaitEpoch(f, v)
}

func TestADeletedGroupIsNoticed(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.bump(s, c.group(s, "g"))
	f := c.follow(c.store(), "g", never)
	c.awaitEpoch(f, v)
	must(t, s.remove(t.Context(), "g", v))
	c.awaitError(f, ErrNoGroup)
	if f.record().Epoch != 2 {
		t.Fatal("it forgot how far it had read")
	}
	gone, _ := s.record(t.Context(), "g")
	again := c.groupAt(s, "g", v.record.Incarnation+1, gone)
	c.awaitEpoch(f, again)
}

// A deletion that a server that is behind still tells of does not undo the group that was made since.
func TestAnOldDeletionIsNotBelieved(t *testing.T) {
	c := start(t)
	s := c.store()
	v := c.group(s, "g")
	f := c.follow(c.store(), "g", never)
	c.awaitEpoch(f, v)
	data := fmt.Sprintf(`{"incarnation":%d,"epoch":7}`, v.record.Incarnation-1)
	c.write(s.names.recordSubject("g"), data, nats.Header{"KV-Operation": {"DEL"}})
	must(t, f.refresh(t.Context()))
	if _, err := f.current(); err != nil {
		t.Fatal(err)
	}
}

// Who deletes by other means than ours is believed too, a little later.
func TestADeletionByOtherMeansIsNoticed(t *testing.T) {
	for name, remove := range map[string]func(*cluster, *store){
		"marker": func(c *cluster, s *store) {
			c.write(s.names.recordSubject("g"), "", nats.Header{"KV-Operation": {"PURGE"}})
		},
		"purge": func(c *cluster, s *store) {
			stream, err := c.js().Stream(c.t.Context(), s.names.stream())
			must(c.t, err)
			must(c.t, stream.Purge(c.t.Context()))
		},
		"stream": func(c *cluster, s *store) { must(c.t, c.js().DeleteStream(c.t.Context(), s.names.stream())) },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			s := c.store()
			v := c.group(s, "g")
			f := c.follow(c.store(), "g", never)
			c.awaitEpoch(f, v)
			remove(c, s)
			wantError(t, f.refresh(t.Context()), ErrNoGroup)
			if got := f.counts.reads.Load(); got < lostReads {
				t.Errorf("believed after %d reads", got)
			}
			must(t, s.open(t.Context()))
			gone, err := s.record(t.Context(), "g")
			wantError(t, err, ErrNoGroup)
			again := c.groupAt(s, "g", v.record.Incarnation+1, gone)
			c.awaitEpoch(f, again)
		})
	}
}

func TestAFollowerThatIsClosed(t *testing.T) {
	c := start(t)
	s := c.store()
	c.group(s, "g")
	f := c.follow(s, "g", never)
	must(t, f.refresh(t.Context()))
	f.close()
	f.close()
	wantError(t, f.refresh(t.Context()), ErrClosed)
	if f.record() == nil {
		t.Fatal("what was known is forgotten")
	}
}

func TestManyWhoAskShareARead(t *testing.T) {
	c := start(t)
	s := c.store()
	c.group(s, "g")
	f := c.follow(s, "g", never)
	must(t, f.refresh(t.Context()))
	const asking = 200
	errs := make(chan error, asking)
	before := f.counts.reads.Load()
	for range asking {
		go func() { errs <- f.refresh(t.Context()) }()
	}
	for range asking {
		must(t, <-errs)
	}
	if reads := f.counts.reads.Load() - before; reads > asking/2 {
		t.Errorf("%d reads for %d who asked at once", reads, asking)
	}
}
