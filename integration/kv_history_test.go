// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/internal/elle"
	"github.com/assent-tx/assent/participant/kv"
)

// bucketWorld is a cluster whose participant is that of key-value buckets. Clients append to lists in two buckets, and what they saw is
// checked for an order.
type bucketWorld struct {
	*cluster
	kv    *node
	store *kv.Client

	mu      sync.Mutex
	events  []elle.Event
	process int32
	values  int64
	done    int
	seen    sync.Cond // of done
}

// startBuckets brings it up; crash is where the first participant kills itself.
func startBuckets(t testing.TB, s setup, crash string) *bucketWorld {
	t.Helper()
	s.banks = []string{}
	w := &bucketWorld{cluster: start(t, s)}
	w.seen.L = &w.mu
	w.kv = w.instance("kv")
	js, err := jetstream.New(w.nc)
	if err == nil {
		for _, bucket := range []string{"a", "b"} {
			_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket})
			if err != nil {
				break
			}
		}
	}
	if err == nil {
		w.store, err = kv.NewClient(w.client, w.nc, kv.ClientConfig{})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.kv.start(crashAt(crash)...)
	w.kv.ready()
	return w
}

// instance adds a node that is an instance of the participant; it is not started yet.
func (w *bucketWorld) instance(name string) *node {
	l := newLink(w.t, w.serverAddress)
	return w.member(name, l, []string{"kv", "-url", l.URL()})
}

func (w *bucketWorld) record(e elle.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	if e.Type == elle.OK {
		w.done++
		w.seen.Broadcast()
	}
}

// begin gives a new client's number; one that does not know what became of its transaction does nothing more.
func (w *bucketWorld) begin() int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process++
	return w.process - 1
}

func (w *bucketWorld) value() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values++
	return w.values
}

// more waits until so many further transactions are committed.
func (w *bucketWorld) more(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for target := w.done + n; w.done < target; {
		w.seen.Wait()
	}
}

// appends runs clients until stop is called, which waits for them.
func (w *bucketWorld) appends(clients int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			process := w.begin()
			for ctx.Err() == nil {
				if !w.transaction(process, w.some()) {
					process = w.begin()
				}
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// some is a transaction of up to four operations on few lists.
func (w *bucketWorld) some() []elle.Operation {
	operations := make([]elle.Operation, 1+rand.N(4))
	for i := range operations {
		operations[i] = elle.Operation{Op: elle.Read, Key: []string{"a/", "b/"}[rand.N(2)] + strconv.Itoa(rand.N(3))}
		if rand.N(2) == 0 {
			value := w.value()
			operations[i].Op, operations[i].Value = elle.Append, &value
		}
	}
	return operations
}

// transaction runs one and records it; false when its outcome is not known.
func (w *bucketWorld) transaction(process int32, operations []elle.Operation) bool {
	w.record(elle.Event{Type: elle.Invoke, Process: process, Operations: operations})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var observed []elle.Operation
	err := w.store.Txn(ctx, func(tx *kv.Tx) (err error) {
		observed, err = apply(ctx, tx, operations)
		return err
	})
	end := elle.Event{Type: elle.OK, Process: process, Operations: observed}
	switch {
	case err == nil:
	case errors.Is(err, assent.ErrUnknown):
		end = elle.Event{Type: elle.Info, Process: process, Error: err.Error()}
	default: // of the function, or aborted: nothing happened
		end = elle.Event{Type: elle.Fail, Process: process, Error: err.Error()}
	}
	w.record(end)
	return end.Type != elle.Info
}

// apply does the operations in a transaction, and gives them with what they saw.
func apply(ctx context.Context, tx *kv.Tx, operations []elle.Operation) ([]elle.Operation, error) {
	observed := append([]elle.Operation(nil), operations...)
	for i, op := range operations {
		bucket, key, _ := strings.Cut(op.Key, "/")
		e, err := tx.Get(ctx, bucket, key)
		if err != nil && !errors.Is(err, kv.ErrKeyNotFound) {
			return nil, err
		}
		if op.Op == elle.Append {
			if err := tx.Put(bucket, key, fmt.Appendf(e.Value, "%d ", *op.Value)); err != nil {
				return nil, err
			}
			continue
		}
		observed[i].Values = []int64{}
		for field := range strings.FieldsSeq(string(e.Value)) {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return nil, err
			}
			observed[i].Values = append(observed[i].Values, n)
		}
	}
	return observed, nil
}

// check reads every list once more and looks for anomalies in all that was seen.
func (w *bucketWorld) check() {
	w.t.Helper()
	var all []elle.Operation
	for _, bucket := range []string{"a/", "b/"} {
		for key := range 3 {
			all = append(all, elle.Operation{Op: elle.Read, Key: bucket + strconv.Itoa(key)})
		}
	}
	if !w.transaction(w.begin(), all) {
		w.t.Fatal("the last read did not end")
	}
	b := elle.NewBuilder()
	for i := range w.events {
		if err := b.Add(&w.events[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	h, err := b.History()
	if err != nil {
		w.t.Fatal(err)
	}
	report := elle.Check(h, elle.Options{})
	if !report.OK() {
		for _, a := range report.Anomalies[:min(len(report.Anomalies), 4)] {
			w.t.Errorf("%s: %+v", a.Class, a)
		}
		w.t.Errorf("%d transactions, anomalies: %v", report.Transactions, report.Counts)
	}
	if report.Committed < 20 {
		w.t.Errorf("only %d of %d transactions were committed", report.Committed, report.Transactions)
	}
	w.t.Logf("%d transactions: %d committed, %d failed, %d unknown", report.Transactions, report.Committed, report.Failed, report.Unknown)
}
