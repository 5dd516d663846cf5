// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// Until the commit plain readers see nothing of a branch; then they see all of it.
func TestCommitAndRollback(t *testing.T) {
	f := start(t)
	s := f.store()
	f.put("a", "x", "1")
	y := f.put("b", "y", "2")
	f.put("b", "z", "3")
	for _, commit := range []bool{false, true} {
		b := branch(Operation{
			Reads:  []Read{{"a", "none", 0}},
			Writes: []Write{set("a", "x", "10"), set("b", "y", "20", y), set("b", "new", "40", 0), {Bucket: "b", Key: "z", Delete: true}, {Bucket: "a", Key: "never", Delete: true}},
		})
		f.wantVote(s, b, participant.Yes)
		f.wantVote(s, b, participant.Yes) // delivered again
		doubt, err := s.InDoubt(f.ctx())
		if len(doubt) != 1 || doubt[0].Tx != b.Tx || len(doubt[0].Keys) != 6 || err != nil {
			t.Fatalf("in doubt: %+v, %v", doubt, err)
		}
		f.want("a", "x", "1")
		f.want("b", "y", "2")
		f.want("b", "z", "3")
		f.want("b", "new", "")
		for range 2 {
			if commit {
				must(t, s.Commit(f.ctx(), b.Tx))
			} else {
				must(t, s.Rollback(f.ctx(), b.Tx))
			}
		}
		if doubt, err := s.InDoubt(f.ctx()); len(doubt) != 0 || err != nil {
			t.Fatalf("in doubt: %+v, %v", doubt, err)
		}
		vote, err := s.Prepare(f.ctx(), b) // delivered after it was finished: nothing is prepared anew
		if commit && (vote != participant.Yes || err != nil) || !commit && !errors.Is(err, participant.ErrRefused) || s.Stats().Open != 0 {
			t.Errorf("prepared after it was finished: %v, %v", vote, err)
		}
	}
	f.want("a", "x", "10")
	f.want("b", "y", "20")
	f.want("b", "z", "")
	f.want("b", "new", "40")
	f.want("a", "never", "")
	must(t, s.Commit(f.ctx(), messages.NewID())) // never prepared here
	must(t, s.Rollback(f.ctx(), messages.NewID()))
}

// What was read, and has changed, is a conflict; what changes nothing needs no outcome, unless others wait for it.
func TestValidation(t *testing.T) {
	f := start(t)
	s := f.store()
	x := f.put("a", "x", "1")
	must(t, f.kv("a").Delete(f.ctx(), "x"))
	x2 := x + 1 // the marker
	for name, op := range map[string]Operation{
		"a read":                {Reads: []Read{{"a", "x", x}}},
		"a read of nothing":     {Reads: []Read{{"a", "x", 0}}},
		"a read of too much":    {Reads: []Read{{"a", "none", 7}}},
		"a write":               writes(set("a", "x", "2", x)),
		"one of several":        {Reads: []Read{{"a", "x", x2}, {"b", "none", 0}, {"a", "y", 1}}, Writes: []Write{set("b", "z", "1")}},
		"a deletion":            writes(Write{Bucket: "a", Key: "x", Revision: revision(x), Delete: true}),
		"a write in two places": {Reads: []Read{{"a", "x", x}}, Writes: []Write{set("a", "x", "1")}},
	} {
		if vote, err := s.Prepare(f.ctx(), branch(op)); !errors.Is(err, participant.ErrConflict) || !strings.Contains(err.Error(), "was read at revision") {
			t.Errorf("%s: %v, %v", name, vote, err)
		}
	}
	reads := Operation{Reads: []Read{{"a", "x", x2}, {"b", "none", 0}}}
	f.wantVote(s, branch(reads), participant.ReadOnly)
	f.wantVote(s, branch(writes(Write{Bucket: "a", Key: "x", Delete: true})), participant.ReadOnly) // it is gone already
	isolated := branch(reads)
	isolated.Sole = false
	f.wantVote(s, isolated, participant.Yes)
	must(t, s.Commit(f.ctx(), isolated.Tx))
}

