// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/participant"
)

// registers is a handler of some numbers, of which each operation says what one was and what it is to be: right only if nothing
// comes between a transaction's reads and its outcome.
type registers struct {
	t        *testing.T
	mu       sync.Mutex
	values   map[string]int
	prepared map[assent.ID][]write
	busy     map[string]assent.ID
}

// write is an operation: it adds something to a register.
type write struct {
	Key string
	Add int
}

func newRegisters(t *testing.T) *registers {
	return &registers{t: t, values: map[string]int{}, prepared: map[assent.ID][]write{}, busy: map[string]assent.ID{}}
}

func (r *registers) Prepare(_ context.Context, b *participant.Branch) (participant.Vote, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.prepared[b.Tx] != nil {
		return participant.Yes, nil
	}
	var writes []write
	for i := range b.Operations {
		var w write
		if err := b.Decode(i, &w); err != nil {
			return 0, participant.Refuse(err)
		}
		if other, busy := r.busy[w.Key]; busy && other != b.Tx {
			r.t.Errorf("%s is asked for %s, which %s has", b.Tx, w.Key, other)
		}
		r.busy[w.Key] = b.Tx
		writes = append(writes, w)
	}
	r.prepared[b.Tx] = writes
	return participant.Yes, nil
}

func (r *registers) settle(tx assent.ID, commit bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.prepared[tx] {
		if commit {
			r.values[w.Key] += w.Add
		}
		delete(r.busy, w.Key)
	}
	delete(r.prepared, tx)
}

func (r *registers) Commit(_ context.Context, tx assent.ID) error   { r.settle(tx, true); return nil }
func (r *registers) Rollback(_ context.Context, tx assent.ID) error { r.settle(tx, false); return nil }

// InDoubt: it holds nothing beyond its life.
func (r *registers) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

// Many clients want the same few keys, of two participants and over two shards, where no order helps: each Do ends, and each
// key is one transaction's at a time.
func TestDoUnderContention(t *testing.T) {
	nc := cluster(t, coordinator.Config{Shards: 2})
	banks := map[string]*registers{"a": newRegisters(t), "b": newRegisters(t)}
	for name, bank := range banks {
		join(t, nc, name, bank)
	}
	client := newClient(t, nc)
	const workers, each, keys = 6, 6, 2
	var attempts atomic.Int32
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			for i := range each {
				from, to := fmt.Sprint("k", worker%keys), fmt.Sprint("k", (worker+i)%keys)
				err := client.Do(patient(t), func(tx *assent.Tx) error {
					attempts.Add(1)
					tx.Enlist("a", write{from, -1}, assent.Keys(from))
					tx.Enlist("b", write{to, +1}, assent.Keys(to))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	t.Logf("%d attempts of %d transactions", attempts.Load(), workers*each)
	eventually(t, "nothing is held", func() bool { return banks["a"].held()+banks["b"].held() == 0 })
	if a, b := banks["a"].sum(), banks["b"].sum(); a != -workers*each || b != workers*each {
		t.Errorf("a has %d and b %d; want %d", a, b, workers*each)
	}
}

func (r *registers) held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.prepared)
}

func (r *registers) sum() (sum int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, value := range r.values {
		sum += value
	}
	return sum
}
