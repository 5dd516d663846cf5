// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/participant/kv"
)

const (
	kvKeys    = 100_000
	kvClients = 64
	kvAtLeast = 0.5 // at most twice the cost
	// The keys of the crowded row, and how much more often the first of them are wanted: as 1/n to the power of it.
	kvHotKeys = 1000
	kvZipf    = 0.9
)

// The buckets that transfers go between: those of a participant whose transactions wait for keys, and those of one where they do not.
var (
	kvBuckets       = [2]string{"bench-a", "bench-b"}
	kvNoWaitBuckets = [2]string{"bench-c", "bench-d"}
)

// kv gives transfers between two keys of two buckets, and beside them the two writes alone: the same values at once, by the same number of clients;
// then transfers over few keys, beside those over many, and by a participant where nobody waits for a key, beside one where everybody does.
func (b *storesBench) kv(ctx context.Context, c *cluster) (*stored, error) {
	nc, err := c.dial("kv client")
	if err != nil {
		return nil, err
	}
	js, err := newJetStream(nc)
	if err != nil {
		return nil, err
	}
	for _, bucket := range slices.Concat(kvBuckets[:], kvNoWaitBuckets[:]) {
		if _, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket}); err != nil {
			return nil, err
		}
	}
	waiting, err := b.kvParticipant(ctx, c, nc, kv.Config{Name: "kv", Log: b.cfg.Log}, kvBuckets)
	if err != nil {
		return nil, err
	}
	noWait, err := b.kvParticipant(ctx, c, nc, kv.Config{Name: "kv-no-wait", NoWait: true, Log: b.cfg.Log}, kvNoWaitBuckets)
	if err != nil {
		return nil, err
	}
	uniform := func() string { return strconv.Itoa(rand.IntN(kvKeys)) }
	s := &stored{}
	for _, clients := range b.clients(kvClients) {
		plain := newStoreRow("transfers", "the two writes alone", clients, kvAtLeast)
		plain.ours.do, plain.theirs.do = waiting.transfer(uniform, &plain.ours.tries), kvWrites(js, uniform)
		few, hot := fmt.Sprintf("transfers, zipf %v over %d keys", kvZipf, kvHotKeys), zipf(kvHotKeys, kvZipf)
		crowd := newStoreRow(few, "transfers over many keys", clients, 0)
		crowd.ours.do, crowd.theirs.do = waiting.transfer(hot, &crowd.ours.tries), waiting.transfer(uniform, &crowd.theirs.tries)
		rude := newStoreRow(few+", no-wait", "the same, waiting", clients, 0)
		rude.ours.do, rude.theirs.do = noWait.transfer(hot, &rude.ours.tries), waiting.transfer(hot, &rude.theirs.tries)
		s.rows = append(s.rows, plain, crowd, rude)
	}
	return s, nil
}

// kvStore is two buckets, and a client of the participant whose they are.
type kvStore struct {
	client  *kv.Client
	buckets [2]string
}

// kvParticipant starts a participant on a connection of its own, whose client uses the connection nc.
func (b *storesBench) kvParticipant(ctx context.Context, c *cluster, nc *nats.Conn, cfg kv.Config, buckets [2]string) (s *kvStore, err error) {
	label(ctx, "participant", func(ctx context.Context) {
		own, dialled := c.dial(cfg.Name)
		if err = dialled; err != nil {
			return
		}
		var p *kv.Participant
		if p, err = kv.New(own, cfg); err == nil {
			err = c.background(ctx, cfg.Name, p.Run, p.Ready(), b.fail)
		}
	})
	if err != nil {
		return nil, err
	}
	client, err := kv.NewClient(c.client, nc, kv.ClientConfig{Participant: cfg.Name})
	return &kvStore{client, buckets}, err
}

// transfer takes one from a key of the first bucket and gives it to a key of the second.
func (s *kvStore) transfer(key func() string, tries *tries) func(context.Context, int) error {
	return func(ctx context.Context, _ int) error {
		keys := [2]string{key(), key()}
		err := s.client.Txn(ctx, func(tx *kv.Tx) error {
			tries.attempts.Add(1)
			for i, bucket := range s.buckets {
				n, err := kvNumber(ctx, tx, bucket, keys[i])
				if err != nil {
					return err
				}
				if err := tx.Put(bucket, keys[i], strconv.AppendInt(nil, n+int64(2*i-1), 10)); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			tries.commits.Add(1)
		}
		return err
	}
}

// kvNumber reads a key; what is not there is 0.
func kvNumber(ctx context.Context, tx *kv.Tx, bucket, key string) (int64, error) {
	entry, err := tx.Get(ctx, bucket, key)
	if errors.Is(err, kv.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(entry.Value), 10, 64)
}

// kvWrites writes to a key of each bucket at once, with a header as long as the one by which transactions know their own.
func kvWrites(js jetstream.JetStream, key func() string) func(context.Context, int) error {
	return func(ctx context.Context, _ int) error {
		put := func(bucket string) error {
			_, err := js.PublishMsg(ctx, &nats.Msg{
				Subject: "$KV." + bucket + "." + key(), Data: []byte("-1"), Header: nats.Header{kv.TxHeader: {"01996d3e-0000-7000-8000-000000000000"}},
			})
			return err
		}
		second := make(chan error, 1)
		go func() { second <- put(kvBuckets[1]) }()
		return errors.Join(put(kvBuckets[0]), <-second)
	}
}

// zipf gives keys of which the nth is wanted as often as 1/n to a power.
func zipf(keys int, power float64) func() string {
	sums := make([]float64, keys)
	sum := 0.0
	for i := range sums {
		sum += 1 / math.Pow(float64(i+1), power)
		sums[i] = sum
	}
	return func() string {
		i, _ := slices.BinarySearch(sums, rand.Float64()*sum)
		return "hot-" + strconv.Itoa(min(i, keys-1))
	}
}
