// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/internal/check/store"
	"github.com/assent-tx/assent/internal/elle"
	"github.com/assent-tx/assent/participant/kv"
)

// buckets has the lists as values of key-value buckets, which transactions of package kv read and write. An append is to read a list and
// to write a longer one.
type buckets struct {
	client *kv.Client
	names  []string
}

// ours is what the buckets are called, so that nobody else's is taken for one, and deleted.
const ours = "Assent: lists of assent check"

// openBuckets makes the buckets, or takes those that a check before has left, which was interrupted: its keys are others.
func openBuckets(ctx context.Context, cfg *Config, client *assent.Client, nc *nats.Conn) (*buckets, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	b := &buckets{}
	for i := range cfg.Participants {
		name := cfg.participant(i)
		if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, Description: ours}); err != nil {
			return nil, fmt.Errorf("bucket %s: %w", name, err)
		}
		b.names = append(b.names, name)
	}
	b.client, err = kv.NewClient(client, nc, kv.ClientConfig{})
	return b, err
}

// remove deletes the buckets.
func (b *buckets) remove(ctx context.Context, nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	for _, name := range b.names {
		if err == nil {
			err = js.DeleteKeyValue(ctx, name)
		}
	}
	return err
}

// run does operations in a transaction, and gives what was read.
func (b *buckets) run(ctx context.Context, outer *assent.Tx, ops []elle.Operation, place func(key string) int) (*hearing, error) {
	h := &hearing{reads: make(map[int]store.Read), all: make(chan struct{})}
	close(h.all)
	tx := b.client.Begin(outer)
	for i, o := range ops {
		bucket := b.names[place(o.Key)]
		var list []int64
		entry, err := tx.Get(ctx, bucket, o.Key)
		if err == nil {
			err = json.Unmarshal(entry.Value, &list)
		} else if errors.Is(err, kv.ErrKeyNotFound) {
			err = nil
		}
		if err == nil && o.Op == elle.Append {
			var value []byte
			if value, err = json.Marshal(append(list, *o.Value)); err == nil {
				err = tx.Put(bucket, o.Key, value)
			}
		}
		if err != nil {
			return h, err
		}
		if o.Op == elle.Read {
			h.reads[i] = store.Read{Number: i, Values: list}
		}
	}
	tx.Finish()
	return h, nil
}
