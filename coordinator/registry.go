// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
)

// maxParticipantNames is how many participants a cluster may have: each has a consumer on every shard's stream, of which
// JetStream allows 1000 by default.
const maxParticipantNames = 400

// registry is the participants that have ever registered, as the KV bucket has them.
type registry struct {
	bucket jetstream.KeyValue
	mu     sync.RWMutex
	names  map[string]time.Time // when it registered last
}

// watch follows the bucket. It returns when what is there now is known; each later put of a name is told to onPut.
func (r *registry) watch(ctx context.Context, onPut func(ctx context.Context, name string)) (stop func(), err error) {
	r.names = make(map[string]time.Time)
	watcher, err := r.bucket.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("watch the participants: %w", err)
	}
	for entry := range watcher.Updates() {
		if entry == nil {
			break
		}
		r.note(entry)
	}
	var following sync.WaitGroup
	following.Go(func() {
		for entry := range watcher.Updates() {
			if entry != nil && r.note(entry) {
				onPut(ctx, entry.Key())
			}
		}
	})
	return func() {
		_ = watcher.Stop() // its only error is of a connection that is gone
		following.Wait()
	}, ctx.Err()
}

// note takes an entry; false when it is not a participant's registration.
func (r *registry) note(entry jetstream.KeyValueEntry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if entry.Operation() != jetstream.KeyValuePut || !messages.ValidName(entry.Key()) {
		delete(r.names, entry.Key())
		return false
	}
	r.names[entry.Key()] = entry.Created()
	return true
}

func (r *registry) has(name string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.names[name]
	return ok
}

func (r *registry) list() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.names))
}

var errTooManyParticipants = errors.New("too many participants")

// admit says why a participant cannot register; nil when it can.
func (r *registry) admit(name string) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, known := r.names[name]; known || len(r.names) < maxParticipantNames {
		return nil
	}
	return fmt.Errorf("%w: %d are registered, as many as may be; delete an old one from bucket %s",
		errTooManyParticipants, len(r.names), r.bucket.Bucket())
}

// put notes a registration. Every coordinator hears of it through its watch.
func (r *registry) put(ctx context.Context, name, instance string) error {
	value, err := json.Marshal(map[string]string{"instance": instance})
	if err != nil {
		return err
	}
	if _, err = r.bucket.Put(ctx, name, value); err != nil {
		return fmt.Errorf("register %s: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[name] = time.Now()
	return nil
}
