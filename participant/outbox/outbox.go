// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// ErrSuperseded is why Run ends when another instance of the outbox has taken over. It must not be started again at once: then
// the two would go on taking over from each other.
var ErrSuperseded = journal.ErrSuperseded

// Outbox is one instance. See New.
type Outbox struct {
	cfg   Config
	nc    *nats.Conn
	ready chan struct{}
	stats *stats

	mu      sync.Mutex
	journal *journal.Journal // nil until Run has it
}

// New gives an instance on a connection, which stays the caller's and must outlive Run. It checks cfg; nothing is sent yet.
func New(nc *nats.Conn, cfg Config) (*Outbox, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Outbox{cfg: cfg, nc: nc, ready: make(chan struct{}), stats: newStats(&cfg)}, nil
}

// Ready is closed once the outbox takes part in transactions.
func (o *Outbox) Ready() <-chan struct{} { return o.ready }

// Run takes the outbox over from whoever has it and takes part in transactions until ctx ends; then it drains and returns nil. One
// instance of an outbox works at a time, the newest: the one before ends with ErrSuperseded. Other errors are those of
// participant.Participant.Run, and of the journal: its stream is damaged, has unsafe settings, or has lost data. It must be called once.
func (o *Outbox) Run(ctx context.Context) error {
	js, err := jetstream.New(o.nc, jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return fmt.Errorf("outbox %s: %w", o.cfg.Name, err)
	}
	defer js.CleanupPublisher()
	j, err := journal.Take(ctx, js, journal.Config{Prefix: o.cfg.Prefix, Name: o.cfg.Name, Replicas: o.cfg.Replicas, Log: o.cfg.Log})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("outbox %s: %w", o.cfg.Name, err)
	}
	defer j.Close()
	h, err := newHandler(o, js, j)
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.journal = j
	o.mu.Unlock()
	return o.takePart(ctx, h, j)
}

// takePart runs the participant for as long as the journal is this instance's.
func (o *Outbox) takePart(ctx context.Context, h *handler, j *journal.Journal) error {
	p, err := participant.New(o.nc, participant.Config{
		Name: o.cfg.Name, Batch: h, Prefix: o.cfg.Prefix, DrainTimeout: o.cfg.DrainTimeout, Log: o.cfg.Log,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-p.Ready():
			close(o.ready)
		case <-ctx.Done():
		}
		select {
		case <-j.Dead(): // nothing can be prepared or finished here any more
			stop()
		case <-ctx.Done():
		}
	})
	err = p.Run(ctx)
	stop()
	watching.Wait()
	if dead := j.Err(); dead != nil {
		return errors.Join(fmt.Errorf("outbox %s: %w", o.cfg.Name, dead), err)
	}
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
	// Open are the transactions that are prepared and not settled, Oldest is when the oldest of them was begun.
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
	if o.journal != nil {
		open := o.journal.Stats()
		s.Open, s.Oldest = open.Open, open.Oldest
	}
	return s
}
