// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// selfLocking is a handler whose store locks keys itself.
type selfLocking struct{ *handler }

func (selfLocking) LocksKeys() bool { return true }

// An instance that locks keys, and sees that there is another one, says that nothing is isolated; one whose store locks them
// itself, or that locks none, has nothing to say.
func TestKeysOfSeveralInstances(t *testing.T) {
	for name, c := range map[string]struct {
		handler func(*handler) participant.Handler
		keys    []string
		errors  int
	}{
		"relies on itself": {func(h *handler) participant.Handler { return h }, []string{"a"}, 1},
		"locks in store":   {func(h *handler) participant.Handler { return selfLocking{h} }, []string{"a"}, 0},
		"locks nothing":    {func(h *handler) participant.Handler { return h }, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				l := w.openLocker()
				log, hook := test.NewNullLogger()
				w.joinWith(participant.Config{Name: "p", Handler: c.handler(l.h), Log: log})
				l.begin(1, c.keys...)
				other := newHandler()
				w.join("p", other)
				for range 40 { // some come to the one, some to the other
					effect := messages.AppendEffect(nil, &messages.Effect{Tx: newID()})
					must(t, w.nc.PublishRequest(subjects.Rollback(0, "p"), subjects.Done(0, "p"), effect))
				}
				eventually(t, "both have applied some", func() bool { return len(l.h.rolledBack) > 0 && len(other.rolledBack) > 0 })
				eventually(t, "all are applied", func() bool { return len(l.h.rolledBack)+len(other.rolledBack) == 40 })
				<-time.After(time.Second) // the bubble's
				said := 0
				for _, e := range hook.AllEntries() {
					if e.Level == logrus.ErrorLevel {
						said++
					}
				}
				if said != c.errors {
					t.Errorf("said %d times that nothing is isolated, want %d", said, c.errors)
				}
			})
		})
	}
}

// An instance lets go of the keys of a branch whose outcome another one applied, also after its own no that was held.
func TestKeysWhenASiblingApplies(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		l.join()
		done := func(tx messages.ID, vote uint64) {
			must(t, w.nc.Publish(subjects.Done(0, "p"), messages.AppendDone(nil, &messages.Done{Tx: tx, Vote: vote})))
		}
		young := l.begin(2, "a") // its yes is the log's second message
		old := l.waits(1, time.Minute, "a")
		l.conflict(young) // the fourth
		l.quiet()
		done(young, 2)
		l.quiet() // that was before its no
		done(young, 4)
		l.prepared(old)
	})
}
