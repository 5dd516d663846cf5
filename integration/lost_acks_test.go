// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"testing"

	"github.com/assent-tx/assent/internal/link"
)

// The network between a process and the server loses what the server says: the process's publishes are stored, and their
// acknowledgements never come. Then the connection breaks. A publish without an answer is not a publish that failed.

var errPending = errors.New("some are pending")

func TestAcknowledgementsAreLost(t *testing.T) {
	for _, victim := range []string{"coordinator", "bank-a", "client"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{})
			network := map[string]*link.Link{"coordinator": c.leader.link, "bank-a": c.banks["bank-a"].link, "client": c.link}[victim]
			l := c.load(4)
			for range 3 {
				l.more(10)
				network.GoDeaf()
				c.outlast()
				network.Mend()
			}
			l.more(20)
			l.stop()
			c.check()
		})
	}
}

// The network is gone for a while, and nothing tells the processes on either side.
func TestNetworkIsGone(t *testing.T) {
	for _, victim := range []string{"coordinator", "bank-a"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{})
			network := map[string]*link.Link{"coordinator": c.leader.link, "bank-a": c.banks["bank-a"].link}[victim]
			l := c.load(4)
			for range 3 {
				l.more(10)
				network.GoDown()
				c.outlast()
				network.Mend()
			}
			l.more(20)
			l.stop()
			c.check()
		})
	}
}
