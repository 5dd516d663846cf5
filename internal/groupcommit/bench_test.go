// SPDX-License-Identifier: Apache-2.0

package groupcommit_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"

	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/messages"
)

func benchBatcher() *groupcommit.Batcher[messages.ID] {
	return groupcommit.New(context.Background(), groupcommit.Config[messages.ID]{
		Send: func(context.Context, string, []byte) (uint64, error) {
			runtime.Gosched()
			return 0, nil
		},
		Settled: func(string, []messages.ID, uint64, error) {},
	})
}

func BenchmarkAppend(b *testing.B) {
	batcher := benchBatcher()
	line, id := bytes.Repeat([]byte("x"), 256), messages.NewID()
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if err := batcher.Append(context.Background(), "s", line, id); err != nil {
			b.Fatal(err)
		}
	}
	drain(b, batcher)
}

func BenchmarkAppendParallel(b *testing.B) {
	batcher := benchBatcher()
	line, id := bytes.Repeat([]byte("x"), 256), messages.NewID()
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := batcher.Append(context.Background(), "s", line, id); err != nil {
				b.Error(err)
			}
		}
	})
	drain(b, batcher)
}

// A record costs no allocation once the buffers have grown.
func TestAllocations(t *testing.T) {
	batcher := benchBatcher()
	line, id := bytes.Repeat([]byte("x"), 256), messages.NewID()
	burst := func() {
		for range 400 {
			if err := batcher.Append(context.Background(), "s", line, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 20 {
		burst()
	}
	if allocs := testing.AllocsPerRun(50, burst) / 400; allocs > 0.5 {
		t.Errorf("%.2f allocations a record", allocs)
	}
	drain(t, batcher)
}
