// SPDX-License-Identifier: Apache-2.0

//go:build unix

package check

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/embedded"
)

// In a running cluster a check that was interrupted may leave open transactions behind, and buckets with its lists. The next one has keys of its
// own: what it read of those of the one before were anomalies that are none.
func TestKeysOfTwoChecksOfACluster(t *testing.T) {
	for _, workload := range []string{Append, Bank, KV} {
		keys := make(map[string]int)
		for check := range 2 {
			cfg := Config{Workload: workload, Connect: func(...nats.Option) (*nats.Conn, error) { return nil, nil }}
			cfg.setDefaults()
			p, r := newPlanner(&cfg), rand.New(rand.NewPCG(1, 1))
			for range 100 {
				for _, o := range p.next(r) {
					if before, known := keys[o.Key]; known && before != check {
						t.Fatalf("%s: both checks use %s", workload, o.Key)
					}
					if keys[o.Key] = check; p.place(o.Key) >= cfg.Participants {
						t.Fatalf("%s is at %d", o.Key, p.place(o.Key))
					}
				}
			}
		}
	}
}

// A bucket that a check before has left is used again; one that somebody else has made is not touched.
func TestBucketsOfOthers(t *testing.T) {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cfg := Config{Workload: KV, Participants: 2}
	cfg.setDefaults()
	for range 2 {
		b, err := openBuckets(t.Context(), &cfg, client, nc)
		if err != nil || len(b.names) != 2 {
			t.Fatal(err)
		}
	}
	if err := js.DeleteKeyValue(t.Context(), "check-2"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "check-2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := openBuckets(t.Context(), &cfg, client, nc); !errors.Is(err, jetstream.ErrBucketExists) {
		t.Errorf("got %v, want ErrBucketExists", err)
	}
}
