// SPDX-License-Identifier: Apache-2.0

package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/streams"
)

func start(t *testing.T) jetstream.JetStream {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// settings are such as the project's streams have: of a log, and of a bucket.
func settings() map[string]jetstream.StreamConfig {
	return map[string]jetstream.StreamConfig{
		"log":    {Name: "log", Subjects: []string{"log.>"}, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, DenyDelete: true},
		"bucket": {Name: "bucket", Subjects: []string{"bucket.>"}, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1, AllowRollup: true, AllowMsgTTL: true},
	}
}

// What the server makes of the settings that are wanted passes, and each change of one that matters is told by its name.
func TestCheck(t *testing.T) {
	js := start(t)
	type config = jetstream.StreamConfig
	changes := map[string]func(*config){
		"storage":                  func(c *config) { c.Storage = jetstream.MemoryStorage },
		"persist mode":             func(c *config) { c.PersistMode = jetstream.AsyncPersistMode },
		"retention":                func(c *config) { c.Retention = jetstream.InterestPolicy },
		"discard":                  func(c *config) { c.Discard = jetstream.DiscardOld },
		"max age":                  func(c *config) { c.MaxAge = time.Hour },
		"max messages":             func(c *config) { c.MaxMsgs = 5 },
		"max messages per subject": func(c *config) { c.MaxMsgsPerSubject = 5 },
		"max message size":         func(c *config) { c.MaxMsgSize = 1000 },
		"subjects":                 func(c *config) { c.Subjects = append([]string{"another"}, c.Subjects...) },
		"mirror or sources":        func(c *config) { c.Sources = []*jetstream.StreamSource{{Name: "source"}} },
		"subject transform": func(c *config) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "x.>"}
		},
		"subject delete marker TTL": func(c *config) { c.AllowMsgTTL, c.AllowRollup, c.SubjectDeleteMarkerTTL = true, true, time.Second },
		"allow direct":              func(c *config) { c.AllowDirect = true },
		"allow message TTL":         func(c *config) { c.AllowMsgTTL = !c.AllowMsgTTL },
		"allow rollup":              func(c *config) { c.AllowRollup = !c.AllowRollup },
		"deny purge":                func(c *config) { c.DenyPurge, c.AllowRollup = true, false },
		"no ack":                    func(c *config) { c.NoAck = true },
	}
	// While there is a stream, the server does not remove the folder of all: it does so after it has answered the deletion of the last one.
	if _, err := streams.Open(t.Context(), js, config{Name: "stays", Subjects: []string{"stays"}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range settings() {
		stream, err := streams.Open(t.Context(), js, want)
		if err != nil {
			t.Fatal(err)
		}
		if err := streams.Check(stream.CachedInfo().Config, want, "things"); err != nil {
			t.Errorf("%s as it was made: %v", name, err)
		}
		harmless := stream.CachedInfo().Config
		harmless.MaxBytes, harmless.Replicas, harmless.Description, harmless.Duplicates = 1<<20, 3, "for people", time.Hour
		if err := streams.Check(harmless, want, "things"); err != nil {
			t.Errorf("%s with what may differ: %v", name, err)
		}
		if err := js.DeleteStream(t.Context(), want.Name); err != nil {
			t.Fatal(err)
		}
		for setting, change := range changes {
			changed := want
			changed.Name += "-" + strings.ReplaceAll(setting, " ", "-")
			change(&changed)
			stream, err := js.CreateStream(t.Context(), changed)
			if err != nil {
				t.Errorf("%s, %s: no such stream can be made: %v", name, setting, err)
				continue
			}
			err = streams.Check(stream.CachedInfo().Config, want, "things")
			if err == nil || !strings.Contains(err.Error(), setting+" is ") || !strings.Contains(err.Error(), "`nats stream edit "+changed.Name+"`") {
				t.Errorf("%s, %s: %v", name, setting, err)
			}
			if err := js.DeleteStream(t.Context(), changed.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for setting, changed := range map[string]jetstream.StreamConfig{"sealed": {Sealed: true}, "allow message counter": {AllowMsgCounter: true}} {
		if err := streams.Check(changed, jetstream.StreamConfig{}, "things"); err == nil || !strings.Contains(err.Error(), setting+" is true") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// Many may open a stream at once; who only looks finds none before.
func TestOpenAtOnce(t *testing.T) {
	js := start(t)
	want := settings()["log"]
	if _, err := streams.Find(t.Context(), js, want.Name); !errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), want.Name) {
		t.Errorf("found before it was made: %v", err)
	}
	var openers sync.WaitGroup
	for i := range 8 {
		openers.Go(func() {
			mine := want
			mine.Description = fmt.Sprint("opener ", i) // or the server would take the others for this one
			if _, err := streams.Open(t.Context(), js, mine); err != nil {
				t.Error(err)
			}
		})
	}
	openers.Wait()
	if _, err := streams.Find(t.Context(), js, want.Name); err != nil {
		t.Error(err)
	}
}

// Silence is borne for a while, with more time for each attempt that follows one without an answer; a refusal is not, nor is a context that has ended.
func TestPersist(t *testing.T) {
	own := errors.New("who knows")
	for name, c := range map[string]struct {
		err      error
		patience time.Duration
	}{
		"refused":      {&jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamNotFound}, 0},
		"unavailable":  {&jetstream.APIError{Code: 503}, 15 * time.Second},
		"silent":       {context.DeadlineExceeded, 15 * time.Second},
		"disconnected": {fmt.Errorf("wrapped: %w", nats.ErrDisconnected), 15 * time.Second},
		"nobody":       {nats.ErrNoResponders, 3 * time.Second},
		"own":          {own, 15 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			var limits []time.Duration
			err := streams.Persist(t.Context(), func(ctx context.Context) error {
				deadline, _ := ctx.Deadline()
				limits = append(limits, time.Until(deadline))
				if errors.Is(c.err, context.DeadlineExceeded) {
					<-ctx.Done()
				}
				return c.err
			}, own)
			if took := time.Since(begun); !errors.Is(err, c.err) || took < c.patience || took > c.patience+2*streams.AttemptTime+streams.AttemptPause || (len(limits) == 1) != (c.patience == 0) {
				t.Errorf("%s: %v after %v and attempts of %v", name, err, took, limits)
			}
			want := slices.Repeat([]time.Duration{streams.AttemptTime}, len(limits)) // an answer shows that the server is not slow
			if errors.Is(c.err, context.DeadlineExceeded) {
				want = []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 2 * time.Second}
			}
			if !slices.Equal(limits, want) {
				t.Errorf("%s: attempts of %v, want %v", name, limits, want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := streams.Persist(ctx, func(context.Context) error { return nats.ErrTimeout }); !errors.Is(err, nats.ErrTimeout) || time.Since(begun) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}
