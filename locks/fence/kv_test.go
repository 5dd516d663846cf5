// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
)

// connect starts a server for one test.
func connect(t testing.TB) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	nc, err := server.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	return nc, js
}

// openTestKV gives the bucket "values" of a server of its own, with the history that is asked for, by the fence and as others see it.
func openTestKV(t testing.TB, history uint8) (*KV, jetstream.KeyValue) {
	t.Helper()
	nc, js := connect(t)
	plain, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "values", History: history})
	must(t, err)
	kv, err := OpenKV(t.Context(), nc, "values")
	must(t, err)
	return kv, plain
}

func put(t testing.TB, kv *KV, key, value string, n int) uint64 {
	t.Helper()
	revision, err := kv.Put(t.Context(), key, []byte(value), token(n))
	must(t, err)
	return revision
}

func wantValue(t testing.TB, kv *KV, key, value string, n int) {
	t.Helper()
	e, err := kv.Get(t.Context(), key)
	must(t, err)
	if string(e.Value) != value || e.Token != token(n) || e.Key != key || e.Revision == 0 || e.Created.IsZero() {
		t.Fatalf("%s is %q with %v (%+v), want %q with %v", key, e.Value, e.Token, e, value, token(n))
	}
}

func TestKVRefusesOlderTokens(t *testing.T) {
	kv, plain := openTestKV(t, 1)
	put(t, kv, "a", "one", 5)
	put(t, kv, "a", "two", 5)
	put(t, kv, "b", "other", 1)
	revision := put(t, kv, "a", "three", 6)
	_, err := kv.Put(t.Context(), "a", []byte("late"), token(5))
	wantStale(t, err, "a", token(5), token(6))
	wantStale(t, kv.Delete(t.Context(), "a", token(5)), "a", token(5), token(6))
	wantValue(t, kv, "a", "three", 6)
	// Others see the value, and no more than that.
	e, err := plain.Get(t.Context(), "a")
	must(t, err)
	if string(e.Value()) != "three" || e.Revision() != revision {
		t.Errorf("others see %q at %d", e.Value(), e.Revision())
	}
}

// A put that comes after a delete of a newer holder must not bring the value back.
func TestKVRemembersTheTokenOfADelete(t *testing.T) {
	kv, plain := openTestKV(t, 1)
	put(t, kv, "a", "one", 5)
	must(t, kv.Delete(t.Context(), "a", token(6)))
	must(t, kv.Delete(t.Context(), "never", token(6)))
	for _, key := range []string{"a", "never"} {
		_, err := kv.Put(t.Context(), key, []byte("late"), token(5))
		wantStale(t, err, key, token(5), token(6))
		_, err = kv.Get(t.Context(), key)
		wantError(t, err, jetstream.ErrKeyNotFound)
		_, err = plain.Get(t.Context(), key)
		wantError(t, err, jetstream.ErrKeyNotFound)
		put(t, kv, key, "again", 6)
		wantValue(t, kv, key, "again", 6)
	}
}

// Values that were there before, and what somebody writes past the fence, have no token: any is accepted.
func TestKVTakesOverWhatHasNoToken(t *testing.T) {
	kv, plain := openTestKV(t, 1)
	_, err := plain.PutString(t.Context(), "a", "old")
	must(t, err)
	e, err := kv.Get(t.Context(), "a")
	must(t, err)
	if string(e.Value) != "old" || !e.Token.IsZero() {
		t.Errorf("got %+v", e)
	}
	put(t, kv, "a", "new", 3)
	wantValue(t, kv, "a", "new", 3)
	must(t, plain.Purge(t.Context(), "a"))
	_, err = kv.Get(t.Context(), "a")
	wantError(t, err, jetstream.ErrKeyNotFound)
	put(t, kv, "a", "newer", 2)
	wantValue(t, kv, "a", "newer", 2)
}