func TestBadInput(t *testing.T) {
	f := start(t)
	s := f.store()
	s.buckets.allowed = []string{"a", "b", "small", "full", "mirror", "sealed", "nowhere", "assent-x"}
	f.bucket(jetstream.KeyValueConfig{Bucket: "small", MaxValueSize: 300})
	f.bucket(jetstream.KeyValueConfig{Bucket: "full", MaxBytes: 500})
	f.put("full", "x", strings.Repeat("x", 300))
	f.bucket(jetstream.KeyValueConfig{Bucket: "mirror", Mirror: &jetstream.StreamSource{Name: "a"}})
	f.bucket(jetstream.KeyValueConfig{Bucket: "sealed"})
	stream, err := f.js.Stream(f.ctx(), "KV_sealed")
	must(t, err)
	cfg := stream.CachedInfo().Config
	cfg.Sealed = true
	_, err = f.js.UpdateStream(f.ctx(), cfg)
	must(t, err)
	_, err = f.js.UpdateStream(f.ctx(), func() jetstream.StreamConfig {
		stream, err := f.js.Stream(f.ctx(), "KV_full")
		must(t, err)
		c := stream.CachedInfo().Config
		c.MaxBytes = int64(stream.CachedInfo().State.Bytes)
		return c
	}())
	must(t, err)
	for name, c := range map[string]struct {
		op   Operation
		want string
	}{
		"no such bucket":      {writes(set("nowhere", "x", "1")), "bucket nowhere: there is no such bucket"},
		"not allowed":         {writes(set("c", "x", "1")), "bucket c: transactions cannot use this bucket: it is not among those"},
		"Assent's own":        {writes(set("assent-x", "x", "1")), "it is one of Assent's own"},
		"a mirror":            {writes(set("mirror", "x", "1")), "it is a mirror of a: name that one"},
		"sealed":              {writes(set("sealed", "x", "1")), "it is sealed"},
		"full":                {writes(set("full", "y", "1")), "it is full: 1 values"},
		"a bucket's name":     {writes(set("a.b", "x", "1")), `invalid: bucket "a.b": want [a-zA-Z0-9_-]`},
		"an empty bucket":     {writes(set("", "x", "1")), `bucket ""`},
		"an empty key":        {writes(set("a", "", "1")), `key "" of bucket a`},
		"a wildcard":          {Operation{Reads: []Read{{"a", "x.*", 0}}}, `reads[0]: invalid: key "x.*" of bucket a`},
		"a dot":               {writes(set("a", "x", "1"), set("a", "x.", "1")), `writes[1]: invalid: key "x."`},
		"a long key":          {writes(set("a", strings.Repeat("x", 1020), "1")), "bytes with the bucket's, at most 1024"},
		"both":                {writes(Write{Bucket: "a", Key: "x", Value: []byte("1"), Delete: true}), "both delete and a value"},
		"two revisions":       {Operation{Reads: []Read{{"a", "x", 1}}, Writes: []Write{set("a", "x", "1", 2)}}, "key a/x was read at revision 1 and at 2"},
		"larger than allowed": {writes(set("small", "x", strings.Repeat("x", 250))), "the value is too large: 250 bytes and"},
		"larger than any":     {writes(set("a", "x", strings.Repeat("x", 1<<20))), "the value is too large"},
		"more than a record":  {writes(set("a", "x", strings.Repeat("x", 500<<10))), "the entry is too large"},
	} {
		if vote, err := s.Prepare(f.ctx(), branch(c.op)); !errors.Is(err, participant.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, vote, err, c.want)
		}
	}
	for payload, want := range map[string]string{
		``: "operation 0 has no payload", `[]`: "payload of operation 0", `{"read":[]}`: `unknown field "read"`, `{"reads":[{"revision":-1}]}`: "payload of operation 0",
	} {
		b := branch(Operation{})
		b.Operations[0].Payload = []byte(payload)
		if vote, err := s.Prepare(f.ctx(), b); !errors.Is(err, participant.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", payload, vote, err, want)
		}
	}
	// What fits just so is taken, and applied.
	just := branch(writes(set("small", "x", strings.Repeat("x", 300-headerSize))))
	f.wantVote(s, just, participant.Yes)
	must(t, s.Commit(f.ctx(), just.Tx))
}

// A branch that does not lock what it uses is not isolated, and refused.
func TestNotLocked(t *testing.T) {
	f := start(t)
	s := f.store()
	read, write := Operation{Reads: []Read{{"a", "x", 0}}}, writes(set("a", "x", "1"))
	for _, c := range []struct {
		op                Operation
		exclusive, shared []string
		want              string
	}{
		{read, nil, []string{"kv/a/y"}, `read and not locked: the operation must name "kv/a/x" among its shared keys`},
		{write, []string{"kv/a/y"}, nil, `written and not locked: the operation must name "kv/a/x" among its keys`},
		{write, nil, []string{"kv/a/x"}, "written and only locked as shared"},
	} {
		b := branch(c.op)
		b.Operations[0].Keys, b.Operations[0].Shared = c.exclusive, c.shared
		if vote, err := s.Prepare(f.ctx(), b); !errors.Is(err, participant.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %v, want %q", vote, err, c.want)
		}
	}
}

