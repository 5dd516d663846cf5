// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/embedded"
)

const subject = "test.handover.shop.shop-2"

func connect(t *testing.T) *nats.Conn {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (f *file) receive(nc *nats.Conn) {
	f.t.Helper()
	stop, err := f.Receive(nc, Subject("test", "shop", "shop-2"))
	f.must(err)
	f.t.Cleanup(func() { f.must(stop()) })
}

// All partitions at once, one of them in several pages.
func TestPush(t *testing.T) {
	nc := connect(t)
	from, to := newFile(t), newFile(t)
	to.receive(nc)
	all := values(3, 2*maxPageItems+1)
	from.put(all)
	for p := range partitions - 1 { // the last one is empty
		if p != 3 {
			all := values(p, 3)
			from.put(all)
		}
	}
	all = from.all()
	var pushing sync.WaitGroup
	for p := range partitions {
		pushing.Go(func() {
			if err := from.Push(t.Context(), nc, subject, p, at(5)); err != nil {
				t.Errorf("partition %d: %v", p, err)
			}
		})
	}
	pushing.Wait()
	for p := range partitions {
		to.acquire(p, at(6))
	}
	to.want(all)
}

// Whoever is not told that a page is durable pushes all of them again.
func TestPushAgain(t *testing.T) {
	nc := connect(t)
	from, to := newFile(t), newFile(t)
	all := values(3, maxPageItems+1)
	from.put(all)
	if err := from.Push(t.Context(), nc, subject, 3, at(5)); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("with nobody there: %v", err)
	}

	// An owner that takes the first page, and crashes before it says so.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dumb, err := nc.Subscribe(subject, func(msg *nats.Msg) {
		to.Holdings.receive(msg.Data)
		cancel()
	})
	from.must(err)
	if err := from.Push(ctx, nc, subject, 3, at(5)); !errors.Is(err, context.Canceled) {
		t.Fatalf("without an answer: %v", err)
	}
	from.must(dumb.Unsubscribe())
	to.reopen()
	to.receive(nc)
	from.reopen()
	from.must(from.Push(t.Context(), nc, subject, 3, at(5)))
	from.must(from.Push(t.Context(), nc, subject, 3, at(5)))
	to.acquire(3, at(6))
	to.want(all)
}

// What the next owner says against a page is the error, and a partition with something in hand is not even begun.
func TestPushIsRefused(t *testing.T) {
	nc := connect(t)
	from, to := newFile(t), newFile(t)
	to.receive(nc)
	to.acquire(3, at(9))
	if err := from.Push(t.Context(), nc, subject, 3, at(5)); err == nil || !strings.Contains(err.Error(), errSuperseded.Error()) {
		t.Errorf("got %v, want %v", err, errSuperseded)
	}
	from.put(map[string]string{names(4, 1)[0]: "busy"})
	wantError(t, from.Push(t.Context(), nc, subject, 4, at(5)), errBusy)
	to.want(map[string]string{})

	answer, err := nc.RequestWithContext(t.Context(), subject, []byte("garbage"))
	if err != nil || !strings.HasPrefix(string(answer.Data), "this is no page: ") {
		t.Errorf("garbage was answered by %q, %v", answer.Data, err)
	}
	if got := to.all(); !maps.Equal(got, map[string]string{}) {
		t.Errorf("the file has %v", got)
	}
}
