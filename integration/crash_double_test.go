// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"math/rand/v2"
	"testing"
)

// Two failures, the second before the first is healed. Recovery code runs least often and in the worst company: most
// catastrophic failures of distributed systems come from the handling of a first, harmless one (Yuan et al., "Simple
// Testing Can Prevent Most Critical Failures", OSDI 2014).

func TestDoubleCrashes(t *testing.T) {
	pairs := doubles()
	if !*allFaults {
		r := rand.New(rand.NewPCG(*seedFlag, 0))
		if *seedFlag == 0 {
			r = rand.New(rand.NewPCG(rand.Uint64(), 0))
		}
		r.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		pairs = pairs[:6]
	}
	for _, pair := range pairs {
		t.Run(name(pair[0], pair[1]), func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{crash: map[string]string{"coordinator": pair[0], "bank-a": pair[1]}})
			l := c.load(4)
			// Which of them falls first is chance. The server falls while it is down; the other at
			// the same time, or when those are back.
			first, second := c.leader, c.banks["bank-a"]
			select {
			case <-first.proc().ended:
			case <-second.proc().ended:
				first, second = second, first
			}
			c.server.kill()
			c.server.restart()
			first.start()
			second.proc().await(t)
			second.start()
			first.ready()
			second.ready()
			l.more(20)
			l.stop()
			c.check()
		})
	}
}

// doubles are all pairs of a coordinator's point and a participant's that every load passes.
func doubles() (pairs [][2]string) {
	for _, first := range coordinatorPoints[:9] {
		for _, second := range participantPoints {
			pairs = append(pairs, [2]string{first, second})
		}
	}
	return pairs
}

// A coordinator that dies, and dies again while it reads the log.
func TestCoordinatorCrashesTwice(t *testing.T) {
	for _, second := range append([]string{"coordinator.outcome.sent:1:30ms", "coordinator.done.heard:1"}, replayPoints...) {
		t.Run(name(second), func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{crash: map[string]string{"coordinator": "coordinator.decided:7"}})
			l := c.load(4)
			c.leader.proc().await(t)
			c.leader.start(crashAt(second)...)
			c.leader.proc().await(t)
			c.leader.restart()
			l.more(20)
			l.stop()
			c.check()
		})
	}
}
