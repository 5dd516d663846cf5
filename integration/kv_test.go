// SPDX-License-Identifier: Apache-2.0

package integration

import "testing"

// kvPoints are the crash points of the participant of key-value buckets.
var kvPoints = []string{
	"kv.validated:5",    // the reads are valid, and nothing is prepared
	"kv.prepared:5",     // the journal has the branch, and it is not voted
	"kv.written:7:20ms", // a value is written, perhaps not the others
	"kv.applied:5",      // all are, the journal does not say so
	"kv.settled:5",      // it does, the commit is not answered
	"kv.settled:5:20ms", // it is
	"participant.vote.stored:5:30ms",
}

// The participant dies at each of them, and the next instance goes on.
func TestBucketsCrash(t *testing.T) {
	for _, point := range kvPoints {
		t.Run(name(point), func(t *testing.T) {
			t.Parallel()
			w := startBuckets(t, setup{}, point)
			stop := w.appends(4)
			w.kv.proc().await(t)
			w.kv.restart()
			w.more(20)
			stop()
			w.check()
		})
	}
}

// Another instance is started beside it, again and again: it takes over, and the one before ends.
func TestBucketsTakenOver(t *testing.T) {
	t.Parallel()
	w := startBuckets(t, setup{}, "")
	stop := w.appends(4)
	before := w.kv
	for _, name := range []string{"kv-1", "kv-2", "kv-3"} {
		w.more(15)
		next := w.instance(name)
		next.restart()
		w.more(5)
		before.proc().await(t)
		before = next
	}
	stop()
	w.check()
}

// It is paused, another one takes over, and then it goes on: what it had in hand does no harm.
func TestBucketsPaused(t *testing.T) {
	t.Parallel()
	w := startBuckets(t, setup{}, "")
	stop := w.appends(4)
	w.more(15)
	w.kv.pause()
	next := w.instance("next")
	next.restart()
	w.more(5)
	w.kv.resume()
	w.kv.proc().await(t)
	w.more(10)
	stop()
	w.check()
}

// The server is killed, and the participant does not hear what was stored.
func TestBucketsServerAndNetwork(t *testing.T) {
	t.Parallel()
	w := startBuckets(t, setup{}, "")
	stop := w.appends(4)
	w.more(15)
	w.kv.link.GoDeaf()
	w.outlast()
	w.kv.link.Mend()
	w.more(10)
	w.server.kill()
	w.server.restart()
	w.more(10)
	stop()
	w.check()
}