// The next instance finds what was prepared, whatever of it was applied before the crash, and does the rest, once.
func TestEveryCrashPoint(t *testing.T) {
	for _, at := range []string{"prepared", "one key written", "all keys written", "settled"} {
		t.Run(at, func(t *testing.T) {
			f := start(t)
			first := f.store()
			x, y := f.put("a", "x", "1"), f.put("b", "y", "1")
			b := branch(writes(set("a", "x", "2", x), set("b", "y", "2", y)))
			f.wantVote(first, b, participant.Yes)
			parts := map[string]int{"one key written": 1, "all keys written": 2}[at]
			e, _ := first.Entry(b.Tx)
			p, err := decode(e)
			must(t, err)
			for i := range parts {
				_, err := first.apply(f.ctx(), b.Tx, &p.Writes[i])
				must(t, err)
			}
			if at == "settled" {
				must(t, first.Commit(f.ctx(), b.Tx))
			}
			s := f.store()
			open := s.Stats().Open
			if want := map[bool]int{true: 0, false: 1}[at == "settled"]; open != want {
				t.Fatalf("%d are open, want %d", open, want)
			}
			f.wantVote(s, b, participant.Yes)
			must(t, s.Commit(f.ctx(), b.Tx))
			f.want("a", "x", "2")
			f.want("b", "y", "2")
			for bucket, base := range map[string]uint64{"a": x, "b": y} {
				key := map[string]string{"a": "x", "b": "y"}[bucket]
				if got, _ := f.kv(bucket).Get(f.ctx(), key); got.Revision() != base+1 {
					t.Errorf("%s was written more than once: revision %d after %d", key, got.Revision(), base)
				}
			}
			if n := s.counts.overtaken.Load(); n != 0 {
				t.Errorf("%d keys are said to be overtaken", n)
			}
		})
	}
}

