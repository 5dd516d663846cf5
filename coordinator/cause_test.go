// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/locks"
)

// What makes a coordinator end is told, also when it ends the other parts in the middle of something: who had Run say nil took it for an
// end in order.
func TestTheCauseOfTheEndIsTold(t *testing.T) {
	nc, js := served(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "KV_spoilt-leases-0", Subjects: []string{"$KV.spoilt-leases-0.>"}, MaxMsgsPerSubject: 1, Metadata: map[string]string{"assent-streams": "1"},
	}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c, err := coordinator.New(nc, coordinator.Config{Prefix: "spoilt", Shards: 4})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Run(t.Context()); !errors.Is(err, locks.ErrSettings) || strings.Contains(err.Error(), "context canceled") {
			t.Fatalf("got %v, want ErrSettings and no more", err)
		}
	}
}

// The name becomes that of who holds the leases, whose bound it has.
func TestANameThatIsTooLongIsRefused(t *testing.T) {
	nc, name := server(t), strings.Repeat("é", 32)
	if _, err := coordinator.New(nc, coordinator.Config{Name: name + "x"}); err == nil || !strings.Contains(err.Error(), "Name") {
		t.Errorf("65 bytes: got %v, want an error that names it", err)
	}
	if _, err := coordinator.New(nc, coordinator.Config{Name: name}); err != nil {
		t.Errorf("64 bytes: %v", err)
	}
}
