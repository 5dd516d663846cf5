// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestConfig(t *testing.T) {
	h := newHandler()
	ok := participant.Config{Name: "p", Handler: h}
	for want, change := range map[string]func(*participant.Config){
		"Name":         func(c *participant.Config) { c.Name = "" },
		"Name ":        func(c *participant.Config) { c.Name = "a.b" },
		"Name \"":      func(c *participant.Config) { c.Name = strings.Repeat("x", messages.MaxName+1) },
		"exactly one":  func(c *participant.Config) { c.Handler = nil },
		"exactly one ": func(c *participant.Config) { c.Batch = &batchHandler{} },
		"Prefix":       func(c *participant.Config) { c.Prefix = "a b" },
		"Concurrency":  func(c *participant.Config) { c.Concurrency = -1 },
		"4097":         func(c *participant.Config) { c.Concurrency = 4097 },
		"CallTimeout":  func(c *participant.Config) { c.CallTimeout = -1 },
		"DrainTimeout": func(c *participant.Config) { c.DrainTimeout = -1 },
	} {
		cfg := ok
		change(&cfg)
		if _, err := participant.New(nil, cfg); err == nil || !strings.Contains(err.Error(), strings.TrimRight(want, " ")) {
			t.Errorf("got %v, want an error that names %s", err, want)
		}
	}
	ok.Name = strings.Repeat("x", messages.MaxName)
	inBubble(t, func(w *world) {
		_, err := participant.New(w.nc, ok)
		must(t, err)
	})
}

// A participant waits for a coordinator, for as long as it takes.
func TestRunBeforeAnyCoordinator(t *testing.T) {
	inBubble(t, func(w *world) {
		h := newHandler()
		p, r := w.start(w.connect(), participant.Config{Name: "p", Handler: h})
		<-time.After(time.Hour) // the bubble's
		select {
		case <-p.Ready():
			t.Error("ready without a coordinator")
		case err := <-r.err:
			t.Fatalf("Run returned %v", err)
		default:
		}
		w.coordinate(coordinator.Config{})
		receive(w, p.Ready(), "the participant is ready")
		_, err := commit(w, w.client(), time.Minute, "p")
		must(t, err)
		r.end()
	})
}

// Asked to stop, Run returns nil, whatever the reason that its context gives, and however early.
func TestStop(t *testing.T) {
	inBubble(t, func(w *world) {
		reason := errors.New("SIGTERM")
		early, err := participant.New(w.connect(), participant.Config{Name: "p", Handler: newHandler()})
		must(t, err)
		ctx, cancel := context.WithCancelCause(w.Context())
		r := w.run(func(context.Context) error { return early.Run(ctx) })
		cancel(reason)
		if err := r.wait(); err != nil {
			t.Errorf("Run without a coordinator: %v", err)
		}
		w.coordinate(coordinator.Config{})
		for name, end := range map[string]func() (context.Context, context.CancelFunc){
			"cause": func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(w.Context())
				return ctx, func() { cancel(reason) }
			},
			"deadline": func() (context.Context, context.CancelFunc) { return context.WithTimeout(w.Context(), 5*time.Second) },
		} {
			p, err := participant.New(w.connect(), participant.Config{Name: "p", Handler: newHandler()})
			must(t, err)
			ctx, cancel := end()
			r := w.run(func(context.Context) error { return p.Run(ctx) })
			receive(w, p.Ready(), "the participant is ready")
			if name == "deadline" {
				<-ctx.Done()
			}
			cancel()
			if err := r.wait(); err != nil {
				t.Errorf("%s: Run: %v", name, err)
			}
		}
	})
}

func TestConnectionClosed(t *testing.T) {
	inBubble(t, func(w *world) {
		nc := w.connect()
		_, early := w.start(nc, participant.Config{Name: "p", Handler: newHandler()})
		<-time.After(time.Second) // the bubble's: it is registering
		nc.Close()
		if err := early.wait(); !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("Run before a coordinator was there: %v", err)
		}
		w.coordinate(coordinator.Config{})
		nc = w.connect()
		p, late := w.start(nc, participant.Config{Name: "p", Handler: newHandler()})
		receive(w, p.Ready(), "the participant is ready")
		nc.Close()
		if err := late.wait(); !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("Run: %v", err)
		}
		_, never := w.start(nc, participant.Config{Name: "p", Handler: newHandler()})
		if err := never.wait(); !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("Run on a closed connection: %v", err)
		}
	})
}

