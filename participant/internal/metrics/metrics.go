// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one figure of an S.
type Metric[S any] struct {
	Name, Help string
	// Labels are constant ones, beside that of the participant.
	Labels prometheus.Labels
	Type   prometheus.ValueType
	Value  func(S) float64
}

// Collector is a prometheus.Collector of an S. Its methods may be called by many goroutines at once.
type Collector[S any] struct {
	stats   func(context.Context) (S, error)
	metrics []Metric[S]
	descs   []*prometheus.Desc // those of the metrics

	mu      sync.Mutex
	current *reading[S] // nil while nobody reads
}

// reading is one call of stats, for all who collect meanwhile.
type reading[S any] struct {
	done  chan struct{}
	stats S
	err   error
}

// The time that stats has, and how long it is waited for beyond that: a driver may not listen to its context.
const (
	patience = 2 * time.Second
	grace    = 500 * time.Millisecond
)

// New gives a collector of what stats gives of a participant. The first metric stands for all when that is an error.
func New[S any](participant string, stats func(context.Context) (S, error), metrics []Metric[S]) *Collector[S] {
	c := &Collector[S]{stats: stats, metrics: metrics}
	for _, m := range metrics {
		labels := prometheus.Labels{"participant": participant}
		for name, value := range m.Labels {
			labels[name] = value
		}
		c.descs = append(c.descs, prometheus.NewDesc(m.Name, m.Help, nil, labels))
	}
	return c
}

// Now makes of statistics that are at hand such as New takes.
func Now[S any](stats func() S) func(context.Context) (S, error) {
	return func(context.Context) (S, error) { return stats(), nil }
}

// Describe implements prometheus.Collector.
func (c *Collector[S]) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector[S]) Collect(to chan<- prometheus.Metric) {
	stats, err := c.read()
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.descs[0], err)
		return
	}
	for i, m := range c.metrics {
		to <- prometheus.MustNewConstMetric(c.descs[i], m.Type, m.Value(stats))
	}
}

// read waits for a call of stats: that which is under way, or a new one.
func (c *Collector[S]) read() (stats S, err error) {
	c.mu.Lock()
	r := c.current
	if r == nil {
		r = &reading[S]{done: make(chan struct{})}
		c.current = r
		go c.call(r)
	}
	c.mu.Unlock()
	late := time.NewTimer(patience + grace)
	defer late.Stop()
	select {
	case <-r.done:
		return r.stats, r.err
	case <-late.C:
		return stats, fmt.Errorf("no answer within %v", patience+grace)
	}
}

func (c *Collector[S]) call(r *reading[S]) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.stats, r.err = c.stats(ctx)
	c.mu.Lock()
	c.current = nil
	c.mu.Unlock()
	close(r.done)
}

// Age is that of what began at a time, in seconds; 0 for the zero time, and for one to come.
func Age(since time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return max(time.Since(since).Seconds(), 0)
}
