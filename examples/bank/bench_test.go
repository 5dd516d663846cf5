// SPDX-License-Identifier: Apache-2.0

//go:build unix

package bank

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/assent-tx/assent/participant"
)

// BenchmarkBatches prepares a batch while the one before it is finished, as it comes under load. It reports the processor time and the
// commits of a branch.
func BenchmarkBatches(b *testing.B) {
	const size, many = 128, 1000
	store, err := Open(filepath.Join(b.TempDir(), "bank"), 0)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	names := make([]string, many)
	for i := range names {
		names[i] = fmt.Sprintf("account-%d", i)
	}
	if err := store.OpenAccounts(1<<40, names...); err != nil {
		b.Fatal(err)
	}
	var finishing sync.WaitGroup
	var branches int
	begun := cpu()
	for b.Loop() {
		batch := make([]*participant.Branch, size)
		outcomes := make([]participant.Outcome, size)
		for i := range batch {
			batch[i] = branch(Entry{names[rand.IntN(many)], 1})
			batch[i].Expires = time.Now().Add(3 * time.Second)
			outcomes[i] = participant.Outcome{Tx: batch[i].Tx, Commit: true}
		}
		for _, r := range store.PrepareBatch(b.Context(), batch) {
			if r.Err != nil || r.Vote != participant.Yes {
				b.Fatal(r)
			}
		}
		finishing.Wait()
		finishing.Go(func() {
			if err := errors.Join(store.FinishBatch(b.Context(), outcomes)...); err != nil {
				b.Error(err)
			}
		})
		branches += size
	}
	finishing.Wait()
	b.ReportMetric(float64((cpu()-begun).Nanoseconds())/float64(branches), "cpu-ns/branch")
}

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
