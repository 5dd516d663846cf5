// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Run measures. When ctx ends, it stops in order and gives ctx's error. Transactions that fail are no error of Run's: see
// Report.Errors and Report.OpenAfter.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	cfg.Progress("starting", 0)
	c, err := startCluster(ctx, &cfg, fail)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() {
		if closing := c.close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("bench: %w", closing))
		}
	}()
	b := &bench{cfg: &cfg, cluster: c, report: newReport(&cfg), total: plan(&cfg)}
	if err := b.run(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return b.report, nil
}

// bench is one run.
type bench struct {
	cfg     *Config
	cluster *cluster
	report  *Report
	// total is the time that the run will take about, and spent what the loops before this one have taken.
	total, spent time.Duration
}

// sampleOf is how long the yardstick's 64 publishers are measured each time; the one publisher has half of it.
func sampleOf(cfg *Config) time.Duration { return cfg.Duration / 4 }

// plan is how long a run takes about.
func plan(cfg *Config) time.Duration {
	rows, sample := len(cfg.Concurrency), sampleOf(cfg)
	many, one := sample+sample/warmupPart, sample/2+sample/2/warmupPart
	return time.Duration(rows)*(cfg.Warmup+cfg.Duration) + time.Duration(rows+1)*(many+one) + 2*probes*many
}

func (b *bench) run(ctx context.Context) error {
	raw, err := newYardstick(ctx, b.cluster.server.URL(), b.cfg.Payload)
	if err != nil {
		return err
	}
	defer raw.close()
	raw.progress = b.track
	if b.report.Raw.Connections, err = raw.choose(ctx, sampleOf(b.cfg)); err != nil {
		return err
	}
	if err := b.sample(ctx, raw); err != nil {
		return err
	}
	for _, clients := range b.cfg.Concurrency {
		if err := b.row(ctx, clients); err != nil {
			return err
		}
		if err := b.sample(ctx, raw); err != nil {
			return err
		}
	}
	b.report.OpenAfter, err = b.cluster.settle(ctx)
	b.report.compare()
	b.cfg.Progress("done", 1)
	return err
}

func (b *bench) sample(ctx context.Context, raw *yardstick) error {
	sample, err := raw.sample(ctx, b.report.Raw.Connections, sampleOf(b.cfg))
	b.report.Raw.Samples = append(b.report.Raw.Samples, sample)
	return err
}

// track makes a loop tell its progress as part of the run's.
func (b *bench) track(step string, l *loop) {
	before := b.spent
	b.spent += l.warmup + l.duration
	l.progress = func(spent time.Duration) {
		b.cfg.Progress(step, min(1, float64(before+spent)/float64(b.total)))
	}
}

// row measures one number of clients.
func (b *bench) row(ctx context.Context, clients int) error {
	messagesBefore, recordsBefore, err := b.cluster.written(ctx)
	if err != nil {
		return err
	}
	l := &loop{clients: clients, warmup: b.cfg.Warmup, duration: b.cfg.Duration, do: b.transaction()}
	b.track(count(clients, "client"), l)
	m, err := l.run(ctx)
	if err != nil {
		return err
	}
	if _, err := b.cluster.settle(ctx); err != nil { // so that all of the row's records are counted, and none in the next row
		return err
	}
	messagesAfter, recordsAfter, err := b.cluster.written(ctx)
	if err != nil {
		return err
	}
	votes := float64(m.succeeded) * float64(b.cfg.Participants)
	row := Row{
		Concurrency: clients, TPS: m.perSecond, P50MS: m.quantile(50), P95MS: m.quantile(95), P99MS: m.quantile(99),
		Errors: m.errors, RecordsPerMessage: ratio(recordsAfter-recordsBefore+votes, float64(messagesAfter-messagesBefore)),
		CPUMSPerTx: ratio(milliseconds(m.cpu.Nanoseconds()), float64(m.latencies.TotalCount())), latencies: m.latencies,
	}
	if m.firstErr != nil {
		row.FirstError = m.firstErr.Error()
	}
	b.report.Rows = append(b.report.Rows, row)
	return nil
}

// transaction is what a client does again and again: the same operation for every participant.
func (b *bench) transaction() func(context.Context, int) error {
	payload := jsonString(b.cfg.Payload)
	value := payload[1 : len(payload)-1]
	client, names := b.cluster.client, b.cluster.names
	return func(ctx context.Context, _ int) error {
		tx := client.Begin()
		for _, name := range names {
			tx.Enlist(name, value)
		}
		return tx.Commit(ctx)
	}
}
