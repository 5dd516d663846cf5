// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// benchmarkCluster starts a server and sessions for a benchmark.
func benchmarkCluster(b *testing.B) *lockCluster {
	b.Helper()
	cfg, err := LocksConfig{Dir: b.TempDir(), Duration: 1e9}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	c, err := startLockClients(b.Context(), &cfg, func(cause error) { b.Error(cause) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.close(); err != nil {
			b.Error(err)
		}
	})
	return c
}

// spread has so many clients share b.N calls of do.
func spread(b *testing.B, clients int, do func(ctx context.Context, client int) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	cpu := cpuTime()
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(b.Context(), client); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op") // server and clients together; steadier than the time
}

// A raw publish, to hold the others against.
func BenchmarkRawPublish(b *testing.B) {
	c := benchmarkCluster(b)
	for _, clients := range []int{1, lockClients} {
		b.Run(fmt.Sprintf("publishers=%d", clients), func(b *testing.B) { spread(b, clients, c.publish(lockRawStreams)) })
	}
}

// Lock and Unlock by clients with keys of their own.
func BenchmarkLockUnlock(b *testing.B) {
	c := benchmarkCluster(b)
	for _, clients := range []int{1, lockClients} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { spread(b, clients, c.pair) })
	}
}

// A lock that goes from one client to the next.
func BenchmarkHandOff(b *testing.B) {
	c := benchmarkCluster(b)
	for _, clients := range []int{16, lockClients} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			r := newRegister(clients)
			spread(b, clients, r.client(c.lock(fmt.Sprintf("contended-%d", clients), func(int) bool { return false })))
			if r.violations > 0 {
				b.Errorf("%d violations of mutual exclusion", r.violations)
			}
			b.ReportMetric(milliseconds(r.handOffs.ValueAtQuantile(50)), "hand-off-p50-ms")
			b.ReportMetric(milliseconds(r.handOffs.ValueAtQuantile(99)), "hand-off-p99-ms")
		})
	}
}
