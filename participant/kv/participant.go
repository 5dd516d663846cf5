// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
	"github.com/assent-tx/assent/participant/internal/metrics"
)

// DefaultName is the participant's name unless it is configured.
const DefaultName = "kv"

// ErrSuperseded is why Run ends when another instance of the participant has taken over. Do not start it again at once: the two would
// take over from each other for ever.
var ErrSuperseded = journal.ErrSuperseded

// Config is for New. The zero Config is what most want.
type Config struct {
	// Name is the participant's; default "kv". Two participants with different names must not share keys of a bucket: each locks for
	// itself.
	Name string
	// Prefix is the first token (or tokens) of every subject; default "assent". It must be the coordinator's.
	Prefix string
	// Buckets are the names of those that transactions may use; nil: all but Assent's own. Whoever may submit transactions reads and
	// writes them with this participant's permissions.
	Buckets []string
	// Replicas of the journal's stream when it is made; default 1.
	Replicas int
	// Lease makes Run stand by while another instance has the lease, 1 s to 1 h: that is how long it takes the next one to begin when the one
	// that works dies. 0: Run takes over at once, and the instance before it ends.
	Lease time.Duration
	// Instance is what this instance is called, for Lease; the same again after a restart: then it need not wait for the lease that it had
	// itself when it died. No two that run may have the same one. At most 64 bytes; "" is another one each time.
	Instance string
	// NoWait has a transaction that meets a locked key end as a conflict at once, and not wait: participant.Config.NoWait. Txn tries it
	// again, after a pause.
	NoWait bool
	// Concurrency is how many branches are prepared, and how many are applied, at once; default 256.
	Concurrency int
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// Participant is the service: it validates what transactions have read, and writes what they write. See New.
type Participant struct {
	cfg    Config
	nc     *nats.Conn
	js     jetstream.JetStream
	ready  chan struct{}
	once   sync.Once // closes ready
	counts counts
	// metrics tells of them.
	metrics *metrics.Collector[Stats]

	mu      sync.Mutex
	journal *journal.Journal // the latest
}

// New gives a participant on a connection, which stays the caller's and must outlive Run. It checks cfg; nothing is sent yet.
func New(nc *nats.Conn, cfg Config) (*Participant, error) {
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	if !messages.ValidName(cfg.Name) {
		return nil, fmt.Errorf("kv: Name %.80q: want 1 to %d of [A-Za-z0-9_-]", cfg.Name, messages.MaxName)
	}
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if !messages.ValidPrefix(cfg.Prefix) {
		return nil, fmt.Errorf("kv: Prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", cfg.Prefix)
	}
	for _, name := range cfg.Buckets {
		if !validBucket(name) {
			return nil, fmt.Errorf("kv: Buckets: %.80q: want [a-zA-Z0-9_-]", name)
		}
	}
	if cfg.Lease < 0 {
		return nil, fmt.Errorf("kv: Lease %v: cannot be negative", cfg.Lease)
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 256
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("kv: %w", err)
	}
	p := &Participant{cfg: cfg, nc: nc, js: js, ready: make(chan struct{})}
	p.metrics = metrics.New(cfg.Name, metrics.Now(p.Stats), figures)
	return p, nil
}

// Ready is closed once the participant takes part.
func (p *Participant) Ready() <-chan struct{} { return p.ready }

// Run takes over from whatever instance ran before, and takes part until ctx ends; then it drains, and returns nil. With
// Config.Lease it stands by for other instances, and takes part whenever none of them does. Its errors are those of participant.Run;
// ErrSuperseded when another instance has taken over (not with Config.Lease); and those of the journal, which say what is wrong
// with it. It must be called once.
func (p *Participant) Run(ctx context.Context) error {
	cfg := journal.Config{Prefix: p.cfg.Prefix, Name: p.cfg.Name, Replicas: p.cfg.Replicas, Log: p.cfg.Log}
	var err error
	if p.cfg.Lease > 0 {
		err = journal.Lead(ctx, p.nc, cfg, journal.LeaseConfig{TTL: p.cfg.Lease, Owner: p.cfg.Instance}, p.work)
	} else {
		err = journal.Run(ctx, p.nc, cfg, p.work)
	}
	if err != nil {
		return fmt.Errorf("kv: participant %s: %w", p.cfg.Name, err)
	}
	return nil
}

// work takes part with a journal until ctx ends.
func (p *Participant) work(ctx context.Context, j *journal.Journal) error {
	p.mu.Lock()
	p.journal = j
	p.mu.Unlock()
	s, err := p.store(j)
	if err != nil {
		return err
	}
	defer s.requests.close()
	inner, err := participant.New(p.nc, participant.Config{
		Name: p.cfg.Name, Prefix: p.cfg.Prefix, Concurrency: p.cfg.Concurrency, NoWait: p.cfg.NoWait, Log: p.cfg.Log, Handler: s,
	})
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-inner.Ready():
			p.once.Do(func() { close(p.ready) })
		case <-ended:
		}
	})
	err = inner.Run(ctx)
	close(ended)
	watching.Wait()
	return err
}

func (p *Participant) store(j *journal.Journal) (*store, error) {
	busy := make(chan struct{}, maxBusy)
	requests, err := newRequests(p.nc, busy)
	if err != nil {
		return nil, err
	}
	return &store{
		Journal: j, nc: p.nc, js: p.js, log: p.cfg.Log.WithField("participant", p.cfg.Name), counts: &p.counts, busy: busy, requests: requests,
		buckets: buckets{js: p.js, reserved: strings.ReplaceAll(p.cfg.Prefix, ".", "-") + "-", allowed: p.cfg.Buckets, known: make(map[string]*bucket)},
	}, nil
}

// Stats are for operators.
type Stats struct {
	// Open branches are prepared and not applied yet; Oldest is the time at which the oldest of their transactions was minted, zero
	// when there are none, and both while another instance works. One that stays is in doubt, or cannot be applied: the log says which.
	Open   int
	Oldest time.Time
	// Prepared, Conflicts and Applied count branches: that voted yes, refused since a read was not up to date any more, and committed.
	Prepared, Conflicts, Applied uint64
	// Overtaken counts values that were never seen, or overwritten, since a writer that is no transaction came between: when all others of
	// their transaction are applied.
	Overtaken uint64
	// Failed counts attempts to apply a committed branch that failed: it is tried again until it succeeds.
	Failed uint64
}

// Stats gives them; before Run has begun they are zero.
func (p *Participant) Stats() Stats {
	s := Stats{
		Prepared: p.counts.prepared.Load(), Conflicts: p.counts.conflicts.Load(), Applied: p.counts.applied.Load(),
		Overtaken: p.counts.overtaken.Load(), Failed: p.counts.failed.Load(),
	}
	p.mu.Lock()
	j := p.journal
	p.mu.Unlock()
	if j != nil {
		inner := j.Stats()
		s.Open, s.Oldest = inner.Open, inner.Oldest
	}
	return s
}
