// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/assent-tx/assent/messages"
)

// This is the formal model of Assent. A world is everything there is: the log, what is on its way, the coordinators and
// the participants' instances with the real Fold, Delivery and Branches in them, and the participants' stores. Its
// successors (explore_steps_test.go) are whatever may happen next; the rules that must hold in each are in
// explore_rules_test.go, the search in explore_test.go.
//
//   - Core messages (commit, rollback, done) are a set that only grows: each may arrive at any time, any number of times, or never.
//   - A publish is on its way until it is appended, in any order, also long after its writer died.
//   - A prepare is delivered to any instance; again when that instance died, and for a price from the budget when it did not, or
//     when the prepare was acknowledged.
//   - Coordinators and instances crash at any moment, and what they had in memory is gone.

// scope is a small world to explore, and what may go wrong in it.
type scope struct {
	name   string
	states int
	// participants are how many there are (1 or 2); the first has that many instances, the second has one.
	participants, instances int
	leaders                 int
	// transactions are submitted submits times each, to any leader.
	transactions, submits int
	// answers are what the participants' Prepare may say.
	answers [2][]messages.Vote
	// What may happen, how often: moments that pass, crashes, prepares delivered once more, publishes appended twice, handlers
	// that fail, votes repeated by who is in doubt, timestamps out of order, checkpoints with trimming, messages that are none.
	moments, crashes, redeliveries, duplicates, failures, doubts, skews, checkpoints, garbage int
	// wounds are how many branches may be told to give way to an older one, at any moment. With keys every branch is guarded, and
	// the first participant's wait for them: they are granted at any moment, or never.
	wounds int
	keys   bool
	// noWait: there is one key, which every branch wants, and who meets it held is turned away in place of waiting.
	noWait bool
	// lag is by how many moments the clocks of the last leader and of the last instance are slow.
	lag int64
	// maxLog bounds the log: what does not fit is never appended.
	maxLog int
	// timeout is a transaction's, window the fold's and the leaders', in milliseconds; a moment is 1000.
	timeout, window int64
	// noInDoubt: the first participant's handler cannot list what it holds prepared when an instance starts.
	noInDoubt bool
	// past: a leader that starts may be told an end of the log of before.
	past bool
	// begin, when there is one, leads from the beginning to where the exploration starts.
	begin func(*universe)
	// rule changes the model, to show that the exploration finds what it is for.
	rule mutation
}

// mutation is a rule of the model that is broken on purpose.
type mutation string

const (
	tellEarly     mutation = "a leader tells its clients that a transaction timed out by its own clock, before the log says so"
	storeLower    mutation = "an older checkpoint replaces a newer one"
	ackEarly      mutation = "a participant acknowledges a prepare before its vote is stored"
	forgetfulHand mutation = "a handler forgets a committed transaction at once, and prepares it again"
	letGo         mutation = "a participant gives up the keys of a branch when it has given way, and not when the outcome is applied"
	holdTwice     mutation = "a participant gives a key to a branch while another one holds it"
	noReplay      mutation = "a leader starts at the end of the log"
)

const (
	moment  = int64(1000) // milliseconds
	dayZero = 10 * moment // the time at which a world begins
	maxTx   = 2
	nobody  = -1
	gone    = -2 // acknowledged
)

// entry is a message of the log.
type entry struct {
	at          int64
	kind        messages.Kind
	participant int
	data        string
	tx          int
}

// publish is a message on its way to the log; worker casts it and waits for the acknowledgement, nobody when it is dead or none.
type publish struct {
	entry
	worker int
}

// packet is a core message: an effect (Outcome not Undecided) to a participant, or a done of it.
type packet struct {
	participant int
	outcome     messages.Outcome
	effect      messages.Effect
	done        messages.Done
	// key is all that, as text, and sum the digest of it.
	key string
	sum digest
}

// leader is a coordinator that leads, or believes so.
type leader struct {
	fold     *Fold
	delivery *Delivery
	// waiting are the transactions, as bits, that a client waits for here.
	waiting uint8
	// knows and owes are the digests of the fold and of the delivery, zero when they are to be found out.
	knows, owes digest
	// ownFold and ownDelivery: no other leader shares them.
	ownFold, ownDelivery bool
}

// worker is an instance of a participant.
type worker struct {
	branches *Branches
	calls    []call
	// stored are votes that the log has, which this instance has not heard yet.
	stored []storedVote
	// asked are the branches, as bits, whose handler waits for their keys; granted are those that have them, and holds those that are
	// guarded and not left yet.
	asked, granted, holds uint8
	// does is the digest of the branches, whole that of everything; zero when they are to be found out.
	does, whole digest
	// own: no other instance shares the branches.
	own bool
}

// call is a call of a handler that was asked for; ran when the store has done it and the answer is on its way.
type call struct {
	kind    StepKind
	tx      int
	outcome messages.Outcome
	ran     bool
	vote    messages.Vote
}

type storedVote struct {
	tx       int
	sequence uint64
}

