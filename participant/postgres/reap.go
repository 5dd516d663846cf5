// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// reaper removes the markers of branches that were committed long ago, and nothing else.
//
// A marker is wanted as long as the outcome may come again, which is until the leader has had the done. A leader that is up sends
// what is owed at least every 30 s, so a marker is old when outcomes have been arriving for Keep since it could be seen. Time in which none
// arrive does not count (a coordinator that is down for a week has not heard the done); nor does another instance's, or that before the
// last start. Which markers could be seen then is what a snapshot says: a transaction may have been in doubt for long, and
// then be committed with a marker that was written days ago.
type reaper struct {
	committed atomic.Int64  // outcomes that were applied
	removed   atomic.Uint64 // markers

	mu        sync.Mutex
	last      time.Time     // of the last look
	seen      int64         // committed, at the last look
	active    time.Duration // time since the last snapshot in which outcomes arrived
	snapshots []string      // one for every slice of Keep in which outcomes arrived, oldest first
	ripe      string        // what this one sees can go; "" for none
}

const (
	parts    = 10              // of Keep; so many snapshots are remembered
	maxGap   = 5 * time.Second // what counts of the time between two looks
	maxReap  = 2000            // markers that one statement removes
	maxReaps = 5               // statements in one call
)

// tick notes that time has passed. It tells whether a snapshot is to be taken, and by which one markers are to be removed.
func (r *reaper) tick(now time.Time, keep time.Duration) (take bool, ripe string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	committed := r.committed.Load()
	if committed > r.seen && !r.last.IsZero() {
		r.active += min(now.Sub(r.last), maxGap)
	}
	r.seen, r.last = committed, now
	if len(r.snapshots) == 0 || r.active >= keep/parts {
		r.active = 0
		return true, r.ripe
	}
	return false, r.ripe
}

// took adds a snapshot. With it there are enough when the oldest one is Keep old.
func (r *reaper) took(snapshot string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snapshots = append(r.snapshots, snapshot)
	if len(r.snapshots) > parts {
		r.ripe, r.snapshots = r.snapshots[0], r.snapshots[1:]
	}
}

// done: nothing that the snapshot sees is left.
func (r *reaper) done(ripe string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ripe == ripe {
		r.ripe = ""
	}
}

// reap does a bounded piece of the work that is due.
func (s *Store) reap(ctx context.Context) error {
	take, ripe := s.reaper.tick(time.Now(), s.cfg.Keep)
	if take {
		var snapshot string
		if err := s.pool.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&snapshot); err != nil {
			return &failure{"taking a snapshot", err}
		}
		s.reaper.took(snapshot)
	}
	if ripe == "" {
		return nil
	}
	for range maxReaps {
		removed, err := s.pool.Exec(ctx, s.sql.reap, s.cfg.Name, ripe, maxReap)
		if err != nil {
			return &failure{"removing markers", err}
		}
		s.reaper.removed.Add(uint64(removed.RowsAffected()))
		if removed.RowsAffected() < maxReap {
			s.reaper.done(ripe)
			return nil
		}
	}
	return nil
}
