// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
)

// BenchmarkTransfer compares transfers between two keys of two buckets with what their two writes cost alone: the same values put by the same
// number of clients, both buckets at once, with sync always. "x" is how many times as long a transfer takes; rounds of the two alternate.
//
//	go test -run '^$' -bench Transfer -benchtime 1x ./participant/kv
func BenchmarkTransfer(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			w := newWorld(b)
			w.participate(w.connect(), Config{})
			_, store := w.newClient(w.connect())
			transfer := func(ctx context.Context) error {
				return transfer(ctx, store, strconv.Itoa(rand.N(100_000)), strconv.Itoa(rand.N(100_000)))
			}
			writes := func(ctx context.Context) error { return w.bareWrites(ctx) }
			const slice = time.Second
			log, journal := w.messages("assent-log-0"), w.messages("assent-journal-kv")
			var ours, bare float64
			for b.Loop() {
				for range 2 {
					bare += rate(b, clients, slice, writes)
					ours += rate(b, clients, slice, transfer)
				}
			}
			transfers := ours * slice.Seconds()
			b.ReportMetric(float64(w.messages("assent-log-0")-log)/transfers, "log-messages")
			b.ReportMetric(float64(w.messages("assent-journal-kv")-journal)/transfers, "journal-messages")
			b.ReportMetric(ours/float64(2*b.N), "transfers/s")
			b.ReportMetric(bare/float64(2*b.N), "pairs/s")
			b.ReportMetric(bare/ours, "x")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// messages is how many a stream has ever had.
func (f *fixture) messages(stream string) uint64 {
	f.t.Helper()
	s, err := f.js.Stream(f.ctx(), stream)
	must(f.t, err)
	return s.CachedInfo().State.LastSeq
}

// transfer moves one from a key of the one bucket to a key of the other.
func transfer(ctx context.Context, store *Client, from, to string) error {
	return store.Txn(ctx, func(tx *Tx) error {
		x, err := number(ctx, tx, "a", from)
		if err != nil {
			return err
		}
		y, err := number(ctx, tx, "b", to)
		if err != nil {
			return err
		}
		return errors.Join(tx.Put("a", from, strconv.AppendInt(nil, int64(x+1), 10)), tx.Put("b", to, strconv.AppendInt(nil, int64(y+1), 10)))
	})
}

// bareWrites are the two writes of a transfer, at once.
func (f *fixture) bareWrites(ctx context.Context) error {
	second := make(chan error, 1)
	put := func(bucket string) error {
		_, err := f.js.PublishMsg(ctx, &nats.Msg{Subject: "$KV." + bucket + "." + strconv.Itoa(rand.N(100_000)), Data: []byte("1000"), Header: nats.Header{
			TxHeader: {"01996d3e-0000-7000-8000-000000000000"}}})
		return err
	}
	go func() { second <- put("b") }()
	return errors.Join(put("a"), <-second)
}

// rate is how often a second clients do something, each one time after the other.
func rate(b *testing.B, clients int, slice time.Duration, do func(context.Context) error) float64 {
	b.Helper()
	begun := time.Now()
	var done atomic.Int64
	many(clients, func(int) {
		for time.Since(begun) < slice {
			if err := do(b.Context()); err != nil {
				if !errors.Is(err, assent.ErrConflict) {
					b.Error(err)
				}
				return
			}
			done.Add(1)
		}
	})
	return float64(done.Load()) / time.Since(begun).Seconds()
}

// BenchmarkContention is transfers between keys of which some are hot: zipf with exponent 0.9 over 1000 keys, half of them in each bucket, 64
// clients. It reports commits a second, how often a function ran for each, and percentiles of how long a transfer took with
// all its repetitions.
func BenchmarkContention(b *testing.B) {
	w := newWorld(b)
	w.participate(w.connect(), Config{})
	_, store := w.newClient(w.connect())
	keys := zipf(1000, 0.9)
	var mu sync.Mutex
	var took []time.Duration
	var calls atomic.Int64
	var begun time.Time
	for b.Loop() {
		begun = time.Now()
		many(64, func(int) {
			for time.Since(begun) < 4*time.Second {
				from, to, start := keys(), keys(), time.Now()
				if from == to {
					continue
				}
				err := store.Txn(b.Context(), func(tx *Tx) error {
					calls.Add(1)
					return move(b.Context(), tx, from, to)
				})
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	slices.Sort(took)
	percentile := func(p float64) float64 { return float64(took[int(p*float64(len(took)-1))].Microseconds()) / 1e3 }
	b.ReportMetric(float64(len(took))/time.Since(begun).Seconds(), "commits/s")
	b.ReportMetric(float64(calls.Load())/float64(len(took)), "calls/commit")
	b.ReportMetric(percentile(0.5), "p50-ms")
	b.ReportMetric(percentile(0.99), "p99-ms")
	b.ReportMetric(percentile(1), "max-ms")
	b.ReportMetric(0, "ns/op")
}

// move moves one from a key to another, of the buckets that their numbers choose.
func move(ctx context.Context, tx *Tx, from, to int) error {
	for key, by := range map[int]int{from: -1, to: 1} {
		bucket, name := []string{"a", "b"}[key%2], strconv.Itoa(key)
		n, err := number(ctx, tx, bucket, name)
		if err != nil {
			return err
		}
		if err := tx.Put(bucket, name, strconv.AppendInt(nil, int64(n+by+1000), 10)); err != nil {
			return err
		}
	}
	return nil
}

// zipf draws numbers below n, k with a probability in proportion to (k+1)^-s.
func zipf(n int, s float64) func() int {
	sums := make([]float64, n)
	total := 0.0
	for k := range sums {
		total += math.Pow(float64(k+1), -s)
		sums[k] = total
	}
	return func() int {
		k, _ := slices.BinarySearch(sums, rand.Float64()*total)
		return min(k, n-1)
	}
}
