// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/assent-tx/assent"
)

// A process is paused (SIGSTOP, a garbage collection, a migrated machine) for longer than every timeout, and goes on as if
// nothing had happened: it still believes what it believed. Kleppmann's "How to do distributed locking" (2016) made
// the paused client famous.

func TestCoordinatorIsPaused(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	l := c.load(4)
	l.more(20)
	c.leader.pause()
	c.outlast()
	c.leader.resume()
	l.more(20)
	l.stop()
	c.check()
}

func TestParticipantIsPaused(t *testing.T) {
	t.Parallel()
	c := start(t, setup{banks: []string{"bank-a", "bank-b", "bank-c"}})
	l := c.load(4)
	l.more(20)
	c.banks["bank-a"].pause()
	// What bank-a takes no part in goes on; what it does, times out.
	c.want(assent.Committed, order{from: "bank-b", to: "bank-c", cents: 1, timeout: patience})
	c.want(assent.Aborted, order{from: "bank-a", to: "bank-b", cents: 1, timeout: assentTimeout})
	c.outlast()
	c.banks["bank-a"].resume()
	c.want(assent.Committed, order{from: "bank-a", to: "bank-b", cents: 1, timeout: patience})
	l.more(20)
	l.stop()
	c.check()
}

func TestServerIsPaused(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	l := c.load(4)
	l.more(20)
	c.server.pause()
	c.outlast()
	c.server.resume()
	l.more(20)
	l.stop()
	c.check()
}
