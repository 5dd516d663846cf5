// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

// At three replicas several keys are taken by one batch, and given back by one. What is told must be what is stored.
func TestSeveralKeysAtThreeReplicas(t *testing.T) {
	nc := servers(t, 3)
	open := func() *locks.Session {
		s, err := locks.Open(t.Context(), nc, locks.Config{Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	a, b := open(), open()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_assent-locks-0")
	if err != nil {
		t.Fatal(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.Replicas != 3 || !cfg.AllowAtomicPublish || cfg.AllowDirect {
		t.Fatalf("the stream is %+v", cfg)
	}
	var wants []locks.Want
	for i := range 10 {
		wants = append(wants, locks.Want{Key: fmt.Sprint("k", i), Shared: i%3 == 0})
	}
	for range 5 { // the first time nothing is known of the keys, later all
		for _, s := range []*locks.Session{a, b} {
			all, err := s.LockAll(t.Context(), wants)
			if err != nil {
				t.Fatal(err)
			}
			listed(t, nc, func(stored []locks.Info) error {
				if len(stored) != len(all) {
					return fmt.Errorf("%d are stored", len(stored))
				}
				for i := range all {
					if stored[i].Key != all[i].Key() || len(stored[i].Holders) == 0 || stored[i].Holders[0].Token != all[i].Token() || stored[i].Holders[0].Session != s.ID() {
						return fmt.Errorf("%s has token %s; stored is %+v", all[i].Key(), all[i].Token(), stored[i])
					}
				}
				return nil
			})
			if err := all.Unlock(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	held := mustLock(t, b, "k5")
	if _, err := a.TryLockAll(t.Context(), wants); !errors.Is(err, locks.ErrHeld) {
		t.Errorf("one of them is held: %v", err)
	}
	mustUnlock(t, held)
	listed(t, nc, func(list []locks.Info) error {
		if len(list) != 0 {
			return fmt.Errorf("all were given back: %+v", list)
		}
		return nil
	})
}

// listed waits until what is listed is right: the replica that is read may be behind.
func listed(t *testing.T, nc *nats.Conn, right func([]locks.Info) error) {
	t.Helper()
	var wrong error
	for begun := time.Now(); time.Since(begun) < patience; {
		list, err := locks.List(t.Context(), nc, "")
		if err != nil {
			t.Fatal(err)
		}
		if wrong = right(list); wrong == nil {
			return
		}
	}
	t.Error(wrong)
}
