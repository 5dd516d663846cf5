// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/participant/kv"
)

// Two buckets, the journal and the log are on three NATS servers, and the one that leads a bucket is shut down while money moves between the
// buckets: what a leader answers when revisions are validated is answered by another one then. No money comes or goes, and each
// transfer that was acknowledged is there, once.
func TestBucketsOnThreeReplicas(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers in this process are slow under the race detector, and share nothing with the test: -short was given")
	}
	t.Parallel()
	const accounts, clients, each = 5, 6, 30
	servers := startCluster(t, 3)
	nc := connectAll(t, servers)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	buckets := []string{"bank-a", "bank-b"}
	for _, bucket := range append(buckets, "moved") {
		if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket, Replicas: 3}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := coordinator.New(nc, coordinator.Config{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	live(t, c.Run, c.Ready())
	p, err := kv.New(connectAll(t, servers), kv.Config{Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	live(t, p.Run, p.Ready())

	half := make(chan struct{})
	var once sync.Once
	var running sync.WaitGroup
	var moved [clients]int
	for n := range clients {
		store := bucketsClient(t, connectAll(t, servers))
		running.Go(func() {
			for i := range each {
				if i == each/2 {
					once.Do(func() { close(half) })
				}
				from, to := strconv.Itoa(rand.IntN(accounts)), strconv.Itoa(rand.IntN(accounts))
				err := store.Txn(t.Context(), func(tx *kv.Tx) error {
					return errors.Join(addTo(t.Context(), tx, buckets[0], from, -1), addTo(t.Context(), tx, buckets[1], to, 1),
						addTo(t.Context(), tx, "moved", strconv.Itoa(n), 1))
				}, assent.WithTimeout(time.Minute))
				if err != nil {
					t.Errorf("client %d: %v", n, err)
					return
				}
				moved[n]++
			}
		})
	}
	<-half
	shutDownLeader(t, servers, nc, "KV_bank-a")
	running.Wait()

	sums := make(map[string]int)
	err = bucketsClient(t, connectAll(t, servers)).Txn(t.Context(), func(tx *kv.Tx) error {
		clear(sums)
		for _, bucket := range buckets {
			for i := range accounts {
				n, err := numberOf(t.Context(), tx, bucket, strconv.Itoa(i))
				if err != nil {
					return err
				}
				sums[bucket] += n
			}
		}
		for n := range clients {
			got, err := numberOf(t.Context(), tx, "moved", strconv.Itoa(n))
			if err != nil {
				return err
			}
			sums[fmt.Sprint("client ", n)] = got
		}
		return nil
	}, assent.WithTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for n := range clients {
		total += moved[n]
		if got := sums[fmt.Sprint("client ", n)]; got != moved[n] {
			t.Errorf("client %d has moved %d, and was told %d", n, got, moved[n])
		}
	}
	if sums[buckets[0]] != -total || sums[buckets[1]] != total {
		t.Errorf("the buckets have %v, after %d transfers", sums, total)
	}
	if s := p.Stats(); s.Overtaken != 0 {
		t.Errorf("%+v", s)
	}
}

func bucketsClient(t *testing.T, nc *nats.Conn) *kv.Client {
	t.Helper()
	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	store, err := kv.NewClient(client, nc, kv.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func addTo(ctx context.Context, tx *kv.Tx, bucket, key string, n int) error {
	had, err := numberOf(ctx, tx, bucket, key)
	if err != nil {
		return err
	}
	return tx.Put(bucket, key, strconv.AppendInt(nil, int64(had+n), 10))
}

// numberOf reads a key as a number; what is not there is 0.
func numberOf(ctx context.Context, tx *kv.Tx, bucket, key string) (int, error) {
	entry, err := tx.Get(ctx, bucket, key)
	if errors.Is(err, kv.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(entry.Value))
}
