// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// beat is what coordinators tell each other over core NATS, on <prefix>.coordinators: at every change, and six times a lease.
// It is hearsay. Nothing that must be right is decided by it, only who takes the trouble.
type beat struct {
	// ID is of this run of the coordinator.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Leads are the shards that it leads and is not handing over.
	Leads []int `json:"leads"`
	// Ring is of the ring that it goes by; absent while it knows none.
	Ring version `json:"ring,omitzero"`
	// Hello asks the others to tell at once.
	Hello bool `json:"hello,omitempty"`
	// Leaving: it stops, and takes no shard any more.
	Leaving bool `json:"leaving,omitempty"`
}

const (
	beatsPerLease = 6
	// beatsMissed is after how many silent beats a coordinator counts as gone: earlier than its leases run out, so that those
	// who take them over count without it.
	beatsMissed = 3
	beatQueue   = 1024
)

// peer is another coordinator, as it was heard last.
type peer struct {
	node  string // its name in the ring
	ring  version
	heard time.Time
}

// run tells and listens until ctx ends. It begins when all shards are warm: nobody hands a shard to one who has to read first.
func (s *share) run(ctx context.Context) error {
	for _, l := range s.leaders {
		select {
		case <-l.warm:
		case <-ctx.Done():
			return nil
		}
	}
	beats := make(chan *nats.Msg, beatQueue)
	subscription, err := s.nc.ChanSubscribe(s.subject, beats)
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", s.subject, err)
	}
	defer func() { _ = subscription.Unsubscribe() }() // its only error is of a connection that is gone
	s.tell(true)
	s.hears.Store(true)
	defer s.hears.Store(false)
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for {
		select {
		case msg := <-beats:
			s.hear(msg.Data)
		case done := <-s.catching:
			s.hearAll(beats)
			close(done)
		case <-s.look:
		case <-ticker.C:
			s.tell(false)
		case <-ctx.Done():
			s.leave()
			s.hearOn(subscription, beats)
			return nil
		}
		for _, shard := range s.surplus(time.Now()) {
			signal(s.leaders[shard].yield)
		}
	}
}

// hearOn listens while shards are handed over; it ends with them.
func (s *share) hearOn(subscription *nats.Subscription, beats chan *nats.Msg) {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for len(s.shards()) > 0 && subscription.IsValid() {
		select {
		case msg := <-beats:
			s.hear(msg.Data)
		case done := <-s.catching:
			s.hearAll(beats)
			close(done)
		case <-s.look: // a hand-over has come to its end
		case <-ticker.C:
		}
	}
}

// hearAll takes everything that has come in.
func (s *share) hearAll(beats chan *nats.Msg) {
	for {
		select {
		case msg := <-beats:
			s.hear(msg.Data)
		default:
			return
		}
	}
}

// catchUp waits until what has come in so far is heard, for a beat at the most. Who gives a shard away tells before that he leaves; whoever
// is granted the shard must not decide by what was so before.
func (s *share) catchUp(ctx context.Context) {
	if !s.hears.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.every)
	defer cancel()
	done := make(chan struct{})
	select {
	case s.catching <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// tell sends a beat.
func (s *share) tell(hello bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellLocked(hello)
}

func (s *share) tellLocked(hello bool) {
	b := beat{ID: s.id, Name: s.name, Leads: []int{}, Ring: s.at, Hello: hello, Leaving: s.leaving}
	for shard, h := range s.mine {
		if h == leads {
			b.Leads = append(b.Leads, shard)
		}
	}
	body, err := json.Marshal(&b)
	if err == nil {
		err = s.send(body)
	}
	if err != nil {
		s.log.WithError(err).Debug("the other coordinators were not told")
	}
}

// leave tells the others, once, that this coordinator takes no shard any more.
func (s *share) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leaving {
		s.leaving = true
		s.tellLocked(false)
	}
}

// hear takes what comes in.
func (s *share) hear(body []byte) {
	var b beat
	if json.Unmarshal(body, &b) == nil && b.ID != "" && b.ID != s.id { // else garbage, or one's own
		s.note(&b)
	}
}

// note takes another coordinator's beat.
func (s *share) note(b *beat) {
	s.mu.Lock()
	if b.Leaving {
		delete(s.peers, b.ID)
	} else {
		s.peers[b.ID] = &peer{node: nodeName(b.Name), ring: b.Ring, heard: time.Now()}
	}
	if b.Hello {
		s.tellLocked(false)
	}
	s.mu.Unlock()
	for _, shard := range b.Leads {
		if shard >= 0 && shard < len(s.leaders) {
			s.leaders[shard].onceSeated.Do(func() { close(s.leaders[shard].seated) })
			signal(s.leaders[shard].taken)
		}
	}
}

// signal leaves a token in a channel that has room for one.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