// phase is what a participant's store holds of a transaction.
type phase uint8

const (
	absent phase = iota
	prepared
	committed
)

// branchStore is a participant's store, for one transaction. The handler keeps the contract: whatever is asked again is
// answered as before.
type branchStore struct {
	phase phase
	// applied counts commits that changed something, undone the rollbacks that did.
	applied, undone uint8
}

// budget is what may still happen.
type budget struct {
	moments, crashes, redeliveries, duplicates, failures, doubts, skews, checkpoints, garbage, wounds uint8
	submits                                                                                           [maxTx]uint8
}

// universe is a state of the world. It is never changed once it is made; successors share what they did not change.
type universe struct {
	scope      *scope
	now        int64
	log        []entry
	logged     digest // of the log
	truths     [maxTx]truth
	holders    []int8 // for each entry of the log: who holds its delivery, nobody, or gone
	trimmed    uint64
	checkpoint Checkpoint
	flying     []publish
	packets    []packet
	leaders    [2]*leader
	workers    [3]*worker
	stores     [2][maxTx]branchStore
	// told are the outcomes that clients were told, as bits.
	told   [maxTx]uint8
	left   budget
	broken string
	// ownLeaders and ownWorkers are those, as bits, that no other world shares.
	ownLeaders, ownWorkers uint8
}

var (
	names = [2]string{"a", "b"}
	ids   = [maxTx]messages.ID{newID(1), newID(2)}
)

// newID is minted at the world's first moment.
func newID(n byte) messages.ID {
	var id messages.ID
	binary.BigEndian.PutUint64(id[:8], uint64(dayZero)<<16)
	id[6], id[8], id[15] = 0x70, 0x80, n
	return id
}

func txOf(id messages.ID) int { return int(id[15]) - 1 }

func newUniverse(s *scope) *universe {
	w := &universe{scope: s, now: dayZero, left: budget{
		moments: uint8(s.moments), crashes: uint8(s.crashes), redeliveries: uint8(s.redeliveries), duplicates: uint8(s.duplicates),
		failures: uint8(s.failures), doubts: uint8(s.doubts), skews: uint8(s.skews), checkpoints: uint8(s.checkpoints), garbage: uint8(s.garbage),
		wounds: uint8(s.wounds),
	}}
	for tx := range s.transactions {
		w.left.submits[tx] = uint8(s.submits)
	}
	for i := range s.leaders {
		w.startLeader(i)
	}
	for i := range s.workers() {
		w.startWorker(i)
	}
	if s.begin != nil {
		s.begin(w)
	}
	return w
}

func (s *scope) workers() int { return s.instances + s.participants - 1 }

// participantOf is whose instance a worker is.
func (s *scope) participantOf(worker int) int {
	if worker < s.instances {
		return 0
	}
	return 1
}

// next is a copy of w that may be changed, as far as it is not shared; what they share neither may change any more.
func (w *universe) next() *universe {
	w.ownLeaders, w.ownWorkers = 0, 0
	n := *w
	n.log = n.log[:len(n.log):len(n.log)]
	return &n
}

// leader gives a leader to be changed, in place of one that is shared: its fold and its delivery by changeFold and changeDelivery only.
func (w *universe) leader(i int) *leader {
	if w.ownLeaders&(1<<i) == 0 {
		l := *w.leaders[i]
		l.ownFold, l.ownDelivery = false, false
		w.leaders[i] = &l
		w.ownLeaders |= 1 << i
	}
	return w.leaders[i]
}

func (l *leader) changeFold() *Fold {
	if !l.ownFold {
		l.fold, l.ownFold = deepCopy(l.fold), true
	}
	l.knows = digest{}
	return l.fold
}

func (l *leader) changeDelivery() *Delivery {
	if !l.ownDelivery {
		l.delivery, l.ownDelivery = deepCopy(l.delivery), true
	}
	l.owes = digest{}
	return l.delivery
}

// append appends the leader's digests.
func (l *leader) append(b []byte) []byte {
	if l.knows == (digest{}) {
		l.knows = digestOf(l.fold)
	}
	if l.owes == (digest{}) {
		l.owes = digestOf(l.delivery)
	}
	return l.owes.append(l.knows.append(append(b, l.waiting)))
}

// worker gives an instance to be changed, in place of one that is shared: its branches by change only. It is to be sealed then.
func (w *universe) worker(i int) *worker {
	if w.ownWorkers&(1<<i) == 0 {
		k := *w.workers[i]
		k.own = false
		k.calls, k.stored = slices.Clone(k.calls), slices.Clone(k.stored)
		w.workers[i] = &k
		w.ownWorkers |= 1 << i
	}
	return w.workers[i]
}

func (k *worker) change() *Branches {
	if !k.own {
		k.branches, k.own = deepCopy(k.branches), true
	}
	k.does = digest{}
	return k.branches
}

