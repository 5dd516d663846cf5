// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
)

// exampleServer starts a server for an example; a program would connect to the one that it has.
func exampleServer() (nc *nats.Conn, stop func()) {
	dir, err := os.MkdirTemp("", "locks-example")
	check(err)
	srv, err := embedded.Start(embedded.Config{Dir: dir, Listen: "127.0.0.1:0"})
	check(err)
	nc, err = nats.Connect(srv.URL(), nats.MaxReconnects(-1))
	check(err)
	return nc, func() {
		nc.Close()
		_ = srv.Close()
		_ = os.RemoveAll(dir)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Do is the shortest way to do something alone.
func ExampleSession_Do() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	session, err := locks.Open(ctx, nc, locks.Config{Owner: "biller-1"})
	check(err)
	defer session.Close(ctx)

	err = session.Do(ctx, "invoices/2026-11", func(ctx context.Context, token locks.Token) error {
		// ctx ends when the lock is lost; what is written carries the token.
		fmt.Println("alone, with a token:", !token.IsZero())
		return nil
	})
	fmt.Println(err)
	// Output:
	// alone, with a token: true
	// <nil>
}

func ExampleSession_Lock() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	session, err := locks.Open(ctx, nc, locks.Config{})
	check(err)
	defer session.Close(ctx)

	lock, err := session.Lock(ctx, "stock/widget")
	check(err)
	for range 3 {
		check(lock.Err()) // before each step: is it still ours?
		fmt.Println("a step")
	}
	check(lock.Unlock(ctx))
	fmt.Println(errors.Is(lock.Unlock(ctx), locks.ErrNotHeld))
	// Output:
	// a step
	// a step
	// a step
	// true
}

func ExampleSession_TryLock() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	ann, err := locks.Open(ctx, nc, locks.Config{Owner: "ann"})
	check(err)
	defer ann.Close(ctx)
	bob, err := locks.Open(ctx, nc, locks.Config{Owner: "bob"})
	check(err)
	defer bob.Close(ctx)

	_, err = ann.Lock(ctx, "till")
	check(err)
	_, err = bob.TryLock(ctx, "till")
	var held *locks.HeldError
	if errors.As(err, &held) {
		fmt.Println("held by", held.Holders[0].Owner)
	}
	// Output: held by ann
}

// A transfer holds both accounts, in whatever order they are named, without a deadlock.
func ExampleSession_LockAll() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	session, err := locks.Open(ctx, nc, locks.Config{})
	check(err)
	defer session.Close(ctx)

	all, err := session.LockAll(ctx, []locks.Want{{Key: "account/zoe"}, {Key: "account/adam"}, {Key: "rates", Shared: true}})
	check(err)
	for _, l := range all {
		fmt.Println(l.Key(), l.Shared())
	}
	fmt.Println(all.Unlock(ctx))
	// Output:
	// account/adam false
	// account/zoe false
	// rates true
	// <nil>
}

func ExampleSemaphore() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	session, err := locks.Open(ctx, nc, locks.Config{})
	check(err)
	defer session.Close(ctx)

	exports, err := session.Semaphore("exports", 2)
	check(err)
	for range 3 {
		_, err := exports.TryAcquire(ctx)
		fmt.Println(errors.Is(err, locks.ErrHeld))
	}
	// Output:
	// false
	// false
	// true
}

func ExampleElection() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	session, err := locks.Open(ctx, nc, locks.Config{Owner: "node-1"})
	check(err)
	defer session.Close(ctx)

	election, err := session.Election("scheduler")
	check(err)
	leadership, err := election.Campaign(ctx)
	check(err)
	watching, stopWatching := context.WithCancel(ctx)
	leader := <-election.Observe(watching)
	stopWatching()
	fmt.Println(leader.Owner, leader.Token == leadership.Token())
	fmt.Println(leadership.Unlock(ctx)) // resign
	// Output:
	// node-1 true
	// <nil>
}
