// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

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
			stored, err := locks.List(t.Context(), nc, "")
			if err != nil || len(stored) != len(all) {
				t.Fatalf("%d are stored, %v", len(stored), err)
			}
			for i := range all {
				if stored[i].Key != all[i].Key() || stored[i].Holders[0].Token != all[i].Token() || stored[i].Holders[0].Session != s.ID() {
					t.Errorf("%s has token %s; stored is %+v", all[i].Key(), all[i].Token(), stored[i])
				}
			}
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
	if list, err := locks.List(t.Context(), nc, ""); err != nil || len(list) != 0 {
		t.Errorf("all were given back: %+v, %v", list, err)
	}
}