// An instance that was superseded, with a branch that it had in hand, does nothing to what the next one does.
func TestZombie(t *testing.T) {
	f := start(t)
	zombie := f.store()
	x := f.put("a", "x", "1")
	b := branch(writes(set("a", "x", "2", x)))
	f.wantVote(zombie, b, participant.Yes)
	s := f.store()
	must(t, s.Commit(f.ctx(), b.Tx))
	later := branch(writes(set("a", "x", "3", x+1)))
	f.wantVote(s, later, participant.Yes)
	must(t, s.Commit(f.ctx(), later.Tx))

	if err := zombie.Commit(f.ctx(), b.Tx); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the zombie's commit is answered: %v", err)
	}
	f.want("a", "x", "3")
	for name, err := range map[string]error{
		"a commit of what it does not know":   zombie.Commit(f.ctx(), later.Tx),
		"a rollback of what it does not know": zombie.Rollback(f.ctx(), messages.NewID()),
		"a prepare":                           second(zombie.Prepare(f.ctx(), branch(writes(set("a", "x", "4"))))),
		"a read":                              second(zombie.Prepare(f.ctx(), branch(Operation{Reads: []Read{{"a", "x", x + 2}}}))),
	} {
		if !errors.Is(err, ErrSuperseded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.want("a", "x", "3")
}

func second(_ participant.Vote, err error) error { return err }

// A writer that is no transaction: before prepare it is a conflict (TestValidation); after it, its value stays, and that is counted and logged.
func TestForeignWriter(t *testing.T) {
	f := start(t)
	s := f.store()
	x, y := f.put("a", "x", "1"), f.put("b", "y", "1")
	b := branch(writes(set("a", "x", "2", x), set("b", "y", "2", y)))
	f.wantVote(s, b, participant.Yes)
	f.put("a", "x", "foreign")
	must(t, s.Commit(f.ctx(), b.Tx))
	f.want("a", "x", "foreign")
	f.want("b", "y", "2")
	if n := s.counts.overtaken.Load(); n != 1 || !strings.Contains(f.said.String(), "a writer that is no transaction has written the key") {
		t.Errorf("%d are counted, and said was: %s", n, f.said)
	}
	// Once, however often the commit is tried again because of another key.
	f.bucket(jetstream.KeyValueConfig{Bucket: "gone"})
	b = branch(writes(set("a", "x", "3"), set("gone", "z", "3")))
	f.wantVote(s, b, participant.Yes)
	f.put("a", "x", "foreign again")
	must(t, f.js.DeleteKeyValue(f.ctx(), "gone"))
	for range 3 {
		if err := s.Commit(f.ctx(), b.Tx); err == nil {
			t.Error("it is committed without its bucket")
		}
	}
	f.bucket(jetstream.KeyValueConfig{Bucket: "gone"})
	must(t, s.Commit(f.ctx(), b.Tx))
	f.want("a", "x", "foreign again")
	f.want("gone", "z", "3")
	if n := s.counts.overtaken.Load(); n != 2 {
		t.Errorf("%d are counted", n)
	}
	// Also if it deletes, or purges.
	b = branch(writes(set("a", "x", "3"), set("b", "y", "3")))
	f.wantVote(s, b, participant.Yes)
	must(t, f.kv("a").Delete(f.ctx(), "x"))
	must(t, f.kv("b").Purge(f.ctx(), "y"))
	must(t, s.Commit(f.ctx(), b.Tx))
	f.want("a", "x", "")
	f.want("b", "y", "")
	if n := s.counts.overtaken.Load(); n != 4 {
		t.Errorf("%d are counted", n)
	}
}

// A value that runs out between prepare and commit, and a marker that an operator purges, are nothing: the new value takes their place.
func TestWhatWasThereIsGone(t *testing.T) {
	f := start(t)
	s := f.store()
	x := f.put("a", "x", "1")
	b := branch(writes(set("a", "x", "2", x), set("a", "new", "2", 0)))
	f.wantVote(s, b, participant.Yes)
	stream, err := f.js.Stream(f.ctx(), "KV_a")
	must(t, err)
	must(t, stream.Purge(f.ctx(), jetstream.WithPurgeSubject("$KV.a.x"))) // as an expiry does, without a marker
	must(t, s.Commit(f.ctx(), b.Tx))
	f.want("a", "x", "2")
	f.want("a", "new", "2")

	f.bucket(jetstream.KeyValueConfig{Bucket: "short", TTL: time.Second, LimitMarkerTTL: time.Hour})
	x = f.put("short", "x", "1")
	b = branch(writes(set("short", "x", "2", x)))
	f.wantVote(s, b, participant.Yes)
	f.until(func() bool {
		now, err := last(f.ctx(), f.nc, ref{"short", "x"})
		must(t, err)
		return now.revision > x && now.expired
	})
	must(t, s.Commit(f.ctx(), b.Tx))
	if now, err := last(f.ctx(), f.nc, ref{"short", "x"}); err != nil || now.tx != b.Tx || string(now.value) != "2" {
		t.Errorf("%+v, %v", now, err)
	}
	if n := s.counts.overtaken.Load(); n != 0 {
		t.Errorf("%d are said to be overtaken", n)
	}
}

func (f *fixture) until(condition func() bool) {
	f.t.Helper()
	for ctx := f.ctx(); !condition(); {
		if !pause(ctx, 3) {
			f.t.Fatal("it does not happen")
		}
	}
}

// After a yes a bucket that is full, or gone, is waited for: the commit fails and is asked again, until it can be applied.
func TestBucketIsFullOrGoneAfterTheVote(t *testing.T) {
	f := start(t)
	s := f.store()
	b := branch(writes(set("a", "x", "2"), set("b", "y", "2")))
	f.wantVote(s, b, participant.Yes)
	must(t, f.js.DeleteKeyValue(f.ctx(), "b"))
	if err := s.Commit(f.ctx(), b.Tx); err == nil || !strings.Contains(err.Error(), "a committed transaction is not applied yet: key b/y") {
		t.Errorf("without its bucket: %v", err)
	}
	if s.Stats().Open != 1 || s.counts.failed.Load() != 1 {
		t.Errorf("%+v", s.Stats())
	}
	f.bucket(jetstream.KeyValueConfig{Bucket: "b", MaxBytes: 400})
	f.put("b", "other", strings.Repeat("x", 300))
	if err := s.Commit(f.ctx(), b.Tx); err == nil || !strings.Contains(err.Error(), "maximum bytes exceeded") {
		t.Errorf("with a full bucket: %v", err)
	}
	stream, err := f.js.Stream(f.ctx(), "KV_b")
	must(t, err)
	must(t, stream.Purge(f.ctx()))
	must(t, s.Commit(f.ctx(), b.Tx))
	f.want("a", "x", "2")
	f.want("b", "y", "2")
}

// The acknowledgement of a value is lost, or its message is: it is found, or written again.
func TestUnknownWrite(t *testing.T) {
	f := start(t)
	s := f.store()
	for _, stored := range []bool{true, false} {
		b := branch(writes(set("a", "x", fmt.Sprint("stored: ", stored))))
		f.wantVote(s, b, participant.Yes)
		before := f.last("a", "x")
		s.js = &lossy{JetStream: f.js, store: stored}
		s.requests.publish = func(msg *nats.Msg) error {
			if stored {
				msg.Reply = nats.NewInbox()
				return f.nc.PublishMsg(msg)
			}
			return nil
		}
		must(t, s.Commit(f.ctx(), b.Tx))
		s.js, s.requests.publish = f.js, f.nc.PublishMsg
		f.want("a", "x", fmt.Sprint("stored: ", stored))
		if now := f.last("a", "x"); now.revision != before.revision+1 {
			t.Errorf("revision %d after %d", now.revision, before.revision)
		}
	}
}

func (f *fixture) last(bucket, key string) found {
	f.t.Helper()
	now, err := last(f.ctx(), f.nc, ref{bucket, key})
	must(f.t, err)
	return now
}

// lossy loses the acknowledgement of the first message, and the message as well unless store is set.
type lossy struct {
	jetstream.JetStream
	store bool
	used  bool
}

func (l *lossy) PublishMsg(ctx context.Context, msg *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if l.used {
		return l.JetStream.PublishMsg(ctx, msg, opts...)
	}
	l.used = true
	if l.store {
		if _, err := l.JetStream.PublishMsg(ctx, msg, opts...); err != nil {
			return nil, err
		}
	}
	return nil, context.DeadlineExceeded
}

// deaf loses the first answer about a bucket, as when the server that was asked dies.
type deaf struct {
	jetstream.JetStream
	asked int
}

func (d *deaf) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if d.asked++; d.asked == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return d.JetStream.Stream(ctx, name)
}

