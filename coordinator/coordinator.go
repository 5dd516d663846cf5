// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
)

// Coordinator leads the shards of a cluster and answers queries about them. See New.
type Coordinator struct {
	cfg         Config
	nc          *nats.Conn
	js          jetstream.JetStream
	subjects    messages.Subjects
	checkpoints checkpoints
	registry    registry
	metrics     *metrics
	share       *share
	leaders     []*leader
	ready       chan struct{}
	once        sync.Once

	openSession   func(context.Context) (session, error)
	route         func(context.Context) (stop func())
	openRings     func() (from rings, stop func(), err error)
	sessions      sessions
	shardHandlers map[string]shardHandler
	shardWorkers  chan struct{}
}

// New gives a coordinator on a connection, which stays the caller's and must outlive Run. It checks cfg; nothing is sent
// yet.
func New(nc *nats.Conn, cfg Config) (*Coordinator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	metrics, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("coordinator: metrics: %w", err)
	}
	c := &Coordinator{
		cfg: cfg, nc: nc, js: js, subjects: messages.Subjects{Prefix: cfg.Prefix},
		metrics: metrics, share: newShare(nc, &cfg, metrics), ready: make(chan struct{}),
		sessions: sessions{changed: make(chan struct{})}, shardWorkers: make(chan struct{}, apiWorkers),
		shardHandlers: map[string]shardHandler{
			"participants": inShard((*leader).describe),
			"tx.show":      inShard((*leader).show),
			"tx.list":      inShard((*leader).list),
			"tx.abort":     inShard((*leader).abort),
			"tx.retry":     inShard((*leader).retry),
		},
	}
	c.openSession, c.route, c.openRings = c.openLeases, c.startRouting, c.openClient
	return c, nil
}

// Ready is closed once every shard has been read and has a leader, this coordinator or another one for which it stands by, and
// the API answers.
func (c *Coordinator) Ready() <-chan struct{} { return c.ready }

// Healthy is nil while the coordinator can do its work, leading or standing by; the error says why it cannot.
func (c *Coordinator) Healthy() error {
	if !c.nc.IsConnected() {
		return fmt.Errorf("not connected to NATS: %s", c.nc.Status())
	}
	select {
	case <-c.ready:
	default:
		return errors.New("the shards' logs are being replayed, or have no leader yet")
	}
	if !c.sessions.live() {
		return errors.New("the session of the leases is lost, and another one is being opened")
	}
	return nil
}

// Leads are the shards that this coordinator leads now, in order; for the others it stands by.
func (c *Coordinator) Leads() []int { return c.share.shards() }

// Shards is how many shards there are.
func (c *Coordinator) Shards() int { return c.cfg.Shards }

// Run leads the shards that it is granted the leases of, and stands by for the others, until ctx ends. Then it hands over what
// it leads, if there is another coordinator, or drains: open transactions get Config.DrainTimeout to be decided, who still
// waits is told to ask again, and a checkpoint is left. It returns nil after that, and an error when the coordinator
// cannot go on: a log that lost data (ErrLogLost), unsafe settings (ErrStreamSettings, locks.ErrSettings), a record of a newer
// protocol version, or JetStream out of reach at the start. It must be called once.
func (c *Coordinator) Run(ctx context.Context) error {
	streams, err := c.openStorage(ctx)
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for shard, stream := range streams {
		c.leaders = append(c.leaders, newLeader(c, shard, stream))
	}
	c.share.leaders = c.leaders
	stopRegistry, err := c.registry.watch(ctx, c.onRegistered)
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	defer stopRegistry()
	defer c.closeSession(ctx)
	var running sync.WaitGroup
	errs := make(chan error, len(c.leaders)+3) // all parts, and the API
	run := func(f func() error) {
		running.Go(func() {
			err := f()
			if err != nil {
				cancel(err) // a coordinator that lost a part does not pretend to be whole
			}
			errs <- err
		})
	}
	stopRouting := c.route(ctx)
	run(func() error { return c.keepSession(ctx) })
	run(func() error { return c.share.run(ctx) })
	for _, l := range c.leaders {
		run(func() error { return l.run(ctx) })
		running.Go(func() { c.campaign(ctx, l) })
	}
	stopAPI, err := c.serveWhenLed(ctx)
	if err != nil {
		cancel(err)
	}
	running.Wait()
	if stopAPI != nil {
		stopAPI()
	}
	stopRouting()
	errs <- err
	close(errs)
	if err := failureOf(errs); err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	return nil
}

// failureOf is why the parts have ended. That one was cancelled, by the failure of another or because it was asked to end, is no
// reason, and must not hide one.
func failureOf(parts <-chan error) (failure error) {
	for err := range parts {
		if !errors.Is(err, context.Canceled) {
			failure = errors.Join(failure, err)
		}
	}
	return failure
}

func (c *Coordinator) openStorage(ctx context.Context) ([]jetstream.Stream, error) {
	streams := make([]jetstream.Stream, c.cfg.Shards)
	for shard := range streams {
		stream, err := openLog(ctx, c.js, c.subjects, shard, &c.cfg)
		if err != nil {
			return nil, err
		}
		streams[shard] = stream
	}
	var err error
	c.checkpoints.bucket, err = openBucket(ctx, c.js, c.subjects.CheckpointsBucket(), "Assent: where each shard's log is read from", "checkpoints", c.cfg.Replicas)
	if err != nil {
		return nil, err
	}
	c.registry.bucket, err = openBucket(ctx, c.js, c.subjects.ParticipantsBucket(), "Assent: the participants that have registered", "registrations", c.cfg.Replicas)
	return streams, err
}

// onRegistered makes every leader send again what a participant that has just registered is owed.
func (c *Coordinator) onRegistered(ctx context.Context, name string) {
	for _, l := range c.leaders {
		select {
		case l.registered <- name:
		case <-ctx.Done():
			return
		}
	}
}

// serveWhenLed opens the API once every shard has been read and is led, here or elsewhere.
func (c *Coordinator) serveWhenLed(ctx context.Context) (stop func(), err error) {
	for _, l := range c.leaders {
		for _, step := range []chan struct{}{l.warm, l.seated} {
			select {
			case <-step:
			case <-ctx.Done():
				return nil, nil
			}
		}
	}
	stop, err = c.serveAPI(ctx)
	if err == nil {
		c.once.Do(func() { close(c.ready) })
	}
	return stop, err
}
