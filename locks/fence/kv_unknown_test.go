// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// faulty has kv's first publish go through fault, which gets the real one; the others are real.
func faulty(kv *KV, fault func(ctx context.Context, genuine func() (uint64, error)) (uint64, error)) (publishes *int) {
	publishes = new(int)
	genuine := kv.publishIf
	kv.publish = func(ctx context.Context, msg *nats.Msg, revision uint64) (uint64, error) {
		*publishes++
		publish := func() (uint64, error) { return genuine(ctx, msg, revision) }
		if *publishes == 1 {
			return fault(ctx, publish)
		}
		return publish()
	}
	return publishes
}

// loseAck has the message stored and its acknowledgement lost, after what comes in between.
func loseAck(t testing.TB, between func()) func(context.Context, func() (uint64, error)) (uint64, error) {
	return func(_ context.Context, genuine func() (uint64, error)) (uint64, error) {
		_, err := genuine()
		must(t, err)
		between()
		return 0, context.DeadlineExceeded
	}
}

// loseMessage has the message lost.
func loseMessage(between func()) func(context.Context, func() (uint64, error)) (uint64, error) {
	return func(context.Context, func() (uint64, error)) (uint64, error) {
		between()
		return 0, nats.ErrTimeout
	}
}

// other is another writer of the same bucket.
func other(t testing.TB, kv *KV) *KV {
	t.Helper()
	another, err := OpenKV(t.Context(), kv.nc, kv.bucket)
	must(t, err)
	return another
}

func TestKVSettlesALostAcknowledgement(t *testing.T) {
	kv, plain := openTestKV(t, 64)
	publishes := faulty(kv, loseAck(t, func() {}))
	revision := put(t, kv, "a", "one", 1)
	if *publishes != 1 || revision != 1 {
		t.Errorf("published %d times, revision %d", *publishes, revision)
	}
	faulty(kv, loseAck(t, func() {}))
	must(t, kv.Delete(t.Context(), "a", token(2)))
	history, err := plain.History(t.Context(), "a")
	must(t, err)
	if len(history) != 2 {
		t.Errorf("%d messages of two writes", len(history))
	}
}

// The write took effect, and others overwrote it before anybody looked: it is not written again, which would bring an old
// value back.
func TestKVSettlesWhatWasOverwritten(t *testing.T) {
	kv, plain := openTestKV(t, 64)
	another := other(t, kv)
	for i, n := range []int{1, 2} { // an equal token and a newer one
		key := []string{"a", "b"}[i]
		before := put(t, another, key, "zero", 1)
		publishes := faulty(kv, loseAck(t, func() {
			for range maxPast { // the last number of writes after which it can still be told
				put(t, another, key, "theirs", n)
			}
		}))
		revision, err := kv.Put(t.Context(), key, []byte("ours"), token(1))
		must(t, err)
		if revision != before+1 || *publishes != 1 {
			t.Errorf("revision %d after %d, published %d times", revision, before, *publishes)
		}
		e, err := plain.GetRevision(t.Context(), key, revision)
		must(t, err)
		if string(e.Value()) != "ours" {
			t.Errorf("revision %d is %q", revision, e.Value())
		}
		wantValue(t, kv, key, "theirs", n)
	}
}

func TestKVSettlesALostMessage(t *testing.T) {
	kv, _ := openTestKV(t, 1)
	publishes := faulty(kv, loseMessage(func() {}))
	put(t, kv, "a", "one", 1)
	wantValue(t, kv, "a", "one", 1)
	if *publishes != 2 {
		t.Errorf("published %d times", *publishes)
	}
	// Somebody else's write took its place: with an equal or older token it is written after that …
	another := other(t, kv)
	faulty(kv, loseMessage(func() { put(t, another, "a", "theirs", 1) }))
	put(t, kv, "a", "two", 2)
	wantValue(t, kv, "a", "two", 2)
	// … and with a newer one it is refused, and known to have had no effect.
	faulty(kv, loseMessage(func() { put(t, another, "a", "theirs", 4) }))
	_, err := kv.Put(t.Context(), "a", []byte("three"), token(3))
	wantStale(t, err, "a", token(3), token(4))
	wantValue(t, kv, "a", "theirs", 4)
}

// The message is on its way when the answer is waited for no longer, and arrives at the worst moment: when it has been sent again.
func TestKVSettlesALateMessage(t *testing.T) {
	kv, plain := openTestKV(t, 64)
	genuine := kv.publishIf
	var late func() (uint64, error)
	publishes := 0
	kv.publish = func(ctx context.Context, msg *nats.Msg, revision uint64) (uint64, error) {
		switch publishes++; publishes {
		case 1:
			first := &nats.Msg{Subject: msg.Subject, Header: msg.Header, Data: msg.Data}
			late = func() (uint64, error) { return genuine(ctx, first, revision) }
			return 0, nats.ErrTimeout
		case 2:
			_, err := late()
			must(t, err)
		}
		return genuine(ctx, msg, revision)
	}
	revision := put(t, kv, "a", "one", 1)
	history, err := plain.History(t.Context(), "a")
	must(t, err)
	if publishes != 2 || revision != 1 || len(history) != 1 {
		t.Errorf("published %d times, revision %d, %d messages", publishes, revision, len(history))
	}
}

// What cannot be settled is told as such, never guessed.
func TestKVSaysUnknown(t *testing.T) {
	kv, plain := openTestKV(t, 1)
	another := other(t, kv)
	faulty(kv, loseAck(t, func() {
		for range maxPast + 1 {
			put(t, another, "a", "theirs", 1)
		}
	}))
	_, err := kv.Put(t.Context(), "a", []byte("ours"), token(1))
	wantError(t, err, ErrUnknown)
	wantError(t, err, context.DeadlineExceeded) // and why

	faulty(kv, loseAck(t, func() { // past the fence
		_, err := plain.PutString(t.Context(), "a", "theirs")
		must(t, err)
	}))
	_, err = kv.Put(t.Context(), "a", []byte("ours"), token(1))
	wantError(t, err, ErrUnknown)

	ctx, cancel := context.WithCancel(t.Context())
	faulty(kv, func(context.Context, func() (uint64, error)) (uint64, error) {
		cancel()
		return 0, ctx.Err()
	})
	_, err = kv.Put(ctx, "a", []byte("ours"), token(1))
	wantError(t, err, ErrUnknown)
	wantError(t, err, context.Canceled)

	faulty(kv, loseMessage(kv.nc.Close))
	_, err = kv.Put(t.Context(), "a", []byte("ours"), token(1))
	wantError(t, err, ErrUnknown)
}

// The trail of earlier writes is bounded, whatever happens to a key.
func TestKVHeadersAreBounded(t *testing.T) {
	kv, _ := openTestKV(t, 1)
	for range 3 * maxPast {
		put(t, kv, "a", "x", 1)
	}
	last, err := kv.readLeader(t.Context(), "a")
	must(t, err)
	text := last.header("id", "", token(1)).Get(pastHeader)
	if len(last.past) != maxPast || strings.Count(text, ",") != maxPast-1 || len(text) > 40*maxPast {
		t.Errorf("%d writes, next %q", len(last.past), text)
	}
}
