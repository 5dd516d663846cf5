// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// yesman agrees with everything and keeps nothing.
type yesman struct{}

func (yesman) Prepare(context.Context, *participant.Branch) (participant.Vote, error) {
	return participant.Yes, nil
}
func (yesman) Commit(context.Context, messages.ID) error               { return nil }
func (yesman) Rollback(context.Context, messages.ID) error             { return nil }
func (yesman) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

// BenchmarkTransactions commits transactions of two participants by 64 clients: without keys, with keys of each client's own,
// with one of 1,000 that all share at each participant, and with one key for all.
func BenchmarkTransactions(b *testing.B) {
	for _, shards := range []int{1, 8} {
		for _, c := range []struct {
			name string
			keys func(client, n int) []assent.OpOption
		}{
			{"none", func(int, int) []assent.OpOption { return nil }},
			{"own", func(client, _ int) []assent.OpOption {
				return []assent.OpOption{assent.Keys(fmt.Sprint("key", client))}
			}},
			{"1000", func(client, n int) []assent.OpOption {
				return []assent.OpOption{assent.Keys(fmt.Sprint("key", (client*7919+n*104729)%1000))}
			}},
			{"one", func(int, int) []assent.OpOption { return []assent.OpOption{assent.Keys("key")} }},
		} {
			b.Run(fmt.Sprintf("shards=%d/keys=%s", shards, c.name), func(b *testing.B) { benchmarkTransactions(b, shards, c.keys) })
		}
	}
}

func benchmarkTransactions(b *testing.B, shards int, keys func(client, n int) []assent.OpOption) {
	const clients = 64
	server, err := embedded.Start(embedded.Config{Dir: b.TempDir()})
	must(b, err)
	defer func() { must(b, server.Close()) }()
	connect := func() *nats.Conn {
		nc, err := server.Connect()
		must(b, err)
		b.Cleanup(nc.Close)
		return nc
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(run func(context.Context) error, ready <-chan struct{}) {
		running.Go(func() {
			if err := run(ctx); err != nil {
				b.Error(err)
			}
		})
		<-ready
	}
	defer running.Wait()
	defer stop()
	c, err := coordinator.New(connect(), coordinator.Config{Shards: shards})
	must(b, err)
	run(c.Run, c.Ready())
	for _, name := range []string{"a", "b"} {
		p, err := participant.New(connect(), participant.Config{Name: name, Handler: yesman{}})
		must(b, err)
		run(p.Run, p.Ready())
	}
	client, err := assent.New(connect(), assent.Config{})
	must(b, err)
	defer client.Close()
	work := make(chan int, b.N)
	for n := range b.N {
		work <- n
	}
	close(work)
	b.ResetTimer()
	var clientsRun sync.WaitGroup
	for i := range clients {
		clientsRun.Go(func() {
			for n := range work {
				err := client.Do(ctx, func(tx *assent.Tx) error {
					tx.Enlist("a", n, keys(i, n)...)
					tx.Enlist("b", n, keys(i, n)...)
					return nil
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	clientsRun.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
}
