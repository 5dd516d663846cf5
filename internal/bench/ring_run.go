// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// ringBench is one run.
type ringBench struct {
	cfg  *RingConfig
	rows []*ringRow
	// keys are what balance and movement are found with.
	keys   []string
	pair   *requestPair
	batch  *batchLoad
	spread *spreadLoad
	// total is the time that the run will take about, and spent what is over of it.
	total, spent time.Duration
}

// What there is besides the slices that have a duration, about: it only moves the bar of progress.
const (
	aboutBalance  = 500 * time.Millisecond
	aboutMovement = 500 * time.Millisecond
	aboutChange   = 20 * time.Millisecond
)

func newRingBench(cfg *RingConfig) *ringBench {
	b := &ringBench{cfg: cfg}
	// As many partitions as are fit for so many nodes: the default, but 64 for each.
	for _, size := range []struct{ nodes, partitions int }{{10, 4096}, {100, 4096}, {1000, 64_000}} {
		b.rows = append(b.rows, newRingRow(size.nodes, size.partitions))
	}
	b.total = 2 * cfg.Duration // requests with one key, and with many
	for range b.rows {
		b.total += cfg.Duration + aboutMovement
	}
	for range cfg.Rounds {
		b.total += aboutBalance + time.Duration(cfg.Changes)*aboutChange
	}
	return b
}

// slice is how long each part is measured in a round.
func (b *ringBench) slice() time.Duration { return b.cfg.Duration / time.Duration(b.cfg.Rounds) }

// tell tells the step, of which so much is over.
func (b *ringBench) tell(step string, within time.Duration) {
	b.cfg.Progress(step, min(1, float64(b.spent+within)/float64(b.total)))
}

// part does a part of the run that takes about so long, unless the run is to end.
func (b *ringBench) part(ctx context.Context, step string, about time.Duration, do func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.tell(step, 0)
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	b.spent += about
	return nil
}

// rounds calls each part of the run in every round, and every other round the other way about.
func (b *ringBench) rounds(parts []func(round int) error) error {
	for round := range b.cfg.Rounds {
		order := slices.Clone(parts)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, part := range order {
			if err := part(round + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *ringBench) step(round int, what string) string {
	return fmt.Sprintf("round %d of %d: %s", round, b.cfg.Rounds, what)
}

// tables measures what needs no server.
func (b *ringBench) tables(ctx context.Context) error {
	b.keys = ringKeys(0, b.cfg.Keys)
	var parts []func(int) error
	for _, r := range b.rows {
		parts = append(parts, func(round int) error {
			return b.part(ctx, b.step(round, "lookups, "+count(r.nodes, "node")), b.slice(), func() error {
				if err := r.build(); err != nil {
					return err
				}
				r.lookups(lookupKeys(b.keys), b.slice())
				return nil
			})
		})
	}
	if err := b.rounds(parts); err != nil {
		return err
	}
	for round := range b.cfg.Rounds {
		if err := b.part(ctx, b.step(round+1, "balance"), aboutBalance, func() error {
			keys := ringKeys(round, b.cfg.Keys)
			for _, r := range b.rows {
				r.balance(keys)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, r := range b.rows {
		if err := b.part(ctx, "movement, "+count(r.nodes, "node"), aboutMovement, func() error { return r.movement(b.keys) }); err != nil {
			return err
		}
	}
	return nil
}

// ringKeys are so many keys, other ones for each set.
func ringKeys(set, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = "customer/" + strconv.Itoa(set*n+i)
	}
	return keys
}

// requests measures what needs a server.
func (b *ringBench) requests(ctx context.Context, c *ringCluster) error {
	b.pair, b.batch, b.spread = newRequestPair(c), newBatchLoad(c, b.keys), newSpreadLoad(c)
	return b.rounds([]func(int) error{
		func(round int) error { return b.loop(ctx, b.step(round, "requests with one key"), b.pair) },
		func(round int) error { return b.loop(ctx, b.step(round, "requests with many keys"), b.batch) },
		func(round int) error {
			step := b.step(round, "changes heard by "+count(b.cfg.Followers, "follower"))
			return b.part(ctx, step, time.Duration(b.cfg.Changes)*aboutChange, func() error {
				return b.spread.measure(ctx, b.cfg.Changes)
			})
		},
	})
}

// load is what a closed loop does again and again.
type load interface {
	begin(warmup time.Duration)
	do(ctx context.Context, client int) error
	end(found *measured)
}

// loop measures a slice of a load, by one client, after a warm-up.
func (b *ringBench) loop(ctx context.Context, step string, load load) error {
	return b.part(ctx, step, b.slice(), func() error {
		warmup := b.slice() / warmupPart
		load.begin(warmup)
		l := &loop{clients: 1, warmup: warmup, duration: b.slice() - warmup, do: load.do, progress: func(spent time.Duration) { b.tell(step, spent) }}
		found, err := l.run(ctx)
		if err != nil {
			return err
		}
		load.end(found)
		return nil
	})
}