// A header that cannot be read is not taken for none.
func TestKVRefusesARecordThatItCannotRead(t *testing.T) {
	kv, _ := openTestKV(t, 1)
	for key, header := range map[string]nats.Header{
		"a": {TokenHeader: {"7"}},
		"b": {TokenHeader: {token(1).String()}, pastHeader: {"1:x,y"}},
	} {
		_, err := kv.js.PublishMsg(t.Context(), &nats.Msg{Subject: "$KV.values." + key, Header: header})
		must(t, err)
		if _, err := kv.Put(t.Context(), key, nil, token(9)); err == nil || !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

// Every bucket allows direct reads, which any replica answers and which may be old: the fence does not use them.
func TestKVReadsFromTheLeader(t *testing.T) {
	kv, _ := openTestKV(t, 1)
	put(t, kv, "a", "one", 1)
	requests, err := kv.nc.SubscribeSync("$JS.API.>")
	must(t, err)
	wantValue(t, kv, "a", "one", 1)
	put(t, kv, "a", "two", 2)
	must(t, kv.nc.Flush())
	for range 2 {
		msg, err := requests.NextMsg(time.Minute)
		must(t, err)
		if msg.Subject != "$JS.API.STREAM.MSG.GET.KV_values" {
			t.Errorf("it asks %s", msg.Subject)
		}
	}
}

// Should the leader be deposed and not know it, its answer is old as well. Then nothing is accepted or lost that should not be.
func TestKVSurvivesAStaleRead(t *testing.T) {
	kv, _ := openTestKV(t, 1)
	reads := 0
	stale := func(old *record) {
		genuine := kv.readLeader
		kv.read = func(ctx context.Context, key string) (*record, error) {
			if reads++; reads == 1 {
				return old, nil
			}
			return genuine(ctx, key)
		}
	}
	var olds []*record
	for n := range 4 {
		old, err := kv.readLeader(t.Context(), "a")
		must(t, err)
		olds = append(olds, old)
		put(t, kv, "a", fmt.Sprint(n+1), n+1)
	}
	for _, old := range olds {
		reads = 0
		stale(old)
		_, err := kv.Put(t.Context(), "a", []byte("late"), token(3))
		wantStale(t, err, "a", token(3), token(4))
		if reads < 1 || reads > 2 {
			t.Errorf("%d reads", reads)
		}
		reads = 0
		put(t, kv, "a", "four again", 4)
		if reads != 2 {
			t.Errorf("%d reads: the old one did no harm, or more", reads)
		}
	}
}

func TestKVConcurrently(t *testing.T) {
	kv, plain := openTestKV(t, 64)
	var writers sync.WaitGroup
	var mu sync.Mutex
	stored := make(map[uint64]int)
	for range 8 {
		writers.Go(func() {
			for range 8 {
				n := 1 + rand.IntN(50)
				revision, err := kv.Put(t.Context(), "a", []byte("x"), token(n))
				if err != nil && !errors.Is(err, ErrStale) {
					t.Error(err)
				} else if err == nil {
					mu.Lock()
					stored[revision] = n
					mu.Unlock()
				}
			}
		})
	}
	writers.Wait()
	history, err := plain.History(t.Context(), "a")
	must(t, err)
	var accepted []int
	for _, e := range history {
		accepted = append(accepted, stored[e.Revision()])
		if stored[e.Revision()] == 0 {
			t.Errorf("revision %d was told to nobody", e.Revision())
		}
	}
	if len(accepted) != len(stored) {
		t.Errorf("%d puts succeeded, and the history has %d", len(stored), len(accepted))
	}
	wantAscending(t, accepted)
}

func TestKVRefusesBadInput(t *testing.T) {
	kv, _ := openTestKV(t, 1)
	for _, key := range []string{"", ".a", "a.", "a..b", "a b", "a*", ">", "ü", "a\r\nb"} {
		_, err := kv.Put(t.Context(), key, nil, token(1))
		wantError(t, err, ErrInvalid)
		wantError(t, err, jetstream.ErrInvalidKey)
		wantError(t, kv.Delete(t.Context(), key, token(1)), ErrInvalid)
		_, err = kv.Get(t.Context(), key)
		wantError(t, err, ErrInvalid)
	}
	_, err := kv.Put(t.Context(), "a", nil, locks.Token{})
	wantError(t, err, ErrInvalid)
	_, err = kv.Put(t.Context(), "a", make([]byte, 2<<20), token(1))
	wantError(t, err, nats.ErrMaxPayload)
	_, err = kv.Get(t.Context(), "a")
	wantError(t, err, jetstream.ErrKeyNotFound)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kv.Put(ended, "a", nil, token(1)); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Errorf("a put that never began: %v", err)
	}
}

// A bucket that forgets tokens is no fence.
func TestOpenKVChecksTheBucket(t *testing.T) {
	nc, js := connect(t)
	_, err := OpenKV(t.Context(), nc, "nowhere")
	wantError(t, err, jetstream.ErrBucketNotFound)
	_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "short", TTL: time.Hour})
	must(t, err)
	_, err = OpenKV(t.Context(), nc, "short")
	wantError(t, err, locks.ErrSettings)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "KV_old", Subjects: []string{"$KV.old.>"}, MaxMsgsPerSubject: 1, MaxBytes: 1000, AllowRollup: true, AllowDirect: true,
	})
	must(t, err)
	_, err = OpenKV(t.Context(), nc, "old")
	wantError(t, err, locks.ErrSettings)
	_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "copy", Mirror: &jetstream.StreamSource{Name: "short"}})
	must(t, err)
	_, err = OpenKV(t.Context(), nc, "copy")
	wantError(t, err, locks.ErrSettings)
}
