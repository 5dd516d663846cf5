// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
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

// LeaseConfig is for Lead.
type LeaseConfig struct {
	// TTL is how long the lease of an instance that died lasts, 1 s to 1 h.
	TTL time.Duration
	// Owner is what the instance is called, at most 64 bytes; the same again after a restart: then it need not wait for a lease that it
	// had itself. No two that run may have the same one. "" for one that cannot be known again.
	Owner string
}

// Lead is Run for instances of which one works and the others stand by: each waits for a lease, and works while it has it. When the
// one that works ends, the next begins at once; when it dies, after the lease's time. It returns nil when ctx ends, and
// the error of work, unless that comes of another instance having taken over: then this one stands by again.
//
// Nothing but who works depends on the lease: what keeps two from working at once is the journal.
func Lead(ctx context.Context, nc *nats.Conn, cfg Config, lease LeaseConfig, work func(ctx context.Context, j *Journal) error) error {
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
		streams.Pause(ctx, streams.AttemptPause)
	}
	return nil
}

// term waits for the lease and works while it has it.
func term(ctx context.Context, nc *nats.Conn, cfg Config, lease LeaseConfig, work func(ctx context.Context, j *Journal) error) (err error) {
	bucket, key := strings.ReplaceAll(cfg.Prefix, ".", "-")+"-standby", "participant-"+cfg.Name
	session, err := locks.Open(ctx, nc, locks.Config{
		Bucket: bucket, Streams: 1, Replicas: cfg.Replicas, TTL: lease.TTL, Owner: lease.Owner, Log: cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), streams.AttemptTime)
		defer cancel()
		_ = session.Close(ctx) // it gives the lease back; if that fails, the lease runs out
	}()
	if lease.Owner != "" {
		if err := takeBack(ctx, nc, bucket, key, lease.Owner, session.ID()); err != nil { // it runs out by itself
			cfg.Log.WithError(err).WithField("participant", cfg.Name).Warn("the lease of this instance's predecessor was not taken back")
		}
	}
	held, err := session.Lock(ctx, key)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	leading, cancel := held.Context(ctx)
	defer cancel()
	return Run(leading, nc, cfg, work)
}

// takeBack takes away the lease that an earlier instance with this owner's name has left.
func takeBack(ctx context.Context, nc *nats.Conn, bucket, key, owner, session string) error {
	held, err := locks.List(ctx, nc, bucket)
	if err != nil {
		return err
	}
	for _, info := range held {
		mine := slices.ContainsFunc(info.Holders, func(h locks.Holder) bool { return h.Owner == owner && h.Session != session })
		if info.Kind != locks.KindLock || info.Key != key || !mine {
			continue
		}
		if _, err := locks.ForceRelease(ctx, nc, bucket, info.Kind, info.Key); err != nil && !errors.Is(err, locks.ErrNotHeld) {
			return err
		}
	}
	return nil
}
