// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"
	"time"
)

// Two coordinators lead one shard at once, for the lease of the first has run out and it has not noticed. It stops in the middle
// of something; the other takes over, and everything ends without it; then the first goes on with what it was doing: its prepares, aborts, outcomes and checkpoints are
// of a time that is past. Leases cannot prevent this, only make it rare; the log's order has to make it harmless.

func TestZombieCoordinator(t *testing.T) {
	points := []string{"coordinator.submit.taken:5", "coordinator.prepare.appended:5", "coordinator.decided:5", "coordinator.outcome.sent:5",
		"coordinator.done.heard:5", "coordinator.checkpoint.saved:2"}
	for _, point := range points {
		t.Run(name(point), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.startOn(setup{coordinator: []string{"-history", "1ms", "-history-bytes", "1", "-lease", "1s"}, env: []string{"ASSENT_WINDOW=3000"}},
				"ASSENT_STOP="+point)
			second := c.coordinator("second", "-history", "1ms", "-history-bytes", "1", "-lease", "1s")
			second.env = []string{"ASSENT_WINDOW=3000"}
			second.start()
			second.ready()
			l := c.load(4)
			c.leader.paused()
			c.outlast()
			c.leader.resume()
			l.more(20)
			l.stop()
			c.checkTrimmed()
		})
	}
}

// Both fail in turns, the one that leads and the one that stands by.
func TestTwoCoordinators(t *testing.T) {
	t.Parallel()
	c := start(t, setup{coordinator: []string{"-lease", "1s"}})
	second := c.coordinator("second", "-lease", "1s")
	second.start()
	second.ready()
	l := c.load(6)
	l.more(50)
	for range 3 {
		c.leader.kill()
		l.more(10)
		c.leader.restart()
		second.pause()
		c.outlast()
		second.resume()
		l.more(10)
	}
	l.stop()
	c.check()
}

// assentTimeout is the timeout of transactions that are to run into it.
const assentTimeout = 1500 * time.Millisecond

// outlast waits until every timeout of a transaction that was submitted before has passed: by the server's clock and ours
// alike, for they are the same.
func (c *cluster) outlast() {
	timer := time.NewTimer(2500 * time.Millisecond)
	defer timer.Stop()
	<-timer.C
}
