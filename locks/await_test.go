// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"errors"
	"testing"
	"time"

	"github.com/assent-tx/assent/locks/internal/agent"
)

// A lock that is granted, and taken away by force before the call has returned, is a lost one, whichever of the two the call hears first.
func TestGrantedAndTakenAwayAtOnce(t *testing.T) {
	for _, why := range []agent.Reason{agent.Forced, agent.Gone} {
		for range 100 {
			s := &Session{begun: time.Now(), done: make(chan struct{}), leaving: make(chan struct{})}
			s.deadline.Store(int64(time.Hour))
			e := &entry{s: s, kind: KindLock, key: "k", calls: make(map[string]*call)}
			c := &call{granted: make(chan *Lock, 1), ended: make(chan agent.Ended, 1), places: make(chan int, 1)}
			e.calls["a-1"] = c
			c.lock = &Lock{e: e, id: "a-1", done: make(chan struct{})}
			c.granted <- c.lock
			e.ended(&agent.Ended{ID: "a-1", Why: why})
			l, err := e.await(t.Context(), &wish{kind: KindLock, key: "k"}, "a-1", c)
			if err == nil {
				err = l.Err()
			}
			if !errors.Is(err, ErrLost) {
				t.Fatalf("%s: got %v, want ErrLost", why, err)
			}
		}
	}
}
