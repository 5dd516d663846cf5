// SPDX-License-Identifier: Apache-2.0

package groupcommit

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// reconnects ends attempts that wait for an acknowledgement which cannot come any more: it was lost with the connection.
// Without it they would wait out their patience although the server is back.
type reconnects struct {
	nc       *nats.Conn
	watching sync.Once
	mu       sync.Mutex
	last     uint64
	waiting  map[uint64]context.CancelFunc
}

// end calls cancel when the connection is back after it was lost, unless stop is called before. The connection is watched
// until the context of the first call ends.
func (r *reconnects) end(ctx context.Context, cancel context.CancelFunc) (stop func()) {
	r.watching.Do(func() {
		status := r.nc.StatusChanged(nats.CONNECTED)
		go r.watch(ctx, status)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	key := r.last
	r.waiting[key] = cancel
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, key)
	}
}

func (r *reconnects) watch(ctx context.Context, status chan nats.Status) {
	defer r.nc.RemoveStatusListener(status)
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-status:
			if !open {
				return
			}
			r.back()
		}
	}
}

func (r *reconnects) back() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.waiting {
		cancel()
	}
}