func (k *worker) seal() {
	slices.SortFunc(k.calls, func(a, b call) int { return a.tx - b.tx })
	slices.SortFunc(k.stored, func(a, b storedVote) int { return int(a.sequence) - int(b.sequence) })
	k.whole = digest{}
}

func (k *worker) digest() digest {
	if k.does == (digest{}) {
		k.does = digestOf(k.branches)
	}
	if k.whole == (digest{}) {
		b := append(make([]byte, 0, 256), k.asked, k.granted, k.holds)
		k.whole = digestBytes(k.does.append(appendValue(appendValue(b, &k.calls), &k.stored)))
	}
	return k.whole
}

func (d digest) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, d[0]), d[1])
}

// mustBeUnchanged: no step changes what other worlds share with this one, which a change of something shared would do. (A fold that
// gives a checkpoint may drop what means nothing.)
func (w *universe) mustBeUnchanged() {
	for i, l := range w.leaders {
		if l != nil && w.scope.checkpoints == 0 && (digestOf(l.fold) != l.knows || digestOf(l.delivery) != l.owes) {
			panic(fmt.Sprint("a step from a world has changed its leader ", i))
		}
	}
	for i, k := range w.workers {
		if k != nil && digestOf(k.branches) != k.does {
			panic(fmt.Sprint("a step from a world has changed its instance ", i))
		}
	}
}

// clockOf is the clock of a leader or a worker: the last one's is slow.
func (w *universe) clockOf(i, count int) int64 {
	if i == count-1 && count > 1 {
		return w.now - w.scope.lag*moment
	}
	return w.now
}

func (w *universe) leaderClock(i int) int64 { return w.clockOf(i, w.scope.leaders) }
func (w *universe) workerClock(i int) int64 { return w.clockOf(i, w.scope.workers()) }

// digest of the world: leaders with the same clock are exchangeable.
func (w *universe) digest() digest {
	b := binary.AppendVarint(make([]byte, 0, 1024), w.now)
	b = w.logged.append(b)
	for _, holder := range w.holders {
		b = append(b, byte(holder))
	}
	b = append(b, 0xff)
	b = binary.AppendUvarint(b, w.trimmed)
	b = appendValue(b, &w.checkpoint)
	for _, p := range w.flying {
		b = append(p.append(b), byte(p.worker))
	}
	b = append(b, 0xfe)
	for i := range w.packets {
		b = w.packets[i].sum.append(b)
	}
	b = append(b, 0xfd)
	b = w.appendLeaders(b)
	for _, k := range w.workers {
		if b = append(b, 0xfc); k != nil {
			b = k.digest().append(b)
		}
	}
	for p := range w.stores {
		for _, s := range w.stores[p] {
			b = append(b, byte(s.phase), s.applied, s.undone)
		}
	}
	l := w.left
	b = append(b, w.told[:]...)
	b = append(b, l.moments, l.crashes, l.redeliveries, l.duplicates, l.failures, l.doubts, l.skews, l.checkpoints, l.garbage, l.wounds)
	b = append(b, l.submits[:]...)
	return digestBytes(b)
}

func (w *universe) appendLeaders(b []byte) []byte {
	var room [2][40]byte
	var parts [2][]byte
	for i, l := range w.leaders {
		if parts[i] = room[i][:0]; l != nil {
			parts[i] = l.append(parts[i])
		}
	}
	if w.scope.lag == 0 && bytes.Compare(parts[0], parts[1]) > 0 {
		parts[0], parts[1] = parts[1], parts[0]
	}
	for _, part := range parts {
		b = append(append(b, byte(len(part))), part...)
	}
	return b
}

func (e *entry) append(b []byte) []byte {
	b = binary.AppendVarint(b, e.at)
	b = append(b, byte(e.kind), byte(e.participant))
	return append(append(b, e.data...), 0)
}

func (p *packet) append(b []byte) []byte {
	b = append(b, byte(p.participant), byte(p.outcome))
	if p.outcome != messages.Undecided {
		return messages.AppendEffect(b, &p.effect)
	}
	return messages.AppendDone(b, &p.done)
}

// publish puts a record on its way to the log.
func (w *universe) publish(p publish) {
	flying := slices.Clone(w.flying)
	for _, other := range flying {
		if other.entry == p.entry && p.worker == nobody {
			return // a leader that writes the same again
		}
	}
	flying = append(flying, p)
	slices.SortFunc(flying, comparePublish)
	w.flying = flying
}

func comparePublish(a, b publish) int {
	if c := bytes.Compare(a.append(nil), b.append(nil)); c != 0 {
		return c
	}
	return a.worker - b.worker
}

// send puts a core message into the network.
func (w *universe) send(p packet) {
	p.key = string(p.append(nil))
	at, found := slices.BinarySearchFunc(w.packets, p.key, func(q packet, key string) int { return strings.Compare(q.key, key) })
	if !found {
		p.sum = digestBytes([]byte(p.key))
		w.packets = slices.Insert(slices.Clone(w.packets), at, p)
	}
}

func (w *universe) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}
