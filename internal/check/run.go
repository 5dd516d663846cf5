// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/internal/elle"
)

// Report is what a check found.
type Report struct {
	*elle.Report
	// Keys: operations named their keys.
	Keys bool `json:"keys"`
	// Conflicts is how often a transaction was tried again because another one was in the way; each such attempt counts as failed.
	Conflicts int64 `json:"conflicts"`
	// Faults is what went wrong, and how often.
	Faults map[string]int `json:"faults"`
	// Seconds is how long the load ran, and TPS the transactions that ended in a second of it, faults and all.
	Seconds float64 `json:"seconds"`
	TPS     float64 `json:"tps"`
}

// Run runs a check. No process outlives it. Anomalies are no error: the report has them.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := newCluster(&cfg, dir, cancel)
	if err == nil {
		report, err = c.check(ctx)
		c.close()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // a process that died, or the caller: what came of it is not of interest
	}
	return report, finish(&cfg, dir, report, err)
}

// makeDir gives an empty data directory.
func makeDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "assent-check-")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("directory %s is not empty: name a new one, so that nothing of yours is overwritten", dir)
	}
	return filepath.Abs(dir)
}

// finish removes the directory when nobody can want it, and else tells where it is.
func finish(cfg *Config, dir string, report *Report, err error) error {
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%w\nthe data and the logs are kept in %s", err, dir)
	case cfg.Dir != "":
		return err
	case report != nil && !report.OK() && !cfg.NoKeys:
		cfg.Event("the data and the logs are kept in " + dir)
		return nil
	default:
		return errors.Join(err, os.RemoveAll(dir))
	}
}

// check is the check on a cluster that has not been started.
func (c *cluster) check(ctx context.Context) (*Report, error) {
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	client, err := assent.New(c.nc, assent.Config{Prefix: c.cfg.Prefix}) //nolint:contextcheck // a client ends with Close
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:contextcheck // it takes none: it ends what the client began
	planner := newPlanner(c.cfg)
	recorder := newRecorder(c.cfg.History, planner.start())
	ear, err := listen(c.nc, recorder.fail)
	if err != nil {
		return nil, err
	}
	l := &load{cfg: c.cfg, client: client, planner: planner, recorder: recorder, ear: ear}
	if c.cfg.Workload == KV {
		if l.buckets, err = openBuckets(ctx, c.cfg, client, c.nc); err != nil {
			return nil, err
		}
	}
	report := &Report{Keys: !c.cfg.NoKeys}
	if err := c.suffer(ctx, l, report); err != nil {
		return nil, err
	}
	l.readAll(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	report.Conflicts = l.conflicts.Load()
	history, err := recorder.history()
	if err == nil && l.buckets != nil {
		err = l.buckets.remove(ctx, c.nc)
	}
	if err == nil {
		err = c.settle(ctx)
	}
	if err == nil {
		err = c.stop()
	}
	if err != nil {
		return nil, err
	}
	c.cfg.Progress("looking for anomalies", 1)
	report.Report = elle.Check(history, elle.Options{})
	return report, nil
}

// suffer runs the load while things go wrong.
func (c *cluster) suffer(ctx context.Context, l *load, report *Report) error {
	t := newTrouble(c.cfg, c, l.ended.Load)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	faulty, calm := context.WithCancel(ctx)
	defer calm()
	began := time.Now()
	events := make(chan string, 16)
	var running sync.WaitGroup
	running.Go(func() {
		if err := t.run(faulty, func(said string) { events <- said }); err != nil {
			fail(err)
		}
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx, func(begun int64) bool {
			return c.enough(begun, time.Since(began)) && t.all()
		})
		calm()
		running.Wait()
	}()
	c.watch(l, began, events, ended)
	report.Seconds = time.Since(began).Seconds()
	report.TPS = float64(l.ended.Load()) / report.Seconds
	report.Faults = t.counts()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// enough: the load has run as long as it has to at least.
func (c *cluster) enough(begun int64, after time.Duration) bool {
	return begun >= int64(c.cfg.Transactions) && after >= c.cfg.Duration
}

// watch tells of the load until it has ended.
func (c *cluster) watch(l *load, began time.Time, events <-chan string, ended <-chan struct{}) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case said := <-events:
			c.cfg.Event(said)
		case <-ticker.C:
			done := 1.0
			if c.cfg.Transactions > 0 {
				done = min(done, float64(l.ended.Load())/float64(c.cfg.Transactions))
			}
			if c.cfg.Duration > 0 {
				done = min(done, time.Since(began).Seconds()/c.cfg.Duration.Seconds())
			}
			c.cfg.Progress("transactions", done)
		case <-ended:
			for len(events) > 0 {
				c.cfg.Event(<-events)
			}
			return
		}
	}
}
