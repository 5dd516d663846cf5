// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

// Run takes a journal over, once, and does something with it until that returns. See Lead for instances that stand by for each other.
func Run(ctx context.Context, nc *nats.Conn, cfg Config, work func(ctx context.Context, j *Journal) error) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j, err := Take(ctx, js, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer j.Close()
	working, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-j.Dead():
			end()
		case <-working.Done():
		}
	}()
	err = work(working, j)
	return errors.Join(j.Err(), err)
}

// Lead is Run for instances of which one works and the others stand by: each waits for a lease, and works while it has it. When the
// one that works ends, the next begins at once; when it dies, after the lease's time (1 s to 1 h). It returns nil when ctx ends, and
// the error of work, unless that comes of another instance having taken over: then this one stands by again.
//
// Nothing but who works depends on the lease: what keeps two from working at once is the journal.
func Lead(ctx context.Context, nc *nats.Conn, cfg Config, lease time.Duration, work func(ctx context.Context, j *Journal) error) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	log := cfg.Log.WithField("participant", cfg.Name)
	for ctx.Err() == nil {
		err := term(ctx, nc, cfg, lease, work)
		switch {
		case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
			return nil
		case err == nil, errors.Is(err, ErrSuperseded), errors.Is(err, locks.ErrLost):
			log.WithError(err).Warn("another instance works now, or will; this one stands by")
		default:
			return err
		}
		pause(ctx, attemptPause)
	}
	return nil
}

// term waits for the lease and works while it has it.
func term(ctx context.Context, nc *nats.Conn, cfg Config, lease time.Duration, work func(ctx context.Context, j *Journal) error) (err error) {
	session, err := locks.Open(ctx, nc, locks.Config{
		Bucket: strings.ReplaceAll(cfg.Prefix, ".", "-") + "-standby", Streams: 1, Replicas: cfg.Replicas, TTL: lease, Log: cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTime)
		defer cancel()
		_ = session.Close(ctx) // it gives the lease back; if that fails, the lease runs out
	}()
	held, err := session.Lock(ctx, "participant-"+cfg.Name)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	leading, cancel := held.Context(ctx)
	defer cancel()
	return Run(leading, nc, cfg, work)
}
