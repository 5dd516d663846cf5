// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// A handler that panics is called again, and the log tells where it panicked.
func TestLogOfPanics(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := newHandler()
		var prepares, commits atomic.Int32
		h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			if prepares.Add(1) == 1 {
				aBugInPrepare()
			}
			return participant.Yes, nil
		}
		h.commit = func(context.Context, messages.ID) error {
			if commits.Add(1) == 1 {
				aBugInCommit()
			}
			return nil
		}
		log, said := test.NewNullLogger()
		w.joinWith(participant.Config{Name: "p", Handler: h, Log: log})
		_, err := commit(w, w.client(), time.Minute, "p")
		must(t, err)
		receive(w, h.committed, "the commit succeeds")
		stacks := ""
		for _, e := range said.AllEntries() {
			if stack, ok := e.Data["stack"].(string); ok {
				stacks += stack
			}
		}
		for _, culprit := range []string{"aBugInPrepare", "aBugInCommit"} {
			if !strings.Contains(stacks, culprit) {
				t.Errorf("the log has no stack with %s: %q", culprit, stacks)
			}
		}
	})
}

func aBugInPrepare() { panic("a bug") }
func aBugInCommit()  { panic("another bug") }