// A question about a bucket whose answer is lost is asked again, long before the call's time is over: all who use the bucket wait for it.
func TestBucketWhileAnswersAreLost(t *testing.T) {
	f := start(t)
	s := f.store()
	lossy := &deaf{JetStream: f.js}
	s.buckets.js = lossy
	f.wantVote(s, branch(writes(set("a", "x", "1"))), participant.Yes)
	if lossy.asked != 2 {
		t.Errorf("asked %d times", lossy.asked)
	}
}

// A journal's entry that cannot be read stops the participant instead of being passed over.
func TestEntryOfAnotherKind(t *testing.T) {
	f := start(t)
	s := f.store()
	tx := messages.NewID()
	must(t, s.Append(f.ctx(), journal.Entry{Tx: tx, Expires: time.Now().Add(time.Minute), Data: []byte("[]")}))
	if _, err := s.InDoubt(f.ctx()); err == nil || !strings.Contains(err.Error(), tx.String()) {
		t.Errorf("%v", err)
	}
	if err := s.Commit(f.ctx(), tx); err == nil {
		t.Error("committed")
	}
}

// Who held a lock that others have held since is refused, also by the next instance; who holds it still is not.
func TestFenced(t *testing.T) {
	f := start(t)
	s := f.store()
	with := func(token string) *participant.Branch {
		b := branch(writes(set("a", "x", token)))
		b.Locks = []messages.Lock{{Key: "device/7", Token: token}}
		return b
	}
	for _, token := range []string{"0002", "0002", "0003"} {
		b := with(token)
		f.wantVote(s, b, participant.Yes)
		must(t, s.Commit(f.ctx(), b.Tx))
	}
	for _, name := range []string{"this", "the next"} {
		if name == "the next" {
			s = f.store()
		}
		if vote, err := s.Prepare(f.ctx(), with("0002")); !errors.Is(err, participant.ErrConflict) || !strings.Contains(err.Error(), "lock device/7: its token 0002 is older than 0003") {
			t.Errorf("%s: %v, %v", name, vote, err)
		}
		f.wantVote(s, with("0003"), participant.Yes)
	}
	bad := with("0001")
	bad.Locks[0].Key = "a b"
	if _, err := f.store().Prepare(f.ctx(), bad); !errors.Is(err, participant.ErrRefused) {
		t.Errorf("a key with a space: %v", err)
	}
}
