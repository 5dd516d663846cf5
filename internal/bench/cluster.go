// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// cluster is all that a transaction needs: a server, a coordinator, participants and a client.
type cluster struct {
	parts
	client  *assent.Client
	names   []string // of the participants
	metrics *prometheus.Registry
	tools   *nats.Conn         // for what is not measured
	logs    []jetstream.Stream // of the shards
}

// startCluster starts everything. A part that ends by itself makes fail hear of it.
func startCluster(ctx context.Context, cfg *Config, fail context.CancelCauseFunc) (c *cluster, err error) {
	c = &cluster{metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if err := c.startServer(ctx, cfg.Dir, cfg.Log); err != nil {
		return c, err
	}
	if c.tools, err = c.dial("bench"); err != nil {
		return c, err
	}
	if err := c.startCoordinator(ctx, cfg, fail); err != nil {
		return c, err
	}
	for i := range cfg.Participants {
		if err := c.startParticipant(ctx, cfg, "participant-"+strconv.Itoa(i+1), fail); err != nil {
			return c, err
		}
	}
	if err := c.startClient(ctx, cfg); err != nil {
		return c, err
	}
	js, err := newJetStream(c.tools)
	if err != nil {
		return c, err
	}
	for shard := range cfg.Shards {
		log, err := js.Stream(ctx, messages.Subjects{}.Stream(shard))
		if err != nil {
			return c, fmt.Errorf("the log of shard %d: %w", shard, err)
		}
		c.logs = append(c.logs, log)
	}
	return c, nil
}

func (c *cluster) startCoordinator(ctx context.Context, cfg *Config, fail context.CancelCauseFunc) (err error) {
	label(ctx, "coordinator", func(ctx context.Context) {
		var nc *nats.Conn
		if cfg.Connection == TCP {
			nc, err = c.dial("coordinator")
		} else if nc, err = c.server.Connect(nats.Name("coordinator")); err == nil {
			c.closers = append(c.closers, closer(nc))
		}
		if err != nil {
			return
		}
		var part *coordinator.Coordinator
		part, err = coordinator.New(nc, coordinator.Config{Shards: cfg.Shards, Log: cfg.Log, Registerer: c.metrics})
		if err == nil {
			err = c.background(ctx, "the coordinator", part.Run, part.Ready(), fail)
		}
	})
	return err
}

func (c *cluster) startParticipant(ctx context.Context, cfg *Config, name string, fail context.CancelCauseFunc) (err error) {
	c.names = append(c.names, name)
	label(ctx, "participant", func(ctx context.Context) {
		var nc *nats.Conn
		if nc, err = c.dial(name); err != nil {
			return
		}
		settings := participant.Config{Name: name, Log: cfg.Log}
		if cfg.Handler == Single {
			settings.Handler = idle{}
		} else {
			settings.Batch = idleBatch{}
		}
		var part *participant.Participant
		if part, err = participant.New(nc, settings); err == nil {
			err = c.background(ctx, name, part.Run, part.Ready(), fail)
		}
	})
	return err
}

func (c *cluster) startClient(ctx context.Context, cfg *Config) (err error) {
	label(ctx, "client", func(context.Context) {
		var nc *nats.Conn
		if nc, err = c.dial("client"); err != nil {
			return
		}
		c.client, err = assent.New(nc, assent.Config{Log: cfg.Log}) //nolint:contextcheck // the client lives until close, not until ctx ends
		if err == nil {
			c.closers = append(c.closers, func() error { c.client.Close(); return nil }) //nolint:contextcheck // what it gives back then has a time of its own
		}
	})
	return err
}

// settle waits until no transaction is open, and gives how many still are when its patience ends.
func (c *cluster) settle(ctx context.Context) (open int, err error) {
	deadline := time.After(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if open, err = c.open(ctx); err != nil || open == 0 {
			return open, err
		}
		select {
		case <-ticker.C:
		case <-deadline:
			return open, nil
		case <-ctx.Done():
			return open, context.Cause(ctx)
		}
	}
}

// open asks how many transactions are not finished.
func (c *cluster) open(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	msg, err := c.tools.RequestWithContext(ctx, messages.Subjects{}.API("tx.list"), []byte(`{"limit":1}`))
	if err != nil {
		return 0, fmt.Errorf("the open transactions: %w", err)
	}
	var list coordinator.ListResponse
	if err := json.Unmarshal(msg.Data, &list); err != nil {
		return 0, fmt.Errorf("the open transactions: %w", err)
	}
	return list.Open, nil
}

// written is how many messages the logs have ever had, and how many records the coordinator wrote in its own.
func (c *cluster) written(ctx context.Context) (logMessages uint64, records float64, err error) {
	for _, log := range c.logs {
		info, err := log.Info(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("the log: %w", err)
		}
		logMessages += info.State.LastSeq
	}
	families, err := c.metrics.Gather()
	if err != nil {
		return 0, 0, fmt.Errorf("the coordinator's metrics: %w", err)
	}
	for _, family := range families {
		if family.GetName() == "assent_log_records_total" {
			return logMessages, family.GetMetric()[0].GetCounter().GetValue(), nil
		}
	}
	return 0, 0, errors.New("the coordinator's metrics do not have assent_log_records_total")
}

// idle is a participant that says yes and does nothing.
type idle struct{}

func (idle) Prepare(context.Context, *participant.Branch) (participant.Vote, error) {
	return participant.Yes, nil
}
func (idle) Commit(context.Context, messages.ID) error   { return nil }
func (idle) Rollback(context.Context, messages.ID) error { return nil }

// InDoubt: it holds nothing, so it may be given keys.
func (idle) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

// idleBatch is the same for many branches at once.
type idleBatch struct{}

// InDoubt is idle's.
func (idleBatch) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

func (idleBatch) PrepareBatch(_ context.Context, branches []*participant.Branch) []participant.Result {
	results := make([]participant.Result, len(branches))
	for i := range results {
		results[i].Vote = participant.Yes
	}
	return results
}

func (idleBatch) FinishBatch(_ context.Context, outcomes []participant.Outcome) []error {
	return make([]error, len(outcomes))
}
