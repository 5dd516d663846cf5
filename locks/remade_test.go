// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"errors"
	"testing"
	"time"

	"github.com/assent-tx/assent/locks"
)

// A session that has seen the bucket before it was deleted and made again gives no token by its sequences of now: they begin anew, and would be less
// than those of who held the key before. It is lost.
func TestASessionOfTheBucketBefore(t *testing.T) {
	c := start(t)
	before, err := locks.Open(t.Context(), c.connect(), locks.Config{TTL: time.Minute, Streams: 1})
	if err != nil {
		t.Fatal(err)
	}
	var last locks.Token
	for range 5 {
		l := mustLock(t, before, "k")
		last = l.Token()
		mustUnlock(t, l)
	}
	if err := c.js().DeleteStream(t.Context(), "KV_assent-locks-0"); err != nil {
		t.Fatal(err)
	}
	after := c.open(locks.Config{Streams: 1})
	if l, err := before.Lock(t.Context(), "k"); err == nil && l.Token().Compare(last) <= 0 {
		t.Errorf("token %v after %v", l.Token(), last)
	} else if err != nil && !errors.Is(err, locks.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
	if err := before.Err(); !errors.Is(err, locks.ErrLost) {
		t.Errorf("the session of before: %v, want ErrLost", err)
	}
	if err := before.Close(t.Context()); err != nil && !errors.Is(err, locks.ErrLost) {
		t.Errorf("close: %v", err)
	}
	l := mustLock(t, after, "another")
	if l.Token().Compare(last) <= 0 {
		t.Errorf("token %v after %v", l.Token(), last)
	}
	mustUnlock(t, l)
}
