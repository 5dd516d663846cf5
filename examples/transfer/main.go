// SPDX-License-Identifier: Apache-2.0

// The command transfer moves five euros from alice at bank-a to bob at bank-b: both accounts change, or neither.
//
//	go run ./examples/transfer [nats://127.0.0.1:4222]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/examples/bank"
)

func main() {
	server := nats.DefaultURL
	if len(os.Args) > 1 {
		server = os.Args[1]
	}
	if err := transfer(server); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// transfer is the program of the README.
func transfer(server string) error {
	ctx := context.Background()
	nc, err := nats.Connect(server)
	if err != nil {
		return err
	}
	defer nc.Close()
	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		return err
	}
	defer client.Close()

	tx := client.Begin()
	tx.Enlist("bank-a", bank.Entry{Account: "alice", Cents: -500}, assent.Keys("account/alice"))
	tx.Enlist("bank-b", bank.Entry{Account: "bob", Cents: 500}, assent.Keys("account/bob"))
	var aborted *assent.AbortedError
	switch err := tx.Commit(ctx); {
	case err == nil:
		fmt.Println("committed: alice has paid bob")
	case errors.As(err, &aborted):
		fmt.Printf("aborted, no account has changed: %s: %s\n", aborted.Participant, aborted.Reason)
	case errors.Is(err, assent.ErrUnknown): // perhaps committed: never submit it under a new id, ask
		outcome, err := client.Wait(ctx, tx.ID())
		fmt.Println("after all:", outcome, err)
	default:
		return err // it was not accepted
	}
	return nil
}
