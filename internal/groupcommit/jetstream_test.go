// SPDX-License-Identifier: Apache-2.0

package groupcommit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/groupcommit"
)

// sent is what a Send returned.
type sent struct {
	sequence uint64
	err      error
}

func sendInBackground(ctx context.Context, send groupcommit.Send, subject, body string) <-chan sent {
	result := make(chan sent, 1)
	go func() {
		sequence, err := send(ctx, subject, []byte(body))
		result <- sent{sequence, err}
	}()
	return result
}

func TestLogStores(t *testing.T) {
	n := startNode(t)
	nc := n.connect(t)
	logStream(t, nc, jetstream.StreamConfig{})
	send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{})
	for i := range 3 {
		sequence, err := send(t.Context(), "log.a", []byte("same body"))
		if err != nil || sequence != uint64(i+1) {
			t.Fatalf("sequence %d, %v; want %d", sequence, err, i+1)
		}
	}
	if got := count(t, nc); got != 3 {
		t.Errorf("%d messages, want 3: equal bodies are different messages", got)
	}
}

// An acknowledgement that does not come leaves open whether the message is stored: it is repeated, and stored once.
func TestLostAcknowledgements(t *testing.T) {
	for name, heal := range map[string]func(t *testing.T, n *node, g *gate){
		"held back":          func(_ *testing.T, _ *node, g *gate) { g.reopen() },
		"connection cut":     func(_ *testing.T, _ *node, g *gate) { g.reopen(); g.cut() },
		"cut, then reopened": func(_ *testing.T, _ *node, g *gate) { g.cut(); g.reopen() },
		"server restarted":   func(t *testing.T, n *node, g *gate) { n.stop(t); g.reopen(); n.start(t) },
	} {
		t.Run(name, func(t *testing.T) {
			n, g := startNode(t), newGate()
			watcher, nc := n.connect(t), n.connect(t, nats.SetCustomDialer(g))
			logStream(t, watcher, jetstream.StreamConfig{})
			failed := make(chan error, 1024)
			send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{
				Patience: 100 * time.Millisecond, Backoff: time.Millisecond, Failed: func(_ string, err error) { failed <- err },
			})
			if _, err := send(t.Context(), "log.a", []byte("warm")); err != nil {
				t.Fatal(err)
			}
			g.shut()
			result := sendInBackground(t.Context(), send, "log.a", "once")
			eventually(t, "the message is stored", func() bool { return count(t, watcher) == 2 })
			for range 3 {
				if err := receive(t, failed, "an attempt is given up"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("an attempt without acknowledgement failed with %v", err)
				}
			}
			heal(t, n, g)
			if got := receive(t, result, "the message's fate"); got.err != nil || got.sequence != 2 {
				t.Errorf("sequence %d, %v; want 2", got.sequence, got.err)
			}
			if got, err := send(t.Context(), "log.a", []byte("next")); err != nil || got != 3 {
				t.Errorf("the next message's sequence is %d, %v; want 3: each is stored exactly once", got, err)
			}
		})
	}
}

// full makes a stream with room for one message.
func full(t *testing.T, nc *nats.Conn) jetstream.Stream {
	t.Helper()
	logStream(t, nc, jetstream.StreamConfig{MaxMsgs: 1})
	js := jetStream(t, nc)
	if _, err := js.Publish(t.Context(), "log.filler", nil); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// isFull is the refusal that coordinators give up on, as they do.
func isFull(err error) bool {
	var refusal *jetstream.APIError
	return errors.As(err, &refusal) && refusal.ErrorCode == 10077
}

func TestRefusalGivenUp(t *testing.T) {
	n := startNode(t)
	nc := n.connect(t)
	full(t, nc)
	send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{GiveUp: isFull})
	_, err := send(t.Context(), "log.a", []byte("too much"))
	if !errors.Is(err, groupcommit.ErrRefused) || !isFull(err) {
		t.Errorf("got %v, want ErrRefused and JetStream's error", err)
	}
	if got := count(t, nc); got != 1 {
		t.Errorf("%d messages, want the filler alone", got)
	}
}

