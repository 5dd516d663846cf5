// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// childDir makes the test binary run a server on the directory that it names,
// instead of tests, until it is killed.
const childDir = "ASSENT_EMBEDDED_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(childMain(dir))
	}
	goleak.VerifyTestMain(m)
}

// start runs a server for one test.
func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect connects in process for one test.
func connect(t testing.TB, s *Server) *nats.Conn {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// publish stores one message in the stream "log", creating it if needed.
func publish(nc *nats.Conn, data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "log"}); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "log", data)
	return err
}

// stored returns all messages of the stream "log".
func stored(t testing.TB, nc *nats.Conn) []string {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(msg.Data))
	}
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func childMain(dir string) int {
	s, err := Start(Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	nc, err := s.Connect()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := publish(nc, []byte("before the kill")); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	// Ends with the parent at the latest, which holds the other end open.
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 2
}
