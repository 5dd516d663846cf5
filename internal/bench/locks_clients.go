// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
)

// What there is in a run about locks.
const (
	// lockClients is how many clients the largest row has, and how many publishers the yardstick.
	lockClients = 64
	// lockRawStreams is over how many streams the yardstick spreads its publishers.
	lockRawStreams = 8
	// lockPayload is the size of the yardstick's messages in bytes, about that of a lock's record.
	lockPayload = 256
	// lockTTL is the sessions' TTL. A run keeps its machine as busy as it can be on purpose, and beside others on a small machine one
	// write may take many seconds: a session lives as long as that is less than half its TTL. Nothing here measures how a
	// session ends, and nothing that is measured depends on the TTL from 8 s on: no pace of a session is slower then.
	lockTTL = time.Minute
)

// lockCluster is a server, the yardstick's publishers on it, and the sessions whose locks are measured. Each publisher and each
// session has a connection of its own.
type lockCluster struct {
	bucket   string
	dial     func(name string) (*nats.Conn, error)
	tools    jetstream.JetStream // for what is not measured
	raw      []jetstream.JetStream
	streams  []jetstream.Stream // the yardstick's
	sessions []*locks.Session
	closers  []func() error
	// fail ends the run.
	fail context.CancelCauseFunc
}

// startLockClients starts and connects everything. A session that is lost makes fail hear of it.
func startLockClients(ctx context.Context, cfg *LocksConfig, fail context.CancelCauseFunc) (c *lockCluster, err error) {
	c = &lockCluster{bucket: "assent-bench-" + uuid.NewString()[:8], dial: cfg.Connect, fail: fail}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if c.dial == nil {
		if err := c.embed(ctx, cfg); err != nil {
			return c, err
		}
	}
	if c.tools, err = c.connect("bench"); err != nil {
		return c, err
	}
	if cfg.Connect != nil {
		c.closers = append(c.closers, c.deleteStreams)
	}
	if err := c.openRaw(ctx, cfg.Replicas); err != nil {
		return c, err
	}
	return c, c.openSessions(ctx, cfg)
}

func (c *lockCluster) embed(ctx context.Context, cfg *LocksConfig) (err error) {
	var server *embedded.Server
	label(ctx, "server", func(context.Context) {
		server, err = embedded.Start(embedded.Config{Dir: cfg.Dir, Listen: "127.0.0.1:0", Log: cfg.Log})
	})
	if err != nil {
		return err
	}
	c.closers = append(c.closers, server.Close)
	c.dial = func(name string) (*nats.Conn, error) {
		return nats.Connect(server.URL(), nats.Name(name), nats.MaxReconnects(-1))
	}
	return nil
}

// connect makes a connection, which close closes.
func (c *lockCluster) connect(name string) (jetstream.JetStream, error) {
	nc, err := c.dial(name)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, err)
	}
	c.closers = append(c.closers, closer(nc))
	return newJetStream(nc)
}

// openRaw makes the yardstick's streams, set like a shard's log, and its publishers.
func (c *lockCluster) openRaw(ctx context.Context, replicas int) error {
	for i := range lockRawStreams {
		stream, err := c.tools.CreateStream(ctx, jetstream.StreamConfig{
			Name: c.rawName(i), Subjects: []string{c.rawName(i) + ".>"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			Storage: jetstream.FileStorage, Replicas: replicas, MaxBytes: -1, Duplicates: 30 * time.Second, DenyDelete: true,
		})
		if err != nil {
			return fmt.Errorf("the yardstick's stream: %w", err)
		}
		c.streams = append(c.streams, stream)
	}
	for range lockClients {
		js, err := c.connect("raw publisher")
		if err != nil {
			return err
		}
		c.raw = append(c.raw, js)
	}
	return nil
}

func (c *lockCluster) rawName(stream int) string { return c.bucket + "-raw-" + strconv.Itoa(stream) }

// openSessions opens a session for each client. The first makes the bucket.
func (c *lockCluster) openSessions(ctx context.Context, cfg *LocksConfig) (err error) {
	label(ctx, "session", func(ctx context.Context) {
		for i := range lockClients {
			if err = c.openSession(ctx, cfg, "client-"+strconv.Itoa(i)); err != nil {
				return
			}
		}
	})
	return err
}

func (c *lockCluster) openSession(ctx context.Context, cfg *LocksConfig, owner string) error {
	nc, err := c.dial(owner)
	if err != nil {
		return fmt.Errorf("connect %s: %w", owner, err)
	}
	c.closers = append(c.closers, closer(nc))
	session, err := locks.Open(ctx, nc, locks.Config{
		Bucket: c.bucket, Streams: cfg.Streams, Replicas: cfg.Replicas, TTL: lockTTL, Owner: owner, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	c.sessions = append(c.sessions, session)
	c.closers = append(c.closers, endSession(session)) //nolint:contextcheck // it closes also when ctx has ended
	return nil
}

// endSession closes a session, also when the run's context has ended.
func endSession(session *locks.Session) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return session.Close(ctx)
	}
}

// lock takes a key for a client, with its session.
func (c *lockCluster) lock(key string, shared func(client int) bool) take {
	return func(ctx context.Context, client int) (grant, error) {
		var options []locks.Option
		if shared(client) {
			options = append(options, locks.Shared())
		}
		lock, err := c.sessions[client].Lock(ctx, key, options...)
		if err != nil {
			return grant{}, c.check(client, err)
		}
		return grant{lock.Token(), lock.Shared(), lock.Unlock}, nil
	}
}

// pair takes and gives back a key of the client's own.
func (c *lockCluster) pair(ctx context.Context, client int) error {
	lock, err := c.sessions[client].Lock(ctx, "client-"+strconv.Itoa(client))
	if err != nil {
		return c.check(client, err)
	}
	return lock.Unlock(ctx)
}

// check ends the run when a client cannot go on because its session is over: what the others do then says nothing.
func (c *lockCluster) check(client int, err error) error {
	if over := c.sessions[client].Err(); over != nil {
		c.fail(fmt.Errorf("the session of client %d is over: %w", client, over))
	}
	return err
}

// publish has the yardstick's publishers spread over so many streams.
func (c *lockCluster) publish(streams int) func(context.Context, int) error {
	body := []byte(jsonString(lockPayload))
	return func(ctx context.Context, client int) error {
		_, err := c.raw[client].Publish(ctx, c.rawName(client%streams)+".log", body)
		return err
	}
}

// empty deletes what the yardstick published.
func (c *lockCluster) empty(ctx context.Context) error {
	for _, stream := range c.streams {
		if err := stream.Purge(ctx); err != nil {
			return fmt.Errorf("the yardstick's stream: %w", err)
		}
	}
	return nil
}

// deleteStreams deletes what the run made on an existing NATS: the streams with the bucket's name in theirs.
func (c *lockCluster) deleteStreams() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	names := c.tools.StreamNames(ctx)
	for name := range names.Name() {
		if strings.Contains(name, c.bucket) {
			errs = append(errs, c.tools.DeleteStream(ctx, name))
		}
	}
	return errors.Join(append(errs, names.Err())...)
}

// close ends everything, in the opposite order of its start.
func (c *lockCluster) close() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	c.closers = nil
	return errors.Join(errs...)
}
