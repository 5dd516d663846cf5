// SPDX-License-Identifier: Apache-2.0

package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/locks/fence"
)

// Two grants of one lock, as the holders got them: B's is the later one.
var (
	tokenA = locks.Token{Incarnation: 1, Sequence: 17}
	tokenB = locks.Token{Incarnation: 1, Sequence: 42}
)

// A holder is paused for longer than its lease lasts, the lock passes to another, and the first one wakes and writes. Nothing that it
// could have checked would have helped: the resource refuses it.
func Example() {
	var resource fence.Memory
	fmt.Println("A writes:", resource.Check("printer", tokenA))
	// A is paused. Its lease ends, and B takes the lock.
	fmt.Println("B writes:", resource.Check("printer", tokenB))
	// A wakes, and goes on as if it still had the lock.
	err := resource.Check("printer", tokenA)
	fmt.Println("A is refused:", errors.Is(err, fence.ErrStale))
	fmt.Println(err)
	// Output:
	// A writes: <nil>
	// B writes: <nil>
	// A is refused: true
	// fence: "printer": token 0000000000000001-0000000000000011 is older than 0000000000000001-000000000000002a: the lock has passed to another
}

// The same with a real lock and a real resource. What takes the lock from A here is an operator; a pause of A's for longer than its
// session's TTL, and another that waits, have the same effect.
func Example_pausedHolder() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "fence") // errors of this setting up are left out
	defer os.RemoveAll(dir)
	server, _ := embedded.Start(embedded.Config{Dir: dir})
	defer server.Close()
	nc, _ := server.Connect()
	defer nc.Close()
	js, _ := jetstream.New(nc)
	_, _ = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "config"})
	values, _ := fence.OpenKV(ctx, nc, "config")
	a, _ := locks.Open(ctx, nc, locks.Config{Owner: "A"})
	defer func() { _ = a.Close(ctx) }()
	b, _ := locks.Open(ctx, nc, locks.Config{Owner: "B"})
	defer func() { _ = b.Close(ctx) }()

	lockA, err := a.Lock(ctx, "primary")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = values.Put(ctx, "primary", []byte("host-a"), lockA.Token())
	fmt.Println("A writes:", err)

	_, _ = locks.ForceRelease(ctx, nc, "", locks.KindLock, "primary")
	lockB, err := b.Lock(ctx, "primary")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = values.Put(ctx, "primary", []byte("host-b"), lockB.Token())
	fmt.Println("B writes:", err)

	// A looks neither at lockA.Done nor at lockA.Err.
	_, err = values.Put(ctx, "primary", []byte("host-a"), lockA.Token())
	fmt.Println("A is refused:", errors.Is(err, fence.ErrStale))
	entry, _ := values.Get(ctx, "primary")
	fmt.Printf("%s, by B: %v\n", entry.Value, entry.Token == lockB.Token())
	// Output:
	// A writes: <nil>
	// B writes: <nil>
	// A is refused: true
	// host-b, by B: true
}

// What is done with the resource is done in the function: no newer holder gets in between.
func ExampleMemory_Run() {
	var fences fence.Memory
	page := func(text string) func() error {
		return func() error {
			fmt.Println("printing", text)
			return nil
		}
	}
	_ = fences.Run("printer", tokenB, page("B's page")) // an error of the function, or of the fence
	if err := fences.Run("printer", tokenA, page("A's page")); errors.Is(err, fence.ErrStale) {
		fmt.Println("A's page is not printed")
	}
	// Output:
	// printing B's page
	// A's page is not printed
}

// The token is checked in the transaction that it fences.
func ExampleSQL() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "fence") // errors of this setting up are left out
	defer os.RemoveAll(dir)
	db, _ := sql.Open("sqlite", filepath.Join(dir, "bank.db"))
	defer db.Close()
	fences := fence.SQL{Dialect: fence.SQLite}
	if err := fences.Create(ctx, db); err != nil {
		fmt.Println(err)
	}
	_, _ = db.ExecContext(ctx, `CREATE TABLE accounts (id TEXT PRIMARY KEY, cents INTEGER)`)

	set := func(token locks.Token, cents int) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // without effect after Commit
		if err := fences.Check(ctx, tx, "account/1", token); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO accounts VALUES ('1', ?)`, cents); err != nil {
			return err
		}
		return tx.Commit()
	}
	fmt.Println("B:", set(tokenB, 500))
	fmt.Println("A is refused:", errors.Is(set(tokenA, 100), fence.ErrStale))

	var cents int
	_ = db.QueryRowContext(ctx, `SELECT cents FROM accounts`).Scan(&cents)
	fmt.Println(cents, "cents")
	// Output:
	// B: <nil>
	// A is refused: true
	// 500 cents
}

// The token travels beside the value, which other clients of the bucket see as it is.
func ExampleKV() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "fence") // errors of this setting up are left out
	defer os.RemoveAll(dir)
	server, _ := embedded.Start(embedded.Config{Dir: dir})
	defer server.Close()
	nc, _ := server.Connect()
	defer nc.Close()
	js, _ := jetstream.New(nc)
	bucket, _ := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "config"})

	values, err := fence.OpenKV(ctx, nc, "config")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = values.Put(ctx, "primary", []byte("host-b"), tokenB)
	fmt.Println("B:", err)
	_, err = values.Put(ctx, "primary", []byte("host-a"), tokenA)
	fmt.Println("A is refused:", errors.Is(err, fence.ErrStale))

	entry, _ := bucket.Get(ctx, "primary")
	fmt.Println(string(entry.Value()))
	// Output:
	// B: <nil>
	// A is refused: true
	// host-b
}
