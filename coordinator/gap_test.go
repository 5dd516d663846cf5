// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/protocol"
)

// A leader is held up for so long that another one leaves a checkpoint and trims the log beyond what this one was sent. It
// must not go on with what it knows: it begins again from the checkpoint.
func TestALeaderThatFellBehindBeginsAgain(t *testing.T) {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	log, warnings := test.NewNullLogger()
	c, err := New(nc, Config{Log: log, DrainTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-c.Ready():
	case <-ctx.Done():
		t.Fatal("not ready")
	}
	l := c.leaders[0]
	held, release := make(chan struct{}), make(chan struct{})
	l.calls <- func() { close(held); <-release }
	<-held
	// More than the leader is sent ahead and has waiting, of what every reader ignores.
	body := make([]byte, 128<<10)
	var last uint64
	for range tailQueue + 4*tailBytes/len(body) {
		ack, err := c.js.Publish(ctx, l.subjects.Abort(0), body)
		if err != nil {
			t.Fatal(err)
		}
		last = ack.Sequence
	}
	at := protocol.Checkpoint{Sequence: last, LogTime: nowMilli(), Through: last}
	if err := l.checkpoints.save(ctx, 0, at); err != nil {
		t.Fatal(err)
	}
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(last)); err != nil {
		t.Fatal(err)
	}
	close(release)
	for behind := false; !behind; {
		var read uint64
		if err := l.inLeader(ctx, func() { read = l.fold.Sequence() }); err != nil {
			t.Fatalf("the leader is at %d of %d: %v", read, last, err)
		}
		behind = read >= last
	}
	warned := false
	for _, entry := range warnings.AllEntries() {
		warned = warned || (entry.Level == logrus.WarnLevel && entry.Message == "fell behind the log; reading it again from the checkpoint")
	}
	if !warned {
		t.Error("the leader was never behind: the test shows nothing")
	}
	entry, err := l.checkpoints.bucket.Get(ctx, strconv.Itoa(0))
	if err != nil || entry.Revision() == 0 {
		t.Errorf("no checkpoint is left: %v", err)
	}
}
