// SPDX-License-Identifier: Apache-2.0

package kv_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant/kv"
)

// Two keys of two buckets are changed together, or not at all: if another transaction changes one of them meanwhile, the function runs again.
func ExampleClient_Txn() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	nc, stop := everything(ctx)
	defer stop()
	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	store, err := kv.NewClient(client, nc, kv.ClientConfig{})
	if err != nil {
		panic(err)
	}

	errFunds := errors.New("not enough money")
	transfer := func(from, to string, cents int) error {
		return store.Txn(ctx, func(tx *kv.Tx) error {
			a, err := tx.Get(ctx, "checking", from)
			if err != nil {
				return err
			}
			b, err := tx.Get(ctx, "savings", to)
			if err != nil {
				return err
			}
			balanceA, _ := strconv.Atoi(string(a.Value))
			balanceB, _ := strconv.Atoi(string(b.Value))
			if balanceA < cents {
				return errFunds
			}
			return errors.Join(
				tx.Put("checking", from, []byte(strconv.Itoa(balanceA-cents))),
				tx.Put("savings", to, []byte(strconv.Itoa(balanceB+cents))),
			)
		})
	}
	fmt.Println(transfer("alice", "bob", 30))
	fmt.Println(transfer("alice", "bob", 300))
	var a, b kv.Entry
	err = store.Txn(ctx, func(tx *kv.Tx) (err error) { // one that only reads sees all of those before it, too
		if a, err = tx.Get(ctx, "checking", "alice"); err != nil {
			return err
		}
		b, err = tx.Get(ctx, "savings", "bob")
		return err
	})
	fmt.Println("alice", string(a.Value), "bob", string(b.Value), err)
	// Output:
	// <nil>
	// not enough money
	// alice 70 bob 30 <nil>
}

// everything is a NATS server, a coordinator, a participant and two buckets, in this process.
func everything(ctx context.Context) (nc *nats.Conn, stop func()) {
	dir, err := os.MkdirTemp("", "assent-")
	if err != nil {
		panic(err)
	}
	server, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	if nc, err = server.Connect(); err != nil {
		panic(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		panic(err)
	}
	for bucket, key := range map[string]string{"checking": "alice", "savings": "bob"} {
		b, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket})
		if err != nil {
			panic(err)
		}
		if _, err := b.PutString(ctx, key, map[string]string{"alice": "100", "bob": "0"}[key]); err != nil {
			panic(err)
		}
	}
	c, err := coordinator.New(nc, coordinator.Config{})
	if err != nil {
		panic(err)
	}
	p, err := kv.New(nc, kv.Config{})
	if err != nil {
		panic(err)
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() { ended <- c.Run(running) }()
	go func() { ended <- p.Run(running) }()
	<-c.Ready()
	<-p.Ready()
	return nc, func() {
		end()
		_, _ = <-ended, <-ended
		nc.Close()
		_ = server.Close()
		_ = os.RemoveAll(dir)
	}
}
