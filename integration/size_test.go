// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// What grows: memory and log under many transactions, and the time to start after a kill. The numbers that the product
// promises take minutes, so they run with -faults.all (make soak); otherwise smaller ones show that the machinery works.

// pour makes n transactions that nobody refuses and nobody keeps, and gives how many a second.
func (c *cluster) pour(n int64, clients int) float64 {
	c.t.Helper()
	var left atomic.Int64
	left.Store(n)
	var failed atomic.Pointer[error]
	began := time.Now()
	var workers sync.WaitGroup
	for range clients {
		workers.Go(func() {
			for left.Add(-1) >= 0 && failed.Load() == nil {
				if err := c.drop(3 * time.Second); err != nil && !errors.Is(err, assent.ErrAborted) {
					failed.Store(&err)
				}
			}
		})
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		c.t.Fatal(*err)
	}
	return float64(n) / time.Since(began).Seconds()
}

// drop is one of them.
func (c *cluster) drop(timeout time.Duration) error {
	tx := c.client.Begin(assent.WithTimeout(timeout))
	tx.Enlist("bank-a", 1)
	tx.Enlist("bank-b", 2)
	return tx.Commit(context.Background())
}

func TestMemoryAndLogStayBounded(t *testing.T) {
	if !*allFaults {
		t.Parallel() // its figures mean little then
	}
	n, window := int64(12_000), "ASSENT_WINDOW=1000"
	if *allFaults {
		n, window = 1_000_000, "" // the real window of two minutes
	}
	c := start(t, setup{
		combined: true, bank: []string{"-noop"}, env: []string{window},
		coordinator: []string{"-history", "1s", "-history-bytes", fmt.Sprint(4 << 20)},
	})
	const steps = 6
	var memory [steps]int
	for i := range steps {
		rate := c.pour(n/steps, 256)
		memory[i] = residentKB(t, c.server.proc().cmd.Process.Pid)
		state := c.logState()
		t.Logf("%7d transactions: %.0f/s, %d MB resident, log %d KB from sequence %d to %d", (int64(i)+1)*n/steps, rate,
			memory[i]>>10, state.Bytes>>10, state.FirstSeq, state.LastSeq)
	}
	eventually(t, "the log is trimmed", func() error {
		c.pour(1, 1) // log time moves with the log
		state := c.logState()
		if state.FirstSeq <= 1 {
			return fmt.Errorf("it still begins at %d and ends at %d", state.FirstSeq, state.LastSeq)
		}
		return nil
	})
	if *allFaults && memory[steps-1] > memory[steps/2]*3/2 {
		t.Errorf("memory grows: %v KB", memory)
	}
	c.book.write(&entry{id: assent.NewID(), err: assent.ErrNotFound}) // pour keeps no book
	c.settle()
}

func (c *cluster) logState() jetstream.StreamState {
	c.t.Helper()
	js, err := jetstream.New(c.nc)
	if err != nil {
		c.t.Fatal(err)
	}
	stream, err := js.Stream(within(c.t, patience), messages.Subjects{}.Stream(0))
	if err != nil {
		c.t.Fatal(err)
	}
	return stream.CachedInfo().State
}

// residentKB is a process's memory.
func residentKB(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no /proc here: %v", err)
	}
	for line := range bytes.Lines(data) {
		if rest, ok := strings.CutPrefix(string(line), "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// The coordinator starts after kill -9 with everything still in the log: the time to the first new commit.
func TestStartAfterKill(t *testing.T) {
	if !*allFaults {
		t.Parallel()
	}
	n := int64(4_000)
	if *allFaults {
		n = 100_000
	}
	c := start(t, setup{combined: true, bank: []string{"-noop"}})
	rate := c.pour(n, 1024)
	c.server.kill()
	before := time.Now()
	c.server.start()
	listening := time.Since(before)
	c.server.ready()
	led := time.Since(before)
	if err := c.drop(patience); err != nil {
		t.Fatal(err)
	}
	committed := time.Since(before)
	t.Logf("%d transactions (%.0f/s) in a log of %d KB: listening after %v, leading after %v, first new commit after %v",
		n, rate, c.logState().Bytes>>10, listening.Round(time.Millisecond), led.Round(time.Millisecond), committed.Round(time.Millisecond))
	if *allFaults && committed > 2*time.Second {
		t.Errorf("the first new commit came after %v; it must take less than 2 s", committed)
	}
	c.settle()
}
