// SPDX-License-Identifier: Apache-2.0

package streams_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
)

// Only who has heard of a majority lately leads for sure.
func TestOfNow(t *testing.T) {
	heard, silent := &jetstream.PeerInfo{Active: time.Second}, &jetstream.PeerInfo{Active: 3 * time.Second}
	never := &jetstream.PeerInfo{Offline: true} // its time is 0
	for _, c := range []struct {
		others []*jetstream.PeerInfo
		want   bool
	}{
		{nil, true},
		{[]*jetstream.PeerInfo{heard, heard}, true},
		{[]*jetstream.PeerInfo{heard, silent}, true},
		{[]*jetstream.PeerInfo{never, heard}, true},
		{[]*jetstream.PeerInfo{silent, silent}, false},
		{[]*jetstream.PeerInfo{silent, never}, false},
		{[]*jetstream.PeerInfo{heard, silent, silent, never}, false},
		{[]*jetstream.PeerInfo{heard, silent, heard, never}, true},
	} {
		if got := streams.OfNow(&jetstream.StreamInfo{Cluster: &jetstream.ClusterInfo{Replicas: c.others}}); got != c.want {
			t.Errorf("%d others: %v, want %v", len(c.others), got, c.want)
		}
	}
	if !streams.OfNow(&jetstream.StreamInfo{}) {
		t.Error("a server alone")
	}
}