func TestRefusalNotGivenUp(t *testing.T) {
	n := startNode(t)
	nc := n.connect(t)
	stream := full(t, nc)
	failed := make(chan error, 1024)
	send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{
		Backoff: time.Millisecond, Failed: func(_ string, err error) { failed <- err },
	})
	result := sendInBackground(t.Context(), send, "log.a", "patient")
	for range 3 {
		if err := receive(t, failed, "a refusal"); !isFull(err) {
			t.Errorf("failed with %v, want a full stream", err)
		}
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, result, "the message's fate"); got.err != nil || got.sequence != 2 {
		t.Errorf("sequence %d, %v; want 2", got.sequence, got.err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	result = sendInBackground(ctx, send, "log.a", "cancelled")
	if err := receive(t, failed, "a refusal"); !isFull(err) {
		t.Errorf("failed with %v, want a full stream", err)
	}
	cancel()
	if got := receive(t, result, "the message's fate"); got.err == nil || errors.Is(got.err, groupcommit.ErrRefused) {
		t.Errorf("got %v, want an error that leaves the fate open", got.err)
	}
}

// An attempt that was refused is no proof when an earlier one may have been stored: it is tried until that is known.
func TestRefusalAfterUnknown(t *testing.T) {
	n, g := startNode(t), newGate()
	watcher, nc := n.connect(t), n.connect(t, nats.SetCustomDialer(g))
	logStream(t, watcher, jetstream.StreamConfig{MaxMsgs: 1})
	failed, asked := make(chan error, 1024), make(chan struct{}, 1024)
	send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{
		Patience: 100 * time.Millisecond, Backoff: time.Millisecond, Failed: func(_ string, err error) { failed <- err },
		GiveUp: func(err error) bool { asked <- struct{}{}; return isFull(err) },
	})
	g.shut()
	result := sendInBackground(t.Context(), send, "log.a", "fills the stream")
	eventually(t, "the message is stored", func() bool { return count(t, watcher) == 1 })
	if err := receive(t, failed, "an attempt is given up"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an attempt without acknowledgement failed with %v", err)
	}
	g.reopen()
	if got := receive(t, result, "the message's fate"); got.err != nil || got.sequence != 1 {
		t.Errorf("sequence %d, %v; want 1: the message is in the log", got.sequence, got.err)
	}
	if len(asked) > 0 {
		t.Error("GiveUp was asked about a message whose fate was open")
	}
}

// A message that no server would take is refused at once, for good, and does not hold up its lane for ever.
func TestLargerThanTheServerTakes(t *testing.T) {
	n := startNode(t)
	nc := n.connect(t)
	logStream(t, nc, jetstream.StreamConfig{})
	send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{})
	result := sendInBackground(t.Context(), send, "log.a", strings.Repeat("x", int(nc.MaxPayload())+1))
	if got := receive(t, result, "the message's fate"); !errors.Is(got.err, groupcommit.ErrRefused) || !errors.Is(got.err, nats.ErrMaxPayload) {
		t.Errorf("got %v, want ErrRefused and ErrMaxPayload", got.err)
	}
}

// A server that restarts in the middle, twice, loses and reorders nothing within a subject.
func TestServerRestarts(t *testing.T) {
	n := startNode(t)
	nc := n.connect(t)
	logStream(t, nc, jetstream.StreamConfig{})
	b := groupcommit.New(t.Context(), groupcommit.Config[int]{
		Send: groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{Patience: 500 * time.Millisecond, Backoff: time.Millisecond}),
		Settled: func(subject string, tags []int, _ uint64, err error) {
			if err != nil {
				t.Errorf("%s, records %v: %v", subject, tags, err)
			}
		},
		MaxRecords: 4, MaxQueue: 2,
	})
	const lanes, records = 3, 400
	var appending sync.WaitGroup
	third, twoThirds := make(chan struct{}, lanes), make(chan struct{}, lanes)
	for lane := range lanes {
		appending.Go(func() {
			for i := range records {
				if err := b.Append(t.Context(), fmt.Sprintf("log.%d", lane), record(i), i); err != nil {
					t.Error(err)
				}
				switch i {
				case records / 3:
					third <- struct{}{}
				case 2 * records / 3:
					twoThirds <- struct{}{}
				}
			}
		})
	}
	for _, moment := range []chan struct{}{third, twoThirds} {
		receive(t, moment, "the appenders go on")
		n.stop(t)
		n.start(t)
	}
	appending.Wait()
	drain(t, b)
	got := make(map[string]string)
	for _, msg := range stored(t, nc) {
		got[msg.Subject] += string(msg.Data)
	}
	for lane := range lanes {
		if got[fmt.Sprintf("log.%d", lane)] != lines(0, records) {
			t.Errorf("lane %d: records are lost, doubled or out of order", lane)
		}
	}
}

// The pause between attempts doubles from Backoff to 32 times itself, and an attempt lasts no longer than Patience. With the
// bubble's clock the times are exact.
func TestPace(t *testing.T) {
	defer func() { // nats.go keeps timers in a sync.Pool, which two collections empty: the bubble's are of no use outside
		runtime.GC()
		runtime.GC()
	}()
	synctest.Test(t, func(t *testing.T) {
		server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := server.Connect()
		if err != nil {
			t.Fatal(err)
		}
		full(t, nc)
		var times []time.Duration
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		send := groupcommit.Log(jetStream(t, nc), groupcommit.LogConfig{Backoff: 10 * time.Millisecond, Failed: func(string, error) {
			times = append(times, time.Since(start))
			if len(times) == 9 {
				cancel()
			}
		}})
		if _, err := send(ctx, "log.a", nil); err == nil {
			t.Error("sent to a full stream")
		}
		var pauses []time.Duration
		for i := 1; i < len(times); i++ {
			pauses = append(pauses, (times[i] - times[i-1]).Round(time.Millisecond))
		}
		ms := time.Millisecond
		want(t, "pauses", pauses, []time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 320 * ms, 320 * ms})
		nc.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
}
