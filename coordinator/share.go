// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
)

// beat is what coordinators tell each other over core NATS, on <prefix>.coordinators: at every change, and six times a lease.
// It is hearsay. Nothing that must be right is decided by it, only who takes the trouble.
type beat struct {
	// ID is of this run of the coordinator.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Leads are the shards that it leads and is not handing over.
	Leads []int `json:"leads"`
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
	// beatsOfRest is for how many beats nothing is handed over after something came back.
	beatsOfRest = 20
	beatQueue   = 1024
)

// holding is what this coordinator has to do with a shard.
type holding uint8

const (
	follows   holding = iota
	claims            // has been granted it, and is about to lead
	leads             // and is to go on
	handsOver         // leads until another one does
)

// share knows which coordinator leads which shards, as far as they tell, and has this one lead its part. The rule is simple
// on purpose: consistent hashing is to replace it. Who leads at least two shards more than somebody else gives one away, or
// all beyond its part rounded up; who is granted one while somebody else leads fewer passes it on. Each step makes the
// difference less, so it comes to rest.
type share struct {
	nc      *nats.Conn
	subject string
	send    func(body []byte) error
	id      string
	name    string
	every   time.Duration
	log     *logrus.Logger
	leaders []*leader

	mu      sync.Mutex
	mine    []holding // by shard
	peers   map[string]*peer
	passed  []time.Time // by shard: when it was passed on
	rest    time.Time   // nothing is handed over before
	leaving bool
}

// peer is another coordinator.
type peer struct {
	leads int
	heard time.Time
}

func newShare(nc *nats.Conn, cfg *Config) *share {
	s := &share{
		nc: nc, subject: cfg.Prefix + ".coordinators", id: messages.NewID().String(), name: cfg.Name,
		every: cfg.Lease / beatsPerLease, log: cfg.Log,
		mine: make([]holding, cfg.Shards), passed: make([]time.Time, cfg.Shards), peers: make(map[string]*peer),
	}
	s.send = func(body []byte) error {
		if !nc.IsConnected() {
			return nats.ErrDisconnected // what cannot be sent now is not sent later: it would be old
		}
		return nc.Publish(s.subject, body)
	}
	return s
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
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for {
		select {
		case msg := <-beats:
			s.hear(msg.Data)
		case <-ticker.C:
			s.tell(false)
			for _, shard := range s.surplus(time.Now()) {
				signal(s.leaders[shard].yield)
			}
		case <-ctx.Done():
			s.leave()
			s.hearOn(subscription, beats)
			return nil
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
		case <-ticker.C:
		}
	}
}

// tell sends a beat.
func (s *share) tell(hello bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellLocked(hello)
}

func (s *share) tellLocked(hello bool) {
	b := beat{ID: s.id, Name: s.name, Leads: []int{}, Hello: hello, Leaving: s.leaving}
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

// set notes what this coordinator has to do with a shard, and tells the others.
func (s *share) set(shard int, h holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mine[shard] == handsOver && h == leads {
		s.rest = time.Now().Add(beatsOfRest * s.every) // it came back: nobody took it
	}
	s.mine[shard] = h
	s.tellLocked(false)
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

// hear takes another coordinator's beat.
func (s *share) hear(body []byte) {
	var b beat
	if err := json.Unmarshal(body, &b); err != nil || b.ID == "" || b.ID == s.id {
		return // garbage, or one's own
	}
	s.mu.Lock()
	if b.Leaving {
		delete(s.peers, b.ID)
	} else {
		s.peers[b.ID] = &peer{leads: len(b.Leads), heard: time.Now()}
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

// others drops those who have not been heard for long, and counts: how many there are, and the fewest shards that one leads.
func (s *share) others(now time.Time) (count, fewest int) {
	for id, p := range s.peers {
		if now.Sub(p.heard) > beatsMissed*s.every {
			delete(s.peers, id)
			continue
		}
		if count++; count == 1 || p.leads < fewest {
			fewest = p.leads
		}
	}
	return count, fewest
}

// alone tells whether there is nobody to hand a shard to.
func (s *share) alone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	count, _ := s.others(time.Now())
	return count == 0
}

// shards are those that this coordinator leads.
func (s *share) shards() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	shards := []int{}
	for shard, h := range s.mine {
		if h == leads || h == handsOver {
			shards = append(shards, shard)
		}
	}
	return shards
}

// led counts the shards that this coordinator leads and goes on to, and those that it is handing over.
func (s *share) led() (going, handing int) {
	for _, h := range s.mine {
		switch h {
		case leads, claims:
			going++
		case handsOver:
			handing++
		default:
		}
	}
	return going, handing
}

// passes tells whether a lease that was granted now is rather for somebody else. One that comes back soon after is not passed
// on again: what the others tell may be old.
func (s *share) passes(shard int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	count, fewest := s.others(now)
	going, _ := s.led()
	if s.mine[shard] == handsOver {
		return false
	}
	if count == 0 || fewest >= going || now.Sub(s.passed[shard]) < beatsPerLease*s.every {
		s.mine[shard] = claims
		return false
	}
	s.passed[shard] = now
	return true
}

// surplus are the shards that this coordinator is to hand over now; mostly none.
func (s *share) surplus(now time.Time) (shards []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count, fewest := s.others(now)
	going, handing := s.led()
	if s.leaving || count == 0 || handing > 0 || going-fewest < 2 || now.Before(s.rest) {
		return nil
	}
	part := (len(s.mine) + count) / (count + 1) // rounded up
	give := max(1, going-part)
	for shard := len(s.mine) - 1; shard >= 0 && len(shards) < give; shard-- {
		if s.mine[shard] == leads {
			shards = append(shards, shard)
		}
	}
	return shards
}

// signal leaves a token in a channel that has room for one.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
