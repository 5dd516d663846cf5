// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/assent-tx/assent/router"
)

// spreadLoad changes the group's ring, and takes the time until the followers know.
type spreadLoad struct {
	cluster   *ringCluster
	changes   int                     // made so far
	latencies *hdrhistogram.Histogram // from the request for a change until a follower knows it, in nanoseconds
	last      []float64               // the same until the last follower does, a change each, in milliseconds
}

func newSpreadLoad(c *ringCluster) *spreadLoad {
	return &spreadLoad{cluster: c, latencies: newHistogram()}
}

// measure makes some changes, one after the other.
func (s *spreadLoad) measure(ctx context.Context, changes int) error {
	for range changes {
		took, err := s.change(ctx)
		if err != nil {
			return err
		}
		for _, d := range took {
			// It cannot fail: the value is within the histogram's range.
			_ = s.latencies.RecordValue(int64(min(max(d, shortest), longest)))
		}
		s.last = append(s.last, milliseconds(int64(slices.Max(took))))
	}
	return nil
}

// change makes one change, of a node's weight, and gives after how long each follower knew it. The time begins before the change is asked
// for, when all wait for it.
func (s *spreadLoad) change(ctx context.Context) (took []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	followers := s.cluster.followers
	before, err := followers[0].Route(ctx, ringGroup, "key")
	if err != nil {
		return nil, err
	}
	type heard struct {
		at  time.Time
		err error
	}
	all := make(chan heard, len(followers))
	for _, follower := range followers {
		go func() {
			err := follower.After(ctx, ringGroup, before.Incarnation, before.Epoch)
			all <- heard{time.Now(), err}
		}()
	}
	s.changes++
	begun := time.Now()
	err = s.cluster.change(ctx, &router.ChangeRequest{Action: router.ActionWeight, Node: ringNode(0), Weight: ringWeight + s.changes%2})
	if err != nil {
		return nil, err
	}
	for range followers {
		h := <-all
		if h.err != nil {
			return nil, fmt.Errorf("a follower after %v: %w", h.at.Sub(begun), h.err)
		}
		took = append(took, h.at.Sub(begun))
	}
	return took, nil
}
