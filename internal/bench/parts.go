// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/embedded"
)

// parts are a server of the run's own, connections to it, and what else runs until close.
type parts struct {
	server  *embedded.Server
	closers []func() error
}

func (c *parts) startServer(ctx context.Context, dir string, log *logrus.Logger) (err error) {
	label(ctx, "server", func(context.Context) {
		c.server, err = embedded.Start(embedded.Config{Dir: dir, Listen: "127.0.0.1:0", Log: log})
	})
	if err == nil {
		c.closers = append(c.closers, c.server.Close)
	}
	return err
}

// label marks the goroutines that f starts, for a CPU profile.
func label(ctx context.Context, part string, f func(context.Context)) {
	pprof.Do(ctx, pprof.Labels("part", part), f)
}

// dial makes a TCP connection, which close closes.
func (c *parts) dial(name string) (*nats.Conn, error) {
	nc, err := nats.Connect(c.server.URL(), nats.Name(name), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, err)
	}
	c.closers = append(c.closers, closer(nc))
	return nc, nil
}

func closer(nc *nats.Conn) func() error {
	return func() error {
		nc.Close()
		return nil
	}
}

// background runs a part until close, and waits until it is ready.
func (c *parts) background(ctx context.Context, name string, run func(context.Context) error, ready <-chan struct{}, fail context.CancelCauseFunc) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			fail(fmt.Errorf("%s ended: %w", name, err))
		}
		ended <- err
	}()
	c.closers = append(c.closers, func() error {
		cancel()
		return <-ended
	})
	select {
	case <-ready:
		return nil
	case err := <-ended:
		ended <- nil
		return fmt.Errorf("%s ended before it was ready: %w", name, err)
	}
}

// close ends everything, in the opposite order of its start.
func (c *parts) close() error {
	var errs []error
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	c.closers = nil
	return errors.Join(errs...)
}
