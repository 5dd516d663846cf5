// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/link"
	"github.com/assent-tx/assent/participant"
)

// A refused write tells the revision that the leader's get tells, whatever the key has, and leaves no trace in the bucket.
func TestRevisionsByRefusals(t *testing.T) {
	f := start(t)
	s := f.store()
	f.bucket(jetstream.KeyValueConfig{Bucket: "memory", Storage: jetstream.MemoryStorage, History: 5})
	var d demands
	for _, bucket := range []string{"a", "memory"} {
		kv := f.kv(bucket)
		f.put(bucket, "value", "1")
		f.put(bucket, "value", "2")
		f.put(bucket, "x.deep/one", "1")
		f.put(bucket, "deleted", "1")
		must(t, kv.Delete(f.ctx(), "deleted"))
		f.put(bucket, "purged", "1")
		must(t, kv.Purge(f.ctx(), "purged"))
		for _, key := range []string{"value", "x.deep/one", "deleted", "purged", "none", "x.deep"} {
			must(t, d.demand(ref{bucket, key}, revision(0)))
		}
	}
	before := [2]uint64{f.lastSequence("a"), f.lastSequence("memory")}
	gets := f.count("$JS.API.STREAM.MSG.GET.>")
	have, err := s.have(f.ctx(), &d)
	must(t, err)
	if n := gets(); n != 0 {
		t.Errorf("%d gets were needed", n)
	}
	for i, r := range d.refs {
		if want := f.last(r.bucket, r.key).revision; have[i].revision != want {
			t.Errorf("%s: revision %d, want %d", r, have[i].revision, want)
		}
	}
	if after := [2]uint64{f.lastSequence("a"), f.lastSequence("memory")}; after != before {
		t.Errorf("the buckets end at %v, before at %v", after, before)
	}
}

func (f *fixture) lastSequence(bucket string) uint64 {
	f.t.Helper()
	stream, err := f.js.Stream(f.ctx(), "KV_"+bucket)
	must(f.t, err)
	return stream.CachedInfo().State.LastSeq
}

// What is no such refusal, or does not come, is asked by a get.
func TestRevisionsOtherwise(t *testing.T) {
	f := start(t)
	s := f.store()
	x := f.put("a", "x", "1")
	good := `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1700"},"stream":"KV_a","seq":0}`
	if n, ok := refusedAt([]byte(good), "a"); n != 1700 || !ok {
		t.Fatalf("%s: %d, %v", good, n, ok)
	}
	answers := map[string]string{
		"nothing":          "",
		"a write in a way": `{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"KV_a","seq":0}`,
		"another bucket":   `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1700"},"stream":"KV_ab","seq":0}`,
		"no number":        `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: -1"},"stream":"KV_a","seq":0}`,
		"cut":              good[:len(good)-14],
		"an ack":           `{"stream":"KV_a","seq":1700}`,
	}
	for name, answer := range answers {
		if n, ok := refusedAt([]byte(answer), "a"); ok {
			t.Errorf("%s: %d", name, n)
		}
		s.requests.publish = func(msg *nats.Msg) error { return f.nc.Publish(msg.Reply, []byte(answer)) }
		f.wantVote(s, branch(Operation{Reads: []Read{{"a", "x", x}}}), participant.ReadOnly)
	}
	s.requests.publish = func(*nats.Msg) error { return nats.ErrConnectionClosed }
	f.wantVote(s, branch(Operation{Reads: []Read{{"a", "x", x}, {"b", "none", 0}}}), participant.ReadOnly)
	s.requests.publish = func(*nats.Msg) error { return nil } // it is lost
	f.wantVote(s, branch(Operation{Reads: []Read{{"a", "x", x}}}), participant.ReadOnly)
}

// The usual case of a commit is one message a key.
func TestCommitInOneGo(t *testing.T) {
	f := start(t)
	s := f.store()
	b := branch(writes(set("a", "x", "1"), set("a", "y", "2"), set("b", "x", "3")))
	f.wantVote(s, b, participant.Yes)
	sent, gets := f.count("$KV.>"), f.count("$JS.API.STREAM.MSG.GET.>")
	must(t, s.Commit(f.ctx(), b.Tx))
	if n, m := sent(), gets(); n != 3 || m != 0 {
		t.Errorf("%d messages and %d gets, want 3 and 0", n, m)
	}
	for i, answer := range []string{
		`{"stream":"KV_a", "seq":17}`, `{"stream":"KV_a", "domain":"hub", "seq":17}`,
		`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 1"},"stream":"KV_a","seq":0}`,
		`{"stream":"KV_a","error":{"code":503},"seq":0}`, `{"stream":"KV_ab", "seq":17}`, `{"stream":"KV_a`, `{}`, ``,
	} {
		if got, want := acknowledged([]byte(answer), "a"), i < 2; got != want {
			t.Errorf("%s: %v, want %v", answer, got, want)
		}
	}
}

