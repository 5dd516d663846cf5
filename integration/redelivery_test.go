// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
)

// Everything is delivered again: the consumer of a participant is made anew from the log's beginning, as an operator does
// who restores a stream. Exactly-once delivery does not exist; what was prepared and finished must not be prepared again.

func TestEverythingIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	for range 30 {
		o := c.some(c.rand)
		o.timeout = time.Hour // nothing that comes again is expired
		c.do(o)
	}
	for _, name := range c.names {
		c.banks[name].kill()
		c.recreate(name)
		c.banks[name].restart()
	}
	c.redelivered()
	c.transfers(20)
	c.check()
}

// recreate makes a bank's consumer anew, from the first message of the log on.
func (c *cluster) recreate(bank string) {
	c.t.Helper()
	ctx := within(c.t, patience)
	js, err := jetstream.New(c.nc)
	if err != nil {
		c.t.Fatal(err)
	}
	stream := messages.Subjects{}.Stream(0)
	consumer, err := js.Consumer(ctx, stream, bank)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	if err := js.DeleteConsumer(ctx, stream, bank); err != nil {
		c.t.Fatal(err)
	}
	cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverAllPolicy, 0, nil
	if _, err := js.CreateConsumer(ctx, stream, cfg); err != nil {
		c.t.Fatal(err)
	}
}

// redelivered waits until all of it has been taken and acknowledged.
func (c *cluster) redelivered() {
	c.t.Helper()
	ctx := within(c.t, patience)
	js, err := jetstream.New(c.nc)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, bank := range c.names {
		eventually(c.t, "all is delivered again to "+bank, func() error {
			consumer, err := js.Consumer(ctx, messages.Subjects{}.Stream(0), bank)
			if err != nil {
				return err
			}
			if info := consumer.CachedInfo(); info.NumPending+uint64(info.NumAckPending) > 0 || info.Delivered.Consumer < 30 {
				return errPending
			}
			return nil
		})
	}
}