// A drain lets the calls that run end, and their votes and dones leave.
func TestDrainFinishesWhatRuns(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h, begun, slow := newHandler(), make(chan struct{}, 2), 5*time.Second
		h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			begun <- struct{}{}
			<-time.After(slow)
			return participant.Yes, nil
		}
		h.commit = func(context.Context, messages.ID) error {
			begun <- struct{}{}
			<-time.After(slow)
			return nil
		}
		first, client := w.join("p", h), w.client()
		outcome := make(chan error, 1)
		submit := func() {
			_, err := commit(w, client, time.Minute, "p")
			outcome <- err
		}
		go submit()
		receive(w, begun, "Prepare begins")
		first.end()
		must(t, receive(w, outcome, "the outcome")) // the vote alone decides it: no instance is there
		select {
		case <-h.committed:
			t.Fatal("committed by nobody")
		default:
		}
		second := w.join("p", h)
		receive(w, begun, "Commit begins")
		dones := w.dones("p")
		second.end()
		if done := receive(w, dones, "a done"); done.Working {
			done = receive(w, dones, "the last done")
			if done.Working {
				t.Error("the instance ended without a done")
			}
		}
	})
}

// What an instance leaves undone when it ends is another one's at once, not when the server has lost its patience.
func TestDrainGivesBack(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		hung, begun, release := newHandler(), make(chan struct{}, 16), make(chan struct{})
		hung.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			begun <- struct{}{}
			<-release
			return 0, errors.New("too late")
		}
		first := w.joinWith(participant.Config{Name: "p", Handler: hung, Concurrency: 1, DrainTimeout: 5 * time.Second})
		client, outcomes := w.client(), make(chan error, 16)
		for range 5 {
			go func() {
				_, err := commit(w, client, time.Minute, "p")
				outcomes <- err
			}()
		}
		receive(w, begun, "Prepare begins")
		start := time.Now()
		first.stop()
		if err := first.wait(); err == nil || !strings.Contains(err.Error(), "did not end within 5s") {
			t.Errorf("Run with a handler that hangs: %v", err)
		}
		if took := time.Since(start); took > 7*time.Second {
			t.Errorf("the drain took %v, want about its 5 s", took)
		}
		w.join("p", newHandler())
		for range 5 {
			must(t, receive(w, outcomes, "an outcome"))
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the other instance had finished after %v: it waited for the server to redeliver", took)
		}
		close(release)
	})
}

// Instances that come and go share the work, and every transaction is prepared and committed.
func TestInstancesShareTheWork(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{Shards: 2})
		const instances, clients, each = 3, 8, 25
		var prepares [instances]atomic.Int32
		all := newHandler()
		var members []*running
		for i := range instances {
			h := &handler{prepared: all.prepared, committed: all.committed, rolledBack: all.rolledBack}
			h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
				prepares[i].Add(1)
				<-time.After(50 * time.Millisecond) // the bubble's
				return participant.Yes, nil
			}
			members = append(members, w.joinWith(participant.Config{Name: "p", Handler: h, Concurrency: 2}))
		}
		client, outcomes := w.client(), make(chan error, clients*each)
		for range clients {
			go func() {
				for range each {
					_, err := commit(w, client, time.Minute, "p")
					outcomes <- err
				}
			}()
		}
		committed := map[messages.ID]bool{}
		for i := range clients * each {
			must(t, receive(w, outcomes, "an outcome"))
			if i == clients*each/2 {
				members[0].end()
			}
		}
		for len(committed) < clients*each {
			committed[receive(w, all.committed, "every commit")] = true
		}
		for i := range prepares {
			if prepares[i].Load() == 0 {
				t.Errorf("instance %d prepared nothing", i)
			}
		}
	})
}

// An operator who deletes the consumer disturbs, but does not silence, a participant.
func TestConsumerDeleted(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		w.join("p", newHandler())
		client := w.client()
		_, err := commit(w, client, time.Minute, "p")
		must(t, err)
		js, err := jetstream.New(w.nc)
		must(t, err)
		must(t, js.DeleteConsumer(w.Context(), messages.Subjects{}.Stream(0), "p"))
		_, err = commit(w, client, 5*time.Minute, "p")
		must(t, err)
	})
}

// The coordinator refuses a participant too many, and Run says so.
func TestTooManyParticipants(t *testing.T) {
	inBubble(t, func(w *world) {
		js, err := jetstream.New(w.nc)
		must(t, err)
		name := messages.Subjects{}.ParticipantsBucket()
		_, err = js.CreateStream(w.Context(), jetstream.StreamConfig{ // as a coordinator makes it
			Name: "KV_" + name, Subjects: []string{"$KV." + name + ".>"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, AllowRollup: true,
		})
		must(t, err)
		bucket, err := js.KeyValue(w.Context(), name)
		must(t, err)
		for i := range 399 {
			_, err := bucket.Put(w.Context(), fmt.Sprintf("other-%d", i), []byte(`{"instance":"x"}`))
			must(t, err)
		}
		w.coordinate(coordinator.Config{})
		w.join("last", newHandler())
		w.join("last", newHandler()) // another instance of it is none too many
		_, r := w.start(w.connect(), participant.Config{Name: "one-too-many", Handler: newHandler()})
		if err := r.wait(); err == nil || !strings.Contains(err.Error(), "too many participants") || !strings.Contains(err.Error(), "one-too-many") {
			t.Errorf("Run of the 401st participant: %v", err)
		}
	})
}