// A branch of more keys than may be under way at once is prepared and committed, and nothing stays counted as under way.
func TestManyKeys(t *testing.T) {
	f := start(t)
	s := f.store()
	s.busy = make(chan struct{}, 3)
	s.requests.busy = s.busy
	var op Operation
	for i := range 40 {
		op.Writes = append(op.Writes, set("a", fmt.Sprint(i), "1", 0))
	}
	b := branch(op)
	f.wantVote(s, b, participant.Yes)
	must(t, s.Commit(f.ctx(), b.Tx))
	for i := range 40 {
		f.want("a", fmt.Sprint(i), "1")
	}
	if len(s.busy) != 0 || len(s.requests.open) != 0 {
		t.Errorf("%d and %d are still under way", len(s.busy), len(s.requests.open))
	}
}

// A bucket that is known, and gone, is found out by who asks for revisions: it refuses. Made anew, it has none of the old values.
func TestBucketGoneBeforePrepare(t *testing.T) {
	f := start(t)
	s := f.store()
	f.put("a", "other", "1")
	x := f.put("a", "x", "1")
	read := Operation{Reads: []Read{{"a", "x", x}}, Writes: []Write{set("b", "y", "1")}}
	f.wantVote(s, branch(Operation{Reads: read.Reads}), participant.ReadOnly)
	must(t, f.js.DeleteKeyValue(f.ctx(), "a"))
	if vote, err := s.Prepare(f.ctx(), branch(read)); !errors.Is(err, participant.ErrRefused) || !errors.Is(err, ErrNoBucket) {
		t.Errorf("without the bucket: %v, %v", vote, err)
	}
	f.bucket(jetstream.KeyValueConfig{Bucket: "a"})
	for name, op := range map[string]Operation{
		"a read":     read,
		"a write":    writes(set("a", "x", "2", x)),
		"a deletion": writes(Write{Bucket: "a", Key: "x", Revision: &x, Delete: true}),
	} {
		if vote, err := s.Prepare(f.ctx(), branch(op)); !errors.Is(err, participant.ErrConflict) {
			t.Errorf("%s of the bucket before: %v, %v", name, vote, err)
		}
	}
	b := branch(writes(set("a", "x", "2")))
	f.wantVote(s, b, participant.Yes)
	must(t, s.Commit(f.ctx(), b.Tx))
	if now := f.last("a", "x"); now.revision != 1 || now.tx != b.Tx {
		t.Errorf("%+v", now)
	}
}

// Nothing answers for a while: prepares and commits end with their contexts, nothing stays waited for, and what was stored meanwhile is found.
func TestNothingAnswers(t *testing.T) {
	server := start(t)
	l, err := link.New(func() string { return strings.TrimPrefix(server.url, "nats://") })
	must(t, err)
	t.Cleanup(l.Close)
	nc, err := nats.Connect(l.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	must(t, err)
	t.Cleanup(nc.Close)
	f := newFixture(t, nc)
	s := f.store()
	b := branch(writes(set("a", "x", "1"), set("b", "y", "1"), set("b", "z", "1")))
	f.wantVote(s, b, participant.Yes)
	l.GoDeaf()
	for name, call := range map[string]func(context.Context) error{
		"prepare": func(ctx context.Context) error {
			_, err := s.Prepare(ctx, branch(writes(set("a", "other", "1"), Write{Bucket: "b", Key: "gone", Delete: true})))
			return err
		},
		"commit": func(ctx context.Context) error { return s.Commit(ctx, b.Tx) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		s.requests.wantIdle(t)
		if len(s.busy) != 0 {
			t.Errorf("%s: %d are under way", name, len(s.busy))
		}
	}
	server.until(func() bool { return server.last("b", "z").tx == b.Tx })
	stored := [3]found{server.last("a", "x"), server.last("b", "y"), server.last("b", "z")}
	l.Mend()
	must(t, s.Commit(f.ctx(), b.Tx))
	if now := [3]found{server.last("a", "x"), server.last("b", "y"), server.last("b", "z")}; !reflect.DeepEqual(now, stored) {
		t.Errorf("written again: %+v, before %+v", now, stored)
	}
	if n := s.counts.overtaken.Load(); n != 0 || s.Stats().Open != 0 {
		t.Errorf("%d are overtaken, %d open", n, s.Stats().Open)
	}
}
