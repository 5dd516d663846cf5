// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"fmt"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
)

// A server for a test of your own takes three lines, written here without
// their error checks. In a test, use t.TempDir() for the directory and
// t.Cleanup instead of defer.
func Example() {
	dir, _ := os.MkdirTemp("", "embedded")
	defer os.RemoveAll(dir)

	server, _ := embedded.Start(embedded.Config{Dir: dir})
	defer server.Close()
	nc, _ := server.Connect()

	defer nc.Close()
	fmt.Println(store(nc))
	// Output: stored as message 1
}

// store stands for the code under test.
func store(nc *nats.Conn) string {
	ctx := context.Background()
	js, err := jetstream.New(nc)
	if err != nil {
		return err.Error()
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "greetings"}); err != nil {
		return err.Error()
	}
	ack, err := js.Publish(ctx, "greetings", []byte("hello"))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("stored as message %d", ack.Sequence)
}

// With Listen the server can be reached by other processes as well; with a
// token, only by those that know it.
func ExampleStart() {
	dir, err := os.MkdirTemp("", "embedded")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	server, err := embedded.Start(embedded.Config{Dir: dir, Listen: "127.0.0.1:0", Token: "s3cret"})
	if err != nil {
		panic(err)
	}
	defer server.Close()

	_, err = nats.Connect(server.URL())
	fmt.Println("without the token:", err)

	nc, err := nats.Connect(server.URL(), nats.Token("s3cret"))
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	fmt.Println("with the token:", nc.Status())
	// Output:
	// without the token: nats: Authorization Violation
	// with the token: CONNECTED
}
