// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"

	"github.com/assent-tx/assent/messages"
)

// A direct get tells the same of a key as the leader of its stream, whatever it has.
func TestDirectTellsWhatTheLeaderTells(t *testing.T) {
	f := start(t)
	f.bucket(jetstream.KeyValueConfig{Bucket: "b"})
	f.put("b", "value", "1")
	f.put("b", "deleted", "1")
	must(t, f.kv("b").Delete(f.ctx(), "deleted"))
	f.put("b", "purged", "1")
	must(t, f.kv("b").Purge(f.ctx(), "purged"))
	_, err := f.js.PublishMsg(f.ctx(), &nats.Msg{Subject: "$KV.b.ours", Data: []byte("2"), Header: nats.Header{TxHeader: {messages.NewID().String()}}})
	must(t, err)
	_, err = f.js.PublishMsg(f.ctx(), &nats.Msg{Subject: "$KV.b.expired", Header: nats.Header{jetstream.MarkerReasonHeader: {"MaxAge"}}})
	must(t, err)
	for _, key := range []string{"value", "deleted", "purged", "ours", "expired", "none"} {
		want := f.last("b", key)
		got, ok := direct(f.ctx(), f.nc, ref{"b", key})
		if !ok || !bytes.Equal(got.value, want.value) || !got.created.Equal(want.created) {
			t.Errorf("%s: got %+v, %v, want %+v", key, got, ok, want)
		}
		got.value, got.created, want.value, want.created = nil, time.Time{}, nil, time.Time{}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", key, got, want)
		}
	}
}

// A bucket without direct gets, and one that is not there, are the leader's to tell of; and are not asked for directly again soon.
func TestWithoutDirectGets(t *testing.T) {
	f := start(t)
	_, err := f.js.CreateStream(f.ctx(), jetstream.StreamConfig{Name: "KV_plain", Subjects: []string{"$KV.plain.>"}, MaxMsgsPerSubject: 1, AllowRollup: true, DenyDelete: true})
	must(t, err)
	f.put("plain", "x", "1")
	asked := f.count("$JS.API.DIRECT.GET.KV_plain.>")
	var d directs
	for range 3 {
		got, err := d.read(f.ctx(), f.nc, ref{"plain", "x"})
		must(t, err)
		if string(got.value) != "1" {
			t.Fatalf("got %+v", got)
		}
	}
	if n := asked(); n != 1 {
		t.Errorf("asked directly %d times, want once", n)
	}
	if _, err := d.read(f.ctx(), f.nc, ref{"nowhere", "x"}); err == nil {
		t.Error("a bucket that does not exist was read")
	}
	d.not["plain"] = time.Now().Add(-time.Second)
	if !d.allowed("plain") {
		t.Error("it is never tried again")
	}
}

// What is read directly may be old. It is found out, and the next attempt reads what the leaders have.
func TestOldDirectRead(t *testing.T) {
	w := newWorld(t)
	w.participate(w.connect(), Config{})
	w.bucket(jetstream.KeyValueConfig{Bucket: "b"})
	w.put("b", "x", "1")
	asked := w.count("$JS.API.DIRECT.GET.KV_b.>")
	attempts := 0
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) error {
		n, err := number(w.ctx(), tx, "b", "x")
		if err != nil {
			return err
		}
		if attempts++; attempts == 1 {
			w.put("b", "x", "5") // as if the answer had come from a replica that is behind
		}
		return tx.Put("b", "x", fmt.Append(nil, n+1))
	}))
	if n := asked(); attempts != 2 || n != 1 {
		t.Errorf("%d attempts and %d direct reads, want 2 and 1", attempts, n)
	}
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) error { // a plain read may come before the value is written
		if n, err := number(w.ctx(), tx, "b", "x"); n != 6 || err != nil {
			return assent.ErrConflict
		}
		return nil
	}))
}

// count counts what is sent on a subject.
func (f *fixture) count(subject string) func() int {
	f.t.Helper()
	nc := f.connect()
	seen, err := nc.SubscribeSync(subject)
	must(f.t, err)
	must(f.t, nc.Flush())
	return func() int {
		must(f.t, nc.Flush())
		n, _, err := seen.Pending()
		must(f.t, err)
		return n
	}
}
