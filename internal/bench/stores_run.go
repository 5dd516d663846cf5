// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"
)

// storesBench is one run.
type storesBench struct {
	cfg    *StoresConfig
	report *StoresReport
	fail   context.CancelCauseFunc
	// before is what part of the run the stores before this one were, and spent and total are the time that this one's slices have taken
	// and will take in all.
	before       float64
	spent, total time.Duration
}

// stored is a store that runs, and what is measured of it.
type stored struct {
	rows []*storeRow
	// audit looks at the end whether nothing came or went that must not.
	audit func(context.Context) error
}

// storeRow is work by a number of clients, and its yardstick.
type storeRow struct {
	work, yardstick string
	clients         int
	// atLeast is the target of the ratio; 0 for none.
	atLeast      float64
	ours, theirs contender
	ratios       []float64
}

// contender is one of the two.
type contender struct {
	do        func(ctx context.Context, client int) error
	latencies *hdrhistogram.Histogram // in nanoseconds
	rates     []float64
	cpu       time.Duration
	errors    int64
	firstErr  error
	tries     tries
}

// tries counts what is tried again when it meets another transaction: attempts, and those of them that committed. Work that counts none has none.
type tries struct{ attempts, commits atomic.Int64 }

// conflicts is how many attempts there were for each commit, but for the one that committed.
func (t *tries) conflicts() float64 {
	commits := t.commits.Load()
	return ratio(float64(t.attempts.Load()-commits), float64(commits))
}

// cpuMS is this process's user and system time for each of what was done.
func (c *contender) cpuMS() float64 {
	return ratio(milliseconds(c.cpu.Nanoseconds()), float64(c.latencies.TotalCount()))
}

// newStoreRow gives a row; set the other fields.
func newStoreRow(work, yardstick string, clients int, atLeast float64) *storeRow {
	return &storeRow{
		work: work, yardstick: yardstick, clients: clients, atLeast: atLeast,
		ours: contender{latencies: newHistogram()}, theirs: contender{latencies: newHistogram()},
	}
}

// measure measures one store, on a NATS server of its own.
func (b *storesBench) measure(ctx context.Context, store string) (err error) {
	b.cfg.Progress(store+": starting", b.before)
	c := &cluster{metrics: prometheus.NewRegistry()}
	defer closeAfter(c, &err)
	cfg := &Config{Shards: 1, Connection: InProcess, Handler: Batch, Log: b.cfg.Log}
	if err := c.startServer(ctx, filepath.Join(b.cfg.Dir, "nats-"+store), cfg.Log); err != nil {
		return err
	}
	if c.tools, err = c.dial("bench"); err != nil {
		return err
	}
	if err := c.startCoordinator(ctx, cfg, b.fail); err != nil {
		return err
	}
	if err := c.startClient(ctx, cfg); err != nil {
		return err
	}
	starting := map[string]func(context.Context, *cluster) (*stored, error){StoreBank: b.bank, StorePostgres: b.postgres, StoreKV: b.kv}
	s, err := starting[store](ctx, c)
	if err != nil {
		return err
	}
	return b.rounds(ctx, c, store, s)
}

// clients are the numbers of clients to measure.
func (b *storesBench) clients(targets ...int) []int {
	if len(b.cfg.Clients) > 0 {
		return b.cfg.Clients
	}
	return targets
}

func (b *storesBench) rounds(ctx context.Context, c *cluster, store string, s *stored) error {
	slice := b.cfg.Duration / time.Duration(b.cfg.Rounds)
	b.spent, b.total = 0, time.Duration(2*b.cfg.Rounds*len(s.rows))*(slice+slice/warmupPart)
	for round := range b.cfg.Rounds {
		for _, r := range s.rows {
			order := []*contender{&r.theirs, &r.ours}
			if round%2 == 1 {
				order[0], order[1] = order[1], order[0]
			}
			for _, who := range order {
				step := fmt.Sprintf("round %d of %d: %s, %s, %s", round+1, b.cfg.Rounds, store, r.work, count(r.clients, "client"))
				if err := b.slice(ctx, c, step, r, who, slice); err != nil {
					return err
				}
			}
			r.ratios = append(r.ratios, ratio(r.ours.rates[round], r.theirs.rates[round]))
		}
	}
	open, err := c.settle(ctx)
	if err != nil {
		return err
	}
	b.report.OpenAfter += open
	if open == 0 && s.audit != nil {
		err = s.audit(ctx)
	}
	b.report.add(store, s, err)
	return nil
}

// slice measures a contender once, and lets it end what it has under way.
func (b *storesBench) slice(ctx context.Context, c *cluster, step string, r *storeRow, who *contender, d time.Duration) error {
	before := b.spent
	l := &loop{clients: r.clients, warmup: d / warmupPart, duration: d, do: who.do, progress: func(spent time.Duration) {
		part := min(1, float64(before+spent)/float64(b.total))
		b.cfg.Progress(step, b.before+part/float64(len(b.cfg.Stores)))
	}}
	b.spent += l.warmup + l.duration
	found, err := l.run(ctx)
	if err != nil {
		return err
	}
	who.latencies.Merge(found.latencies)
	who.rates = append(who.rates, found.perSecond)
	who.cpu += found.cpu
	who.errors += found.errors
	if who.firstErr == nil {
		who.firstErr = found.firstErr
	}
	_, err = c.settle(ctx)
	return err
}
