// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// strongbox is a handler whose memory outlives its instances, and that knows who holds which key.
type strongbox struct {
	t        testing.TB
	mu       sync.Mutex
	prepared map[messages.ID][]participant.Key
	over     map[messages.ID]bool
	holders  map[string]messages.ID
	counts   map[string]int
	voids    int
}

func newStrongbox(t testing.TB) *strongbox {
	return &strongbox{t: t, prepared: map[messages.ID][]participant.Key{}, over: map[messages.ID]bool{}, holders: map[string]messages.ID{}, counts: map[string]int{}}
}

func (s *strongbox) Prepare(_ context.Context, b *participant.Branch) (participant.Vote, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.prepared[b.Tx]; again || s.over[b.Tx] {
		return participant.Yes, nil
	}
	for _, key := range b.Keys() {
		if other, held := s.holders[key.Name]; held {
			s.t.Errorf("%s is to be prepared with %v, which %s holds", b.Tx, key, other)
		}
		s.holders[key.Name] = b.Tx
	}
	s.prepared[b.Tx] = slices.Clone(b.Keys())
	return participant.Yes, nil
}

func (s *strongbox) Commit(_ context.Context, tx messages.ID) error   { return s.end(tx, 1) }
func (s *strongbox) Rollback(_ context.Context, tx messages.ID) error { return s.end(tx, 0) }

func (s *strongbox) end(tx messages.ID, add int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, prepared := s.prepared[tx]
	if prepared && add == 0 {
		s.voids++
	}
	for _, key := range keys {
		s.counts[key.Name] += add
		delete(s.holders, key.Name)
	}
	delete(s.prepared, tx)
	s.over[tx] = true
	return nil
}

func (s *strongbox) InDoubt(context.Context) (branches []participant.Prepared, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tx, keys := range s.prepared {
		branches = append(branches, participant.Prepared{Tx: tx, Keys: keys})
	}
	return branches, nil
}

// TestHotKeys has clients of several shards that all want the same few keys of two participants, in every order, while one
// of these is stopped and started: no key is ever held twice, everybody who tries again gets through, and every key was
// counted as often as it was committed.
func TestHotKeys(t *testing.T) {
	for _, shards := range []int{1, 8} {
		t.Run(fmt.Sprint(shards, " shards"), func(t *testing.T) {
			inBubble(t, func(w *world) { hotKeys(w, shards, 8, false) })
		})
	}
	t.Run("without waiting", func(t *testing.T) {
		inBubble(t, func(w *world) { hotKeys(w, 8, 4, true) })
	})
}

func hotKeys(w *world, shards, each int, noWait bool) {
	const clients, keys = 12, 3
	w.coordinate(coordinator.Config{Shards: shards})
	boxes := map[string]*strongbox{"a": newStrongbox(w), "b": newStrongbox(w)}
	join := func(name string) *running {
		return w.joinWith(participant.Config{Name: name, Handler: boxes[name], NoWait: noWait})
	}
	join("a")
	b := join("b")
	client := w.client()
	want := map[string]map[string]int{"a": {}, "b": {}}
	var mu sync.Mutex
	var running sync.WaitGroup
	committed := make(chan struct{}, clients*each)
	for c := range clients {
		running.Go(func() {
			for n := range each {
				at := map[string]string{"a": fmt.Sprint("key", (c+n)%keys), "b": fmt.Sprint("key", (c*n)%keys)}
				if err := persist(w, client, func() map[string]string { return at }); err != nil {
					w.Errorf("client %d: %v", c, err)
				}
				mu.Lock()
				for name, key := range at {
					want[name][key]++
				}
				mu.Unlock()
				committed <- struct{}{}
			}
		})
	}
	for range clients {
		receive(w, committed, "some commit")
	}
	b.end()
	join("b")
	running.Wait()
	for name, box := range boxes {
		eventually(w, "everything is applied", func() bool {
			box.mu.Lock()
			defer box.mu.Unlock()
			return len(box.prepared) == 0 && maps.Equal(box.counts, want[name])
		})
		w.Logf("%s: %d prepared branches were rolled back", name, box.voids)
	}
}

// persist is client.Do with ids of the bubble's time: it tries again, with the age of the first attempt, as long as there is a conflict.
func persist(w *world, client *assent.Client, keys func() map[string]string) error {
	var last *assent.Tx
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		tx := client.Begin(assent.WithID(newID()), assent.WithTimeout(time.Minute), assent.RetryOf(last))
		for name, key := range keys() {
			tx.Enlist(name, nil, assent.Keys(key))
		}
		err := tx.Commit(w.Context())
		if !errors.Is(err, assent.ErrConflict) {
			return err
		}
		last = tx
		<-time.After(rand.N(pause)) // the bubble's
	}
}
