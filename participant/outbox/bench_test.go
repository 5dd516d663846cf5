// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/participant"
)

// batchSize is how many messages are under way at once in both benchmarks.
const batchSize = 256

// What a message costs by the outbox, without the transaction round it: two appends to the journal for a whole batch, and the
// message itself. Compare with BenchmarkPublish of the same run.
func BenchmarkOutbox(b *testing.B) {
	d := newDesk(b)
	d.stream(orders())
	for done := 0; done < b.N; done += batchSize {
		var branches []*participant.Branch
		var outcomes []participant.Outcome
		for range batchSize {
			br := branch(b, text("orders.a", "a confirmation"))
			branches, outcomes = append(branches, br), append(outcomes, participant.Outcome{Tx: br.Tx, Commit: true})
		}
		for _, r := range d.PrepareBatch(b.Context(), branches) {
			must(b, r.Err)
		}
		must(b, errors.Join(d.FinishBatch(b.Context(), outcomes)...))
	}
}

// The yardstick: the same messages, published as fast as a client can.
func BenchmarkPublish(b *testing.B) {
	d := newDesk(b)
	d.stream(orders())
	for done := 0; done < b.N; done += batchSize {
		var futures []jetstream.PubAckFuture
		for range batchSize {
			future, err := d.streams.PublishAsync("orders.a", []byte("a confirmation"), jetstream.WithMsgID(branch(b).Tx.String()))
			must(b, err)
			futures = append(futures, future)
		}
		for _, future := range futures {
			select {
			case <-future.Ok():
			case err := <-future.Err():
				b.Fatal(err)
			}
		}
	}
}
