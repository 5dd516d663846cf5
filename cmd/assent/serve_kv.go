// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent/participant/kv"
)

// kvOptions are the flags of `assent serve` about transactions over key-value buckets.
type kvOptions struct {
	on      bool
	name    string
	buckets []string
}

// The time to wait for the participant before it is told that the process is ready, and before it is begun again after an error.
const (
	kvReady = 2 * time.Second
	kvPause = 5 * time.Second
)

// kvService is the participant of key-value buckets, if there is to be one. It stands by while another coordinator's does the work.
type kvService struct {
	s         *serving
	nc        *nats.Conn
	first     *kv.Participant
	collector kvCollector
	end       context.CancelFunc
	ended     chan struct{}
}

// openKV makes the participant that --kv asks for; nil without it.
func (s *serving) openKV(nc *nats.Conn) (*kvService, error) {
	if !s.kv.on {
		return nil, nil
	}
	p, err := s.newKV(nc)
	if err != nil {
		return nil, usageError(err)
	}
	k := &kvService{s: s, nc: nc, first: p, ended: make(chan struct{})}
	k.collector.current.Store(p)
	s.registry.MustRegister(&k.collector)
	s.report.KV = s.kv.name
	return k, nil
}

// start begins, and waits a moment until it takes part. It outlives the coordinator's context: what is open is to be decided before
// both end.
func (k *kvService) start(ctx context.Context) {
	if k == nil {
		return
	}
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	k.end = end
	go func() {
		defer close(k.ended)
		k.run(ctx)
	}()
	select {
	case <-k.first.Ready():
	case <-time.After(kvReady):
	}
}

// stop drains it.
func (k *kvService) stop() {
	if k == nil || k.end == nil {
		return
	}
	k.end()
	<-k.ended
}

// run takes part until ctx ends. What is wrong is logged, and tried again: the coordinator goes on without it.
func (k *kvService) run(ctx context.Context) {
	for p := k.first; ; {
		err := p.Run(ctx)
		if ctx.Err() != nil {
			if err != nil {
				k.s.log.WithError(err).Warn("the participant of key-value buckets did not end in order; nothing is lost by it")
			}
			return
		}
		k.s.log.WithError(err).Errorf("transactions over key-value buckets do not work; it is tried again in %v", kvPause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(kvPause):
		}
		if p, err = k.s.newKV(k.nc); err != nil {
			panic("assent: what was made before cannot be made again: " + err.Error())
		}
		k.collector.current.Store(p)
	}
}

func (s *serving) newKV(nc *nats.Conn) (*kv.Participant, error) {
	if s.kv.name == "" {
		return nil, errors.New("--kv-name: it cannot be empty")
	}
	return kv.New(nc, kv.Config{
		Name: s.kv.name, Prefix: s.Prefix, Buckets: s.kv.buckets, Replicas: s.replicas, Lease: s.lease, Instance: s.coordinatorName(), Log: s.log,
	})
}

// kvCollector gives the participant's figures to Prometheus.
type kvCollector struct {
	current atomic.Pointer[kv.Participant]
}

var (
	kvBranches  = prometheus.NewDesc("assent_kv_branches_total", "Branches over key-value buckets, by what became of them.", []string{"fate"}, nil)
	kvOpen      = prometheus.NewDesc("assent_kv_open", "Branches over key-value buckets that are prepared and not applied.", nil, nil)
	kvOldest    = prometheus.NewDesc("assent_kv_oldest_seconds", "Age of the oldest transaction of which a branch over key-value buckets is open; 0 when none is.", nil, nil)
	kvOvertaken = prometheus.NewDesc("assent_kv_overtaken_total", "Values of transactions in whose way a plain writer's value was.", nil, nil)
	kvFailed    = prometheus.NewDesc("assent_kv_apply_failures_total", "Attempts to apply a committed branch over key-value buckets that failed.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *kvCollector) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

// Collect implements prometheus.Collector.
func (c *kvCollector) Collect(to chan<- prometheus.Metric) {
	stats := c.current.Load().Stats()
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	counter(kvBranches, stats.Prepared, "prepared")
	counter(kvBranches, stats.Conflicts, "conflict")
	counter(kvBranches, stats.Applied, "applied")
	counter(kvOvertaken, stats.Overtaken)
	counter(kvFailed, stats.Failed)
	age := 0.0
	if !stats.Oldest.IsZero() {
		age = max(time.Since(stats.Oldest).Seconds(), 0)
	}
	to <- prometheus.MustNewConstMetric(kvOpen, prometheus.GaugeValue, float64(stats.Open))
	to <- prometheus.MustNewConstMetric(kvOldest, prometheus.GaugeValue, age)
}
