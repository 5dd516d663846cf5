// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router/ring"
)

// holding is what this coordinator has to do with a shard.
type holding uint8

const (
	follows   holding = iota
	leads             // and is to go on
	handsOver         // leads until another one does
)

// version says which of two rings of the coordinators is the later one.
type version struct {
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
}

func (v version) before(other version) bool {
	return v.Incarnation < other.Incarnation || v.Incarnation == other.Incarnation && v.Epoch < other.Epoch
}

// nodeName is a coordinator's name in the ring: its own, as far as that can be a node's. What cannot be is replaced, and a hash
// tells it from others.
func nodeName(name string) string {
	if messages.ValidName(name) {
		return name
	}
	plain := []byte(name[:min(len(name), messages.MaxName-9)])
	for i, c := range plain {
		if !messages.ValidName(string(c)) {
			plain[i] = '_'
		}
	}
	hash := sha256.Sum256([]byte(name))
	return string(plain) + "-" + hex.EncodeToString(hash[:4])
}

const (
	// handOversAtOnce bounds the shards that are handed over at a time, because both sides do the work of each meanwhile. No
	// client of one waits for another.
	handOversAtOnce = 8
	// beatsOfRest is for how many beats a shard is not handed over after it came back.
	beatsOfRest = 20
)

// share has this coordinator lead the shards that the ring of the coordinators gives to it. The ring is a wish: by the leases it
// comes true, and while there is none everybody goes on as they are. Two rules are enough:
//
//   - a lease that is granted of a shard that the ring gives to another one who lives is passed on, but not twice in a lease to the same one;
//   - a shard that is led here, and that the ring gives to another one who lives, is handed over.
//
// Who lives is by hearsay, and he takes a shard only when he has told of our ring or a later one: before that he would pass it
// on himself. Who hears of a later ring than his own hands nothing over, and passes on what he is granted. A shard whose
// owner is gone is led by the one to whom the steward will give it when it has noticed: it moves once, not twice.
type share struct {
	nc      *nats.Conn
	subject string
	send    func(body []byte) error
	id      string
	name    string
	node    string // the name in the ring
	every   time.Duration
	log     *logrus.Logger
	leaders []*leader
	metrics *metrics
	look    chan struct{} // there may be a surplus now
	// catching are those who want everything heard that has come in; hears: somebody listens to them.
	catching chan chan struct{}
	hears    atomic.Bool

	mu      sync.Mutex
	mine    []holding // by shard
	peers   map[string]*peer
	passed  []passing   // by shard: when it was passed on last
	rest    []time.Time // by shard: it is not handed over before
	ring    *ring.Ring  // partition i is shard i; nil while none is known
	at      version     // of the ring
	leaving bool
}

// passing is a lease that was given on as soon as it was granted.
type passing struct {
	at time.Time
	to string // whom it was meant for; "" when only others know
}

func newShare(nc *nats.Conn, cfg *Config, m *metrics) *share {
	s := &share{
		nc: nc, subject: cfg.Prefix + ".coordinators", id: messages.NewID().String(), name: cfg.Name, node: nodeName(cfg.Name),
		every: cfg.Lease / beatsPerLease, log: cfg.Log, metrics: m, look: make(chan struct{}, 1), catching: make(chan chan struct{}), peers: make(map[string]*peer),
		mine: make([]holding, cfg.Shards), passed: make([]passing, cfg.Shards), rest: make([]time.Time, cfg.Shards),
	}
	s.send = func(body []byte) error {
		if !nc.IsConnected() {
			return nats.ErrDisconnected // what cannot be sent now is not sent later: it would be old
		}
		return nc.Publish(s.subject, body)
	}
	return s
}

// allot takes a ring, if it is later than the one that is known, and tells the others.
func (s *share) allot(r *ring.Ring, at version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.before(at) {
		return
	}
	s.ring, s.at = r, at
	given := 0
	for shard := range s.mine {
		if r.OwnerOf(shard) == s.node {
			given++
		}
	}
	s.metrics.ring(at.Epoch, given)
	s.tellLocked(false)
	signal(s.look)
}

// set notes what this coordinator has to do with a shard, and tells the others.
func (s *share) set(shard int, h holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mine[shard] == handsOver {
		signal(s.look)
		if h == leads {
			s.rest[shard] = time.Now().Add(beatsOfRest * s.every) // it came back: nobody took it
		}
	}
	s.mine[shard] = h
	s.tellLocked(false)
}

// living are the other coordinators that have been heard lately, by their names in the ring, each with the ring that it goes by;
// and the latest of those rings.
func (s *share) living(now time.Time) (others map[string]version, latest version) {
	others = make(map[string]version, len(s.peers))
	for id, p := range s.peers {
		if now.Sub(p.heard) > beatsMissed*s.every {
			delete(s.peers, id)
			continue
		}
		if at, twice := others[p.node]; !twice || at.before(p.ring) {
			others[p.node] = p.ring
		}
		if latest.before(p.ring) {
			latest = p.ring
		}
	}
	return others, latest
}

// takes tells whether the shard's owner is another one, who lives and knows of it.
func (s *share) takes(owner string, others map[string]version) bool {
	at, lives := others[owner]
	return lives && owner != s.node && !at.before(s.at)
}

// heir is whose a shard is to be, when those are gone who do not live: the steward computes the same when it has noticed.
func (s *share) heir(shard int, others map[string]version) string {
	gone := func(name string) bool {
		_, lives := others[name]
		return !lives && name != s.node
	}
	owner := s.ring.OwnerOf(shard)
	if !gone(owner) {
		return owner
	}
	left := slices.DeleteFunc(s.ring.Nodes(), func(n ring.Node) bool { return gone(n.Name) })
	next, err := s.ring.Next(left, s.ring.Pins())
	if err != nil { // of nodes and pins of a ring that is valid: whoever has the shard keeps it
		return ""
	}
	return next.OwnerOf(shard)
}

// passes tells whether a lease that was granted now is rather for somebody else. One that comes back within a lease is not passed
// on to the same one again: a shard without a leader is worse than one with another.
func (s *share) passes(shard int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	others, latest := s.living(now)
	to := "" // whose it is, others know, when our ring is old
	if !s.at.before(latest) {
		if s.ring == nil {
			return false
		}
		if to = s.heir(shard, others); !s.takes(to, others) {
			return false
		}
	}
	if last := s.passed[shard]; last.to == to && now.Sub(last.at) < beatsPerLease*s.every {
		return false
	}
	s.passed[shard] = passing{now, to}
	return true
}

// surplus are the shards that this coordinator is to hand over now; mostly none.
func (s *share) surplus(now time.Time) (shards []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others, latest := s.living(now)
	if s.leaving || s.ring == nil || s.at.before(latest) {
		return nil
	}
	room := handOversAtOnce
	for _, h := range s.mine {
		if h == handsOver {
			room--
		}
	}
	for shard, h := range s.mine {
		if room > 0 && h == leads && !now.Before(s.rest[shard]) && s.takes(s.ring.OwnerOf(shard), others) {
			s.mine[shard] = handsOver
			shards = append(shards, shard)
			room--
		}
	}
	return shards
}

// handing tells whether a shard is being handed over.
func (s *share) handing(shard int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mine[shard] == handsOver
}

// alone tells whether there is nobody to hand a shard to.
func (s *share) alone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	others, _ := s.living(time.Now())
	return len(others) == 0
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
