// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"
)

// A process dies at a named point: before or after each step that makes something durable or tells somebody. This is the
// oldest question to any commit protocol (Gray, "Notes on Data Base Operating Systems", 1978): whatever a process knew
// and had not written down, does anybody act on it later, and does anybody wait for it for ever?

// coordinatorPoints are the crash points of a coordinator. A delay lets what was handed over before the point leave.
var coordinatorPoints = []string{
	"coordinator.submit.taken:5",          // a client waits, and nothing is written
	"coordinator.prepare.appended:5:30ms", // one prepare of two is in the log
	"coordinator.prepare.appended:6",      // both are on their way
	"coordinator.prepare.stored:5",        // the log has them, the leader does not know
	"coordinator.decided:5",               // decided, nobody has heard
	"coordinator.answered:5:30ms",         // the client knows, no participant does
	"coordinator.outcome.sent:5:30ms",     // some participant knows
	"coordinator.done.heard:5",            // all is applied, and not noted
	"coordinator.finished.appended:5",     // the note is on its way
	"coordinator.finished.appended:3:30ms",
	"coordinator.abort.appended:1",
	"coordinator.abort.appended:1:30ms",
	"coordinator.checkpoint.saved:2",
	"coordinator.log.trimmed:1",
}

// participantPoints are those of a participant.
var participantPoints = []string{
	"participant.prepare.received:5",
	"participant.keys.granted:2",     // a branch waited for keys, and has them; its handler was not asked
	"participant.prepare.handled:5",  // prepared, not voted
	"participant.vote.stored:5:30ms", // voted, not acknowledged: the prepare comes again
	"participant.prepare.acked:5:30ms",
	"participant.outcome.received:5",
	"participant.outcome.applied:5", // applied, not said
	"participant.done.held:5",       // it is to be said together with what is being applied
	"participant.done.sent:5:30ms",  // said
}

// replayPoints are passed while a coordinator starts: the second crash of a coordinator that was killed before.
var replayPoints = []string{
	"coordinator.replay.begun",
	"coordinator.replay.read",
}

func name(points ...string) string {
	return strings.ReplaceAll(strings.Join(points, ","), ":", "_")
}

func TestCoordinatorCrashes(t *testing.T) {
	for _, point := range append(coordinatorPoints, replayPoints...) {
		t.Run(name(point), func(t *testing.T) {
			t.Parallel()
			s := setup{crash: map[string]string{"coordinator": point}}
			if strings.Contains(point, "replay") {
				s.crash = nil
			}
			if strings.Contains(point, "trimmed") {
				s.env = []string{"ASSENT_WINDOW=200"}
				s.coordinator = []string{"-history", "1ms", "-history-bytes", "1"}
			}
			c := start(t, s)
			l := c.load(4)
			switch {
			case strings.Contains(point, "abort"): // somebody is too slow, and the log stands still: the leader has to write
				l.more(5)
				l.stop()
				l = c.load(0)
				l.also(c.hopeless())
			case s.crash == nil:
				l.more(20)
				c.leader.crash(point)
			}
			c.leader.proc().await(t)
			c.leader.restart()
			l.stop()
			c.transfers(20)
			if s.env == nil {
				c.check()
			} else {
				c.checkTrimmed()
			}
		})
	}
}

// hopeless is a transfer whose bank cannot prepare it in time.
func (c *cluster) hopeless() order {
	o := c.some(c.rand)
	o.trouble = "prepare=slow:3s"
	return o
}

func TestParticipantCrashes(t *testing.T) {
	for _, point := range participantPoints {
		for _, bank := range []string{"bank-a", "bank-b"} {
			if bank == "bank-b" && !*allFaults {
				continue // the two are alike
			}
			t.Run(name(bank, point), func(t *testing.T) {
				t.Parallel()
				c := start(t, setup{crash: map[string]string{bank: point}})
				l := c.load(4)
				c.banks[bank].proc().await(t)
				c.banks[bank].restart()
				l.more(20)
				l.stop()
				c.check()
			})
		}
	}
}
