// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/assent-tx/assent/locks"
)

// take takes a lock that clients contend for.
type take func(ctx context.Context, client int) (grant, error)

// grant is a lock that was taken.
type grant struct {
	token  locks.Token
	shared bool
	unlock func(context.Context) error
}

// register is what a contended lock protects. It sees when the exclusion that the lock promises is broken, and how long
// the lock is on its way from one holder to the next.
type register struct {
	mu               sync.Mutex
	readers, writers int // that are inside
	// newest is the greatest token that has been here, exclusive the greatest of an exclusive grant.
	newest, exclusive locks.Token
	// given is when the last holder called Unlock; zero before the first one of a slice does.
	given time.Time
	// counting is from when on hand-offs are measured.
	counting   time.Time
	handOffs   *hdrhistogram.Histogram // of the slice, in nanoseconds
	acquired   []int64                 // by client
	violations int64
}

func newRegister(clients int) *register {
	return &register{handOffs: newHistogram(), acquired: make([]int64, clients)}
}

// begin starts a slice, in which hand-offs count after so long.
func (r *register) begin(warmup time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handOffs.Reset()
	r.given, r.counting = time.Time{}, time.Now().Add(warmup)
}

// client is what a contending client does again and again. It holds the lock for no longer than the register needs.
func (r *register) client(lock take) func(context.Context, int) error {
	return func(ctx context.Context, client int) error {
		g, err := lock(ctx, client)
		if err != nil {
			return err
		}
		r.enter(client, g, time.Now())
		r.leave(g)
		return g.unlock(ctx)
	}
}

// enter is a holder's first act: it writes its token, as to a resource that the lock protects.
func (r *register) enter(client int, g grant, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acquired[client]++
	if r.broken(g) {
		r.violations++
	}
	if g.token.Compare(r.newest) > 0 {
		r.newest = g.token
	}
	if g.shared {
		r.readers++
		return
	}
	r.writers++
	r.exclusive = r.newest
	if !r.given.IsZero() && now.After(r.counting) {
		// It cannot fail: the value is within the histogram's range.
		_ = r.handOffs.RecordValue(int64(min(max(now.Sub(r.given), shortest), longest)))
	}
}

// broken tells whether a grant breaks the lock's promise: a holder with the exclusive lock is alone and has a greater token than all
// before it, and one with the shared lock is with others of its kind and has a greater token than all exclusive ones before it.
func (r *register) broken(g grant) bool {
	if g.shared {
		return r.writers > 0 || g.token.Compare(r.exclusive) <= 0
	}
	return r.writers > 0 || r.readers > 0 || g.token.Compare(r.newest) <= 0
}

// leave is a holder's last act before it calls Unlock.
func (r *register) leave(g grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.shared {
		r.readers--
	} else {
		r.writers--
	}
	r.given = time.Now()
}

// jain is Jain's index of what the clients got: 1 when all have the same, 1/n when one of n has everything (Jain, Chiu and
// Hawe, "A quantitative measure of fairness", 1984).
func jain(shares []int64) float64 {
	sum, squares := 0.0, 0.0
	for _, share := range shares {
		sum += float64(share)
		squares += float64(share) * float64(share)
	}
	return ratio(sum*sum, float64(len(shares))*squares)
}
