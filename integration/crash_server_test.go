// SPDX-License-Identifier: Apache-2.0

package integration

import "testing"

// The NATS server is killed under load. What it has acknowledged it has synced; what it has not acknowledged may be stored
// all the same (a publish whose answer is lost is neither done nor failed), and an ack that a consumer gave is flushed
// late, so that messages come again. Kafka's and JetStream's Jepsen reports are mostly about this moment.

func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	l := c.load(6)
	for range 3 {
		l.more(30)
		c.server.kill()
		c.server.restart()
	}
	l.more(30)
	l.stop()
	c.check()
}

// With `assent serve` the coordinator dies together with its log.
func TestServeCrashes(t *testing.T) {
	points := []string{"coordinator.prepare.stored:5", "coordinator.decided:5", "coordinator.answered:5:30ms", "coordinator.done.heard:5"}
	if *allFaults {
		points = coordinatorPoints[:10] // the others need a load of their own
	}
	for _, point := range points {
		t.Run(name(point), func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{combined: true, crash: map[string]string{"server": point}})
			l := c.load(4)
			c.server.proc().await(t)
			c.server.restart()
			l.more(20)
			l.stop()
			c.check()
		})
	}
}
