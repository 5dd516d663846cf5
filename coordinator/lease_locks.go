// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/locks"
)

// leaseSession is a session of package locks.
type leaseSession struct {
	*locks.Session
	nc     *nats.Conn
	bucket string
}

func (s leaseSession) campaign(ctx context.Context, shard int) (lease, error) {
	held, err := s.Lock(ctx, leaseKey(shard))
	if err != nil {
		return nil, err
	}
	return held, nil
}

func (s leaseSession) holds(ctx context.Context, shard int) (bool, error) {
	held, err := locks.List(ctx, s.nc, s.bucket)
	for _, info := range held {
		if info.Kind == locks.KindLock && info.Key == leaseKey(shard) {
			return slices.ContainsFunc(info.Holders, func(h locks.Holder) bool { return h.Session == s.ID() }), err
		}
	}
	return false, err
}

func leaseKey(shard int) string { return "shard-" + strconv.Itoa(shard) }

// openLeases opens a session, and takes away the leases that an earlier one of this coordinator's name has left: it is
// dead, or out of touch, and whoever campaigns need not wait until that is certain.
func (c *Coordinator) openLeases(ctx context.Context) (session, error) {
	bucket := c.leases()
	opened, err := locks.Open(ctx, c.nc, locks.Config{
		Bucket: bucket, Streams: 1, Replicas: c.cfg.Replicas, TTL: c.cfg.Lease, Owner: c.cfg.Name, Log: c.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := c.takeBack(ctx, bucket, opened.ID()); err != nil { // they run out by themselves
		c.cfg.Log.WithError(err).Warn("leases of this coordinator's predecessor were not taken back")
	}
	return leaseSession{opened, c.nc, bucket}, nil
}

func (c *Coordinator) takeBack(ctx context.Context, bucket, session string) error {
	held, err := locks.List(ctx, c.nc, bucket)
	if err != nil {
		return err
	}
	for _, info := range held {
		mine := slices.ContainsFunc(info.Holders, func(h locks.Holder) bool { return h.Owner == c.cfg.Name && h.Session != session })
		if !mine {
			continue
		}
		_, err := locks.ForceRelease(ctx, c.nc, bucket, info.Kind, info.Key)
		if err != nil && !errors.Is(err, locks.ErrNotHeld) {
			return err
		}
		c.cfg.Log.WithField("lease", info.Key).Info("took back the lease of this coordinator's predecessor")
	}
	return nil
}

// leases is the bucket of the leases: not the applications', so that permissions can keep them out.
func (c *Coordinator) leases() string {
	stream := c.subjects.CheckpointsBucket() // <prefix>-checkpoints, with the prefix's dots replaced
	return stream[:len(stream)-len("checkpoints")] + "leases"
}
