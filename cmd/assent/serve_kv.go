// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

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
	s     *serving
	nc    *nats.Conn
	first *kv.Participant
	end   context.CancelFunc
	ended chan struct{}
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
	s.registry.MustRegister(p)
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
		k.s.registry.Unregister(p)
		if p, err = k.s.newKV(k.nc); err != nil {
			panic("assent: what was made before cannot be made again: " + err.Error())
		}
		k.s.registry.MustRegister(p)
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
