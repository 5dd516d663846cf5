// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// An instance that is killed with prepares in hand gives no sign of life any more: they come to the next one long before the
// transactions expire. (`assent demo` showed them to wait for 30 s, which is when they expire.)
func TestPreparesOfADeadInstanceComeInTime(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	subjects := messages.Subjects{Prefix: messages.DefaultPrefix}
	if _, err := nc.Request(subjects.API("register"), []byte(`{"name":"a","instance":"dead"}`), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	client := newClient(t, nc)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	tx := client.Begin(assent.WithTimeout(20 * time.Second))
	tx.Enlist("a", 1)
	committed := make(chan error, 1)
	go func() { committed <- tx.Commit(ctx) }()
	takeAndDie(ctx, t, nc, subjects)

	join(t, nc, "a", newRecorder())
	if err := <-committed; err != nil {
		t.Error(err)
	}
}

// takeAndDie takes one message of prepares for "a" and never answers.
func takeAndDie(ctx context.Context, t *testing.T, nc *nats.Conn, subjects messages.Subjects) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.Consumer(ctx, subjects.Stream(0), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(); err != nil {
		t.Fatal(err)
	}
}
