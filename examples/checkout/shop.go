// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/outbox"
)

// shop is everything: NATS, a coordinator, the four services and their stores.
type shop struct {
	stores   *stores
	server   *embedded.Server
	nc       *nats.Conn
	js       jetstream.JetStream
	provider *Provider
	client   *assent.Client

	end     context.CancelFunc // of what runs
	running sync.WaitGroup
	mu      sync.Mutex
	errs    []error
}

// open starts the shop in a folder.
func open(ctx context.Context, cfg config, dir string, out io.Writer) (s *shop, err error) {
	s = &shop{provider: &Provider{payments: make(map[string]*charge), limits: map[string]int64{"4000-01": 20_000, "4000-02": 1_000}}}
	defer func() { //nolint:contextcheck // also when ctx has ended
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.stores, err = openStores(ctx, cfg, dir, out); err != nil {
		return s, err
	}
	if s.server, err = embedded.Start(embedded.Config{Dir: filepath.Join(dir, "nats")}); err != nil {
		return s, err
	}
	if s.nc, err = s.server.Connect(); err != nil {
		return s, err
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return s, err
	}
	return s, s.start(ctx)
}

// start runs the coordinator and the services until close.
func (s *shop) start(ctx context.Context) error {
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end
	lead, err := coordinator.New(s.nc, coordinator.Config{})
	if err != nil {
		return err
	}
	if err := s.run(running, "coordinator", lead); err != nil {
		return err
	}
	orders, err := openOrders(ctx, s.stores.orders)
	if err != nil {
		return err
	}
	stock, err := openStock(ctx, s.stores.stock, s.stores.dialect)
	if err != nil {
		return err
	}
	for name, handler := range map[string]participant.Handler{"orders": orders, "stock": stock, "payments": &payments{s.provider}} {
		p, err := participant.New(s.nc, participant.Config{Name: name, Handler: handler, Concurrency: places})
		if err != nil {
			return err
		}
		if err := s.run(running, name, p); err != nil {
			return err
		}
	}
	_, err = s.js.CreateStream(ctx, jetstream.StreamConfig{Name: "CONFIRMATIONS", Subjects: []string{"confirmations.mail"}})
	if err != nil {
		return err
	}
	box, err := outbox.New(s.nc, outbox.Config{})
	if err != nil {
		return err
	}
	if err := s.run(running, "outbox", box); err != nil {
		return err
	}
	s.client, err = assent.New(s.nc, assent.Config{}) //nolint:contextcheck // it lives until it is closed
	return err
}

// life is what a coordinator, a participant and an outbox have in common.
type life interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
}

// run runs one of them until ctx ends, and returns when it takes part.
func (s *shop) run(ctx context.Context, name string, l life) error {
	over := make(chan error, 1)
	s.running.Go(func() {
		err := l.Run(ctx)
		over <- err
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
		}
	})
	select {
	case <-l.Ready():
		return nil
	case err := <-over:
		return fmt.Errorf("%s has ended: %w", name, err)
	}
}

// close ends everything, in the order in which each still has what it needs.
func (s *shop) close() error {
	if s.client != nil {
		s.client.Close()
	}
	if s.end != nil {
		s.end()
	}
	s.running.Wait()
	errs := s.errs
	if s.nc != nil {
		s.nc.Close()
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	if s.stores != nil {
		errs = append(errs, s.stores.close())
	}
	return errors.Join(errs...)
}

// place orders: all four, or none.
func (s *shop) place(ctx context.Context, p purchase) error {
	tx := s.client.Begin()
	tx.Enlist("orders", Order{ID: p.id, Customer: p.customer, Item: "lamp", Pieces: p.pieces, Cents: p.cents()})
	tx.Enlist("stock", Reservation{Item: "lamp", Pieces: int64(p.pieces)})
	tx.Enlist("payments", Payment{Card: p.card, Cents: p.cents()})
	outbox.Publish(tx, "outbox", outbox.Message{
		Subject: "confirmations." + p.channel, Data: fmt.Appendf(nil, "%s, your order %d is on its way", p.customer, p.id),
	})
	return tx.Commit(ctx)
}

// settled waits until nothing is under way any more: a client hears of an outcome a moment before all services have applied it.
func (s *shop) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the services did not apply the outcome within a minute"))
	defer cancel()
	for {
		reply, err := s.nc.RequestWithContext(ctx, "assent.api.participants", nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var now coordinator.ParticipantsResponse
		if err == nil {
			err = json.Unmarshal(reply.Data, &now)
		}
		if err != nil {
			return err
		}
		left := 0
		for _, p := range now.Participants {
			left += p.PendingPrepares + p.PendingOutcomes + p.InDoubt
		}
		if left == 0 {
			return nil
		}
	}
}

// state is what all stores show.
type state struct {
	orders         []Order
	free, reserved int64
	taken, holds   int64
	confirmed      uint64
}

func (s *shop) look(ctx context.Context) (now state, err error) {
	if now.orders, err = listOrders(ctx, s.stores.orders); err != nil {
		return now, err
	}
	if now.free, now.reserved, err = countLamps(ctx, s.stores.stock); err != nil {
		return now, err
	}
	now.taken, now.holds = s.provider.totals()
	stream, err := s.js.Stream(ctx, "CONFIRMATIONS")
	if err != nil {
		return now, err
	}
	now.confirmed = stream.CachedInfo().State.Msgs
	return now, nil
}
