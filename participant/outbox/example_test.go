// SPDX-License-Identifier: Apache-2.0

package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant/outbox"
)

// Two transactions with a message each: one can be kept, of the other the second message cannot, because no stream takes it.
func Example() {
	nc, js, stop := start()
	defer stop()
	ctx, leave := context.WithCancel(context.Background())
	box, err := outbox.New(nc, outbox.Config{})
	check(err)
	over := make(chan error)
	go func() { over <- box.Run(ctx) }()
	<-box.Ready()

	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	check(err)
	client, err := assent.New(nc, assent.Config{})
	check(err)

	tx := client.Begin() // beside it, whatever else belongs to an order
	outbox.Publish(tx, "outbox", outbox.Message{Subject: "orders.confirmed", Data: []byte("order 1")})
	fmt.Println("order 1:", tx.Commit(ctx))

	tx = client.Begin()
	outbox.Publish(tx, "outbox", outbox.Message{Subject: "orders.confirmed", Data: []byte("order 2")})
	outbox.Publish(tx, "outbox", outbox.Message{Subject: "invoices.new", Data: []byte("order 2")})
	var aborted *assent.AbortedError
	fmt.Println("order 2:", errors.As(tx.Commit(ctx), &aborted), aborted.Reason)

	stored(js)
	client.Close()
	leave()
	check(<-over)
	// Output:
	// order 1: <nil>
	// order 2: true operation 1: subject invoices.new: no stream takes it; make one, or make it a core message
	// stored: order 1, and 0 more
}

// stored waits for the stream's first message: a client hears of an outcome before it is applied everywhere.
func stored(js jetstream.JetStream) {
	consumer, err := js.OrderedConsumer(context.Background(), "ORDERS", jetstream.OrderedConsumerConfig{})
	check(err)
	m, err := consumer.Next()
	check(err)
	meta, err := m.Metadata()
	check(err)
	fmt.Printf("stored: %s, and %d more\n", m.Data(), meta.NumPending)
}

// start runs everything else that the example needs.
func start() (nc *nats.Conn, js jetstream.JetStream, stop func()) {
	dir, err := os.MkdirTemp("", "outbox")
	check(err)
	server, err := embedded.Start(embedded.Config{Dir: dir})
	check(err)
	nc, err = server.Connect()
	check(err)
	js, err = jetstream.New(nc)
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	lead, err := coordinator.New(nc, coordinator.Config{})
	check(err)
	var running sync.WaitGroup
	running.Go(func() { check(lead.Run(ctx)) })
	<-lead.Ready()
	return nc, js, func() {
		cancel()
		running.Wait()
		nc.Close()
		check(server.Close())
		check(os.RemoveAll(dir))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
