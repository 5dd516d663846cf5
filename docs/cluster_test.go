// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
)

// patience bounds every wait: on a sick machine a test fails instead of hanging.
const patience = 20 * time.Second

// start runs a server that has nothing but what embedded gives it.
func start(t *testing.T) (connect func(role string) *nats.Conn) {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(role string) *nats.Conn { return dial(t, server.URL(), role) }
}

// dial connects as a role, which has an inbox prefix of its own.
func dial(t *testing.T, url, role string, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append(options, nats.Name(role), nats.CustomInboxPrefix("_INBOX."+role))
	nc, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatalf("%s: %v", role, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// lead runs a coordinator until the test ends.
func lead(t *testing.T, nc *nats.Conn) {
	t.Helper()
	c, err := coordinator.New(nc, coordinator.Config{Name: "coordinator-1"})
	if err != nil {
		t.Fatal(err)
	}
	background(t, c.Run, c.Ready())
}

// background runs until the test ends, and fails it if run does.
func background(t *testing.T, run func(context.Context) error, ready <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
}

// open starts a bank, and ends it with the test.
func open(t *testing.T, b *bank) {
	t.Helper()
	if err := b.begin(); err != nil {
		t.Fatalf("%s: %v", b.name, err)
	}
	t.Cleanup(b.end)
}

// answer is what a client hears.
type answer struct {
	Tx          string `json:"tx"`
	Outcome     string `json:"outcome"`
	Participant string `json:"participant"`
	Reason      string `json:"reason"`
	Error       string `json:"error"`
	Message     string `json:"message"`
}

func ask(t *testing.T, nc *nats.Conn, subject, body string) answer {
	t.Helper()
	msg, err := nc.Request(subject, []byte(body), patience)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var a answer
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		t.Fatalf("%s answers %q: %v", subject, msg.Data, err)
	}
	return a
}

// overdrawn refuses whoever takes more than 100.
func overdrawn(payload json.RawMessage) string {
	var op struct {
		Add int `json:"add"`
	}
	switch {
	case json.Unmarshal(payload, &op) != nil:
		return "the payload is no object with a number \"add\""
	case op.Add < -100:
		return "the account is overdrawn"
	default:
		return ""
	}
}
