// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/assent-tx/assent/router"
)

// Nodes of a group come, go, die and are paused under load, and so do those who decide where partitions go. Others have met two owners
// of one key (olric #243 and #254, seaweedfs #5814) and transactions that were cut in two by a change of the ring (vitess #20002).

const enoughRouted = 40

func threeNodes(t *testing.T, s setup) (*routed, *routedLoad) {
	t.Helper()
	w := startRouted(t, s, "accounts-1", "accounts-2", "accounts-3")
	l := w.routedLoad(6)
	l.more(enoughRouted)
	return w, l
}

func end(w *routed, l *routedLoad) {
	w.t.Helper()
	l.more(enoughRouted)
	l.stop()
	w.checkRouted()
}

func shared(n int) func(*router.Group) bool {
	return func(g *router.Group) bool { return sharing(g) == n }
}

func TestNodesJoinAndLeave(t *testing.T) {
	t.Parallel()
	w, l := threeNodes(t, setup{})
	w.node("accounts-4").start()
	w.rest("the fourth has its share", shared(4))
	l.more(enoughRouted)
	w.change(router.ActionDrain, "accounts-1")
	w.rest("the first has nothing left", shared(3))
	w.change(router.ActionRemove, "accounts-1")
	end(w, l)
}

func TestNodeIsKilledWhileItGives(t *testing.T) {
	t.Parallel()
	w, l := threeNodes(t, setup{})
	w.change(router.ActionDrain, "accounts-1")
	w.nodes["accounts-1"].kill()
	l.more(1) // what it holds waits for it, and nothing else does
	w.nodes["accounts-1"].start()
	w.rest("it has given everything", shared(2))
	end(w, l)
}

func TestNodeIsKilledWhileItTakes(t *testing.T) {
	t.Parallel()
	w, l := threeNodes(t, setup{})
	fourth := w.node("accounts-4")
	fourth.start()
	w.becomes("it is being given something", func(g *router.Group) bool { return g.Moving > 0 || sharing(g) == 4 })
	fourth.kill()
	l.more(1)
	fourth.start()
	w.rest("it has its share", shared(4))
	end(w, l)
}

func TestNodeIsPausedBeyondItsSession(t *testing.T) {
	t.Parallel()
	w, l := threeNodes(t, setup{})
	paused := w.nodes["accounts-2"]
	paused.pause()
	w.becomes("its session has ended", func(g *router.Group) bool { return stateOf(g, "accounts-2") == router.StateDown })
	paused.resume()
	w.rest("it is back", shared(3))
	end(w, l)
}

func TestStewardIsKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	w, l := threeNodes(t, setup{coordinator: []string{"-lease", "1s"}})
	second := w.coordinator("coordinator-2", "-lease", "1s")
	second.start()
	second.ready()
	w.change(router.ActionDrain, "accounts-1")
	w.leader.kill() // it may be the steward or not
	w.node("accounts-4").start()
	w.leader.restart()
	second.kill() // then it is the other one
	w.rest("the fourth has the first one's place", shared(3))
	second.restart()
	end(w, l)
}

func TestServerIsKilledWhilePartitionsMove(t *testing.T) {
	t.Parallel()
	w, l := threeNodes(t, setup{})
	w.node("accounts-4").start()
	w.change(router.ActionDrain, "accounts-1")
	w.server.kill()
	w.server.start()
	w.rest("the fourth has the first one's place", shared(3))
	end(w, l)
}
