// SPDX-License-Identifier: Apache-2.0

package groupcommit_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/groupcommit"
)

// An acknowledgement that was lost with its connection is not waited for: `assent demo` showed every vote that was under way
// when the server was killed to be late by the whole patience.
func TestReconnectEndsTheWait(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, n *node, g *gate){
		"connection cut":   func(_ *testing.T, _ *node, g *gate) { g.cut(); g.reopen() },
		"server restarted": func(t *testing.T, n *node, g *gate) { g.cut(); n.stop(t); g.reopen(); n.start(t) },
	} {
		t.Run(name, func(t *testing.T) {
			n, g := startNode(t), newGate()
			watcher, nc := n.connect(t), n.connect(t, nats.SetCustomDialer(g))
			logStream(t, watcher, jetstream.StreamConfig{})
			send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{Patience: time.Hour, Backoff: time.Millisecond})
			for round := range 2 { // not the first time alone
				g.shut()
				result := sendInBackground(t.Context(), send, "log.a", "once")
				eventually(t, "the message is stored", func() bool { return count(t, watcher) == round+1 })
				lose(t, n, g)
				if got := receive(t, result, "the message's fate"); got.err != nil || got.sequence != uint64(round+1) {
					t.Fatalf("sequence %d, %v; want %d", got.sequence, got.err, round+1)
				}
			}
		})
	}
}
