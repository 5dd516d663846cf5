// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The modes of a LocksRow.
const (
	uncontended = "uncontended"
	contended   = "contended"
	sharedMode  = "shared"
)

// sharedClients are the clients of the shared row: the last one writes, the others read.
const sharedClients = 16

// locksBench is one run.
type locksBench struct {
	cfg     *LocksConfig
	cluster *lockCluster
	// The yardstick.
	raw1, raw64, raw64x8 *lockMeasure
	// The rows that are held against it, and all of them.
	alone1, alone64, contended16 *lockMeasure
	rows                         []*lockMeasure
	// order is in which a round measures.
	order []*lockMeasure
	// total is the time that the run will take about, and spent what the slices before this one have taken.
	total, spent time.Duration
}

// lockMeasure is something that is measured, a slice in each round.
type lockMeasure struct {
	step     string
	mode     string // empty when it is of the yardstick
	clients  int
	do       func(ctx context.Context, client int) error
	register *register // nil when it is not contended

	latencies *hdrhistogram.Histogram // in nanoseconds
	handOffs  *hdrhistogram.Histogram // in nanoseconds; nil when it is not contended
	elapsed   time.Duration
	errors    int64
	firstErr  error
	samples   []sliced
}

// sliced is what one slice found; times are in milliseconds.
type sliced struct{ perSecond, p50, handOffP50, handOffP99 float64 }

func newLocksBench(cfg *LocksConfig, c *lockCluster) *locksBench {
	b := &locksBench{
		cfg: cfg, cluster: c,
		raw1:    newMeasure("", 1, c.publish(1)),
		raw64:   newMeasure("", lockClients, c.publish(1)),
		raw64x8: newMeasure("", lockClients, c.publish(lockRawStreams)),
	}
	b.raw1.step, b.raw64.step, b.raw64x8.step = "raw, 1 publisher", "raw, 64 publishers", "raw, 64 publishers, 8 streams"
	b.alone1, b.alone64, b.contended16 = b.alone(1), b.alone(lockClients), b.contended(16)
	alone16, crowd, readers := b.alone(16), b.contended(lockClients), b.shared()
	b.rows = []*lockMeasure{b.alone1, alone16, b.alone64, b.contended16, crowd, readers}
	// Each beside what it is held against.
	b.order = []*lockMeasure{b.alone1, b.raw1, b.contended16, alone16, b.raw64, crowd, readers, b.raw64x8, b.alone64}
	slice, warmup := b.slice()
	b.total = time.Duration(cfg.Rounds*len(b.order)) * (slice + warmup)
	return b
}

func newMeasure(mode string, clients int, do func(context.Context, int) error) *lockMeasure {
	return &lockMeasure{step: mode + ", " + count(clients, "client"), mode: mode, clients: clients, do: do, latencies: newHistogram()}
}

func (b *locksBench) alone(clients int) *lockMeasure {
	return newMeasure(uncontended, clients, b.cluster.pair)
}

func (b *locksBench) contended(clients int) *lockMeasure {
	lock := b.cluster.lock(fmt.Sprintf("contended-%d", clients), func(int) bool { return false })
	return newContended(contended, clients, lock)
}

func (b *locksBench) shared() *lockMeasure {
	lock := b.cluster.lock("shared", func(client int) bool { return client < sharedClients-1 })
	return newContended(sharedMode, sharedClients, lock)
}

func newContended(mode string, clients int, lock take) *lockMeasure {
	r := newRegister(clients)
	m := newMeasure(mode, clients, r.client(lock))
	m.register, m.handOffs = r, newHistogram()
	return m
}

// slice is how long each measure is measured in a round, and the warm-up before.
func (b *locksBench) slice() (slice, warmup time.Duration) {
	slice = b.cfg.Duration / time.Duration(b.cfg.Rounds)
	return slice, slice / warmupPart
}

func (b *locksBench) run(ctx context.Context) error {
	for round := range b.cfg.Rounds {
		order := slices.Clone(b.order)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, m := range order {
			if err := b.measure(ctx, m, round+1); err != nil {
				return err
			}
		}
		if err := b.cluster.empty(ctx); err != nil {
			return err
		}
	}
	b.cfg.Progress("done", 1)
	return nil
}

// measure measures a slice.
func (b *locksBench) measure(ctx context.Context, m *lockMeasure, round int) error {
	slice, warmup := b.slice()
	step, before := fmt.Sprintf("round %d of %d: %s", round, b.cfg.Rounds, m.step), b.spent
	l := &loop{clients: m.clients, warmup: warmup, duration: slice, do: m.do, progress: func(spent time.Duration) {
		b.cfg.Progress(step, min(1, float64(before+spent)/float64(b.total)))
	}}
	b.spent += slice + warmup
	if m.register != nil {
		m.register.begin(warmup)
	}
	found, err := l.run(ctx)
	if err != nil {
		return err
	}
	m.add(found)
	if m.mode == "" && m.errors > 0 {
		return fmt.Errorf("raw publish: %w", m.firstErr)
	}
	return nil
}

// add takes what a slice found.
func (m *lockMeasure) add(found *measured) {
	m.latencies.Merge(found.latencies)
	if found.perSecond > 0 {
		m.elapsed += time.Duration(float64(found.latencies.TotalCount()) / found.perSecond * float64(time.Second))
	}
	m.errors += found.errors
	if m.firstErr == nil {
		m.firstErr = found.firstErr
	}
	sample := sliced{perSecond: found.perSecond, p50: found.quantile(50)}
	if m.register != nil {
		handOffs := m.register.handOffs
		m.handOffs.Merge(handOffs)
		sample.handOffP50, sample.handOffP99 = milliseconds(handOffs.ValueAtQuantile(50)), milliseconds(handOffs.ValueAtQuantile(99))
	}
	m.samples = append(m.samples, sample)
}

func (m *lockMeasure) perSecond() float64 {
	return ratio(float64(m.latencies.TotalCount()), m.elapsed.Seconds())
}

// quantile is a latency in milliseconds.
func (m *lockMeasure) quantile(percent float64) float64 {
	return milliseconds(m.latencies.ValueAtQuantile(percent))
}
