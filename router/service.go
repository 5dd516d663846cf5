// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// ServiceConfig says how a routing service runs. The zero ServiceConfig will do.
type ServiceConfig struct {
	Config
	// TTL is how long there may be no steward when the one that there is dies, 1 s to 1 h; default 5 s. Rings stay in force meanwhile.
	TTL time.Duration
	// Name says who it is, to people who look at locks and services; at most 64 bytes; default host:pid.
	Name string
}

// Bounds and default of ServiceConfig.TTL.
const (
	minTTL     = time.Second
	maxTTL     = time.Hour
	defaultTTL = 5 * time.Second
	maxOwner   = 64
)

func (cfg ServiceConfig) withDefaults() (ServiceConfig, error) {
	var err error
	if cfg.Config, err = cfg.Config.withDefaults(); err != nil {
		return cfg, err
	}
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.TTL < minTTL || cfg.TTL > maxTTL {
		return cfg, fmt.Errorf("router: %w: TTL %s: want %s to %s", ErrInvalid, cfg.TTL, minTTL, maxTTL)
	}
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		cfg.Name = fmt.Sprintf("%.48s:%d", host, os.Getpid())
	}
	if len(cfg.Name) > maxOwner {
		return cfg, fmt.Errorf("router: %w: Name has %d bytes, at most %d are allowed", ErrInvalid, len(cfg.Name), maxOwner)
	}
	return cfg, nil
}

// Service answers who owns which key and takes operators' changes, for programs in any language, as a NATS micro service; and
// one of all that run is the steward, who computes the next ring when nodes come, go or have handed over. Several share
// nothing, and may run for one prefix. While none runs, rings stay in force: only nothing changes.
type Service struct {
	cfg    ServiceConfig
	nc     *nats.Conn
	s      *store
	groups *Groups
	client *Client
	ready  chan struct{}

	waiting chan struct{} // a place for each who waits
	workers chan struct{} // a place for each request of the API in work
	answers sync.WaitGroup
}

// NewService gives a service on a connection, which stays the caller's and must outlive Run; it should reconnect for ever. It
// checks cfg; nothing is sent yet.
func NewService(nc *nats.Conn, cfg ServiceConfig) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := newStore(nc, cfg.Config)
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg: cfg, nc: nc, s: s, groups: &Groups{s}, client: newClient(s), ready: make(chan struct{}),
		waiting: make(chan struct{}, maxWaiting), workers: make(chan struct{}, apiWorkers),
	}, nil
}

// Ready is closed once the service answers.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Run opens the rings, making their bucket if need be, answers, and is the steward when no other is, until ctx ends. It
// returns nil after that, and an error when it cannot go on: unsafe settings of a bucket (ErrSettings, locks.ErrSettings),
// or JetStream out of reach at the start. It must be called once.
func (s *Service) Run(ctx context.Context) error {
	defer s.client.Close()
	if err := s.s.open(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	close(s.ready)
	return newSteward(s.s, &s.cfg).run(ctx)
}
