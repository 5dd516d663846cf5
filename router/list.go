// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
)

// listPage is how many keys are fetched at a time.
const listPage = 500

// item is a subject of the bucket and what is stored there.
type item struct {
	subject string
	raw     raw
}

// list gives what is stored at the subjects that match a filter, deletions too.
func (s *store) list(ctx context.Context, filter string) (items []item, err error) {
	err = persist(ctx, func(ctx context.Context) (err error) {
		items, err = s.listOnce(ctx, filter)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	return items, err
}

func (s *store) listOnce(ctx context.Context, filter string) (items []item, err error) {
	consumer, err := s.js.OrderedConsumer(ctx, s.names.stream(), jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	if err != nil {
		return nil, err
	}
	for pending := consumer.CachedInfo().NumPending; pending > 0; {
		batch, err := consumer.Fetch(int(min(pending, listPage)), jetstream.FetchMaxWait(streams.AttemptTime/2))
		if err != nil {
			return nil, err
		}
		got := false
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return nil, err
			}
			got, pending = true, meta.NumPending
			items = append(items, item{msg.Subject(), rawOf(meta.Sequence.Stream, msg.Headers(), msg.Data())})
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return nil, err
		}
		if !got { // the server does not answer, or what was pending has been replaced: the next attempt knows
			return nil, nats.ErrTimeout
		}
	}
	return items, nil
}
