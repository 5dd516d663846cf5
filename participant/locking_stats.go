// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"time"

	"github.com/assent-tx/assent/internal/protocol"
)

// KeyStats says how branches fare at this instance's keys.
type KeyStats struct {
	// Holding counts the branches that hold keys now, Waiting those that wait for some.
	Holding, Waiting int
	// Oldest is how long the one has waited that has waited longest; zero when none waits.
	Oldest time.Duration
	// Waited counts the branches that had to wait; Wounded those that gave way, or were to, to an older one; Crowded those that were
	// turned away because too many waited; TurnedAway those that met a held key with Config.NoWait. All since New.
	Waited, Wounded, Crowded, TurnedAway uint64

	refuses bool // the handler cannot isolate, and that was logged
}

// KeyStats tells of the keys, now.
func (p *Participant) KeyStats() KeyStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := p.locks.stats
	stats.Holding, stats.Waiting = p.locks.table.Len()
	if came := p.locks.table.Oldest(); stats.Waiting > 0 {
		stats.Oldest = time.Duration(max(p.clock.Now()-came, 0)) * time.Millisecond
	}
	return stats
}

// tellKeys is the time between two lines of the log about keys.
const tellKeys = 10 * time.Second

// logKeys tells an operator when branches wait, or had to be turned away.
func (p *Participant) logKeys(ctx context.Context) {
	var told KeyStats
	every(ctx, tellKeys, func() {
		now := p.KeyStats()
		if now.Waiting == 0 && now.Wounded == told.Wounded && now.Crowded == told.Crowded && now.TurnedAway == told.TurnedAway {
			return
		}
		p.log.WithField("holding", now.Holding).WithField("waiting", now.Waiting).WithField("oldest", now.Oldest).
			WithField("waited", now.Waited-told.Waited).WithField("wounded", now.Wounded-told.Wounded).
			WithField("crowded", now.Crowded-told.Crowded).WithField("turned_away", now.TurnedAway-told.TurnedAway).Info("transactions wait for keys")
		told = now
	})
}

// tick does what has become due.
func (p *Participant) tick() {
	p.do(func(b *protocol.Branches, now int64) {
		b.Tick(now)
		p.locks.table.Tick(now)
	})
}
