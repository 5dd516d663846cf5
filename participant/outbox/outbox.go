// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
	"github.com/assent-tx/assent/participant/internal/metrics"
)

// ErrSuperseded is why Run ends when another instance of the outbox has taken over. Do not start it again at once: the two would take
// over from each other for ever. (Config.Lease has instances stand by for each other instead.)
var ErrSuperseded = journal.ErrSuperseded

// Outbox is one instance. See New.
type Outbox struct {
	cfg   Config
	nc    *nats.Conn
	ready chan struct{}
	once  sync.Once // closes ready
	stats *stats
	// metrics tells of them.
	metrics *metrics.Collector[Stats]

	mu      sync.Mutex
	journal *journal.Journal // the latest; nil until Run has one
}

// New gives an instance on a connection, which stays the caller's and must outlive Run. It checks cfg; nothing is sent yet.
func New(nc *nats.Conn, cfg Config) (*Outbox, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	o := &Outbox{cfg: cfg, nc: nc, ready: make(chan struct{}), stats: newStats(&cfg)}
	o.metrics = metrics.New(cfg.Name, metrics.Now(o.Stats), figures)
	return o, nil
}

// Ready is closed once the outbox takes part in transactions.
func (o *Outbox) Ready() <-chan struct{} { return o.ready }

// Run takes the outbox over from whoever has it and takes part in transactions until ctx ends; then it drains and returns nil. One
// instance of an outbox works at a time. With Config.Lease it stands by for others, and takes part whenever none of them does.
// Its errors are those of participant.Participant.Run; ErrSuperseded when another instance has taken over (not with Config.Lease);
// and those of the journal: its stream is damaged, has unsafe settings, or has lost data. It must be called once.
func (o *Outbox) Run(ctx context.Context) error {
	cfg := journal.Config{Prefix: o.cfg.Prefix, Name: o.cfg.Name, Replicas: o.cfg.Replicas, Log: o.cfg.Log}
	var err error
	if o.cfg.Lease > 0 {
		err = journal.Lead(ctx, o.nc, cfg, journal.LeaseConfig{TTL: o.cfg.Lease, Owner: o.cfg.Instance}, o.work)
	} else {
		err = journal.Run(ctx, o.nc, cfg, o.work)
	}
	if err != nil {
		return fmt.Errorf("outbox %s: %w", o.cfg.Name, err)
	}
	return nil
}

// work takes part with a journal until ctx ends.
func (o *Outbox) work(ctx context.Context, j *journal.Journal) error {
	js, err := jetstream.New(o.nc, jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return err
	}
	defer js.CleanupPublisher()
	h, err := newHandler(o, js, j)
	if err != nil {
		return err
	}
	p, err := participant.New(o.nc, participant.Config{
		Name: o.cfg.Name, Batch: h, Prefix: o.cfg.Prefix, DrainTimeout: o.cfg.DrainTimeout, Log: o.cfg.Log,
	})
	if err != nil {
		return err
	}
	o.stats.begin()
	o.mu.Lock()
	o.journal = j
	o.mu.Unlock()
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-p.Ready():
			o.once.Do(func() { close(o.ready) })
		case <-ended:
		}
	})
	err = p.Run(ctx)
	close(ended)
	watching.Wait()
	return err
}

const (
	// maxPending is how many messages may wait for their acknowledgement: more than a coordinator sends outcomes at once.
	maxPending = 1 << 16
	// ackTimeout is when an acknowledgement is not waited for any more, and the message is published again.
	ackTimeout = 5 * time.Second
	// patience is how long a batch of outcomes waits for a stream that acknowledges nothing.
	patience = time.Second
)

// Stats are for operators.
type Stats struct {
	// Open are the transactions that are prepared and not settled, Oldest is when the oldest of them was begun. While another instance works
	// these and Stuck are zero: they are that one's.
	Open   int
	Oldest time.Time
	// Published counts messages that were stored, or sent to core NATS, since the start, Stuck the transactions that are committed
	// and of which a message could not be published at the last attempt.
	Published uint64
	Stuck     int
	// Unsure counts the transactions of which a message may have been published twice, because its stream had removed messages
	// before the outbox could look. (An estimate from above.)
	Unsure uint64
}

// Stats gives them.
func (o *Outbox) Stats() Stats {
	s := o.stats.snapshot()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.journal == nil || o.journal.Err() != nil {
		s.Stuck = 0
		return s
	}
	open := o.journal.Stats()
	s.Open, s.Oldest = open.Open, open.Oldest
	return s
}
