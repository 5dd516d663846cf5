// SPDX-License-Identifier: Apache-2.0

package streams

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrOfThePast is that who leads a replicated stream has not heard of a majority of its servers lately. Another one may lead by now, and have more.
var ErrOfThePast = errors.New("the stream's leader has not heard of a majority of its servers lately: what it tells may be of the past")

// A leader of a replicated stream that was paused or cut off goes on answering until it hears that it was deposed, or has heard of no majority for
// ten seconds. Nobody else is elected less than four seconds after a majority heard of it last (nats-server: minElectionTimeout), and a majority
// answers once a second.
const heardLately = 2 * time.Second

// ShortPatience is how long a stream has to tell that it ends too early, in all its answers of OfNow, to be believed. It is more than
// heardLately, as a leader that was paused may take what had waited for it meanwhile for signs of life of just now, once.
const ShortPatience = heardLately + time.Second

// OfNow tells whether a stream's state comes from who leads it now, as far as its leader knows how long ago it heard of the others.
func OfNow(info *jetstream.StreamInfo) bool {
	if info.Cluster == nil {
		return true
	}
	heard := 1
	for _, other := range info.Cluster.Replicas {
		if !other.Offline && other.Active < heardLately {
			heard++
		}
	}
	return 2*heard > 1+len(info.Cluster.Replicas)
}
