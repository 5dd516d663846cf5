// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"iter"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// Delivery keeps what participants are owed: outcomes that they have not said to be done. It decides what to send now,
// what to send again and when, and which transactions are finished. Times are a wall clock's Unix milliseconds; a
// clock that steps forward makes it send early, and one that steps back makes it wait no longer than it would have.
// It has one owner, like Fold.
type Delivery struct {
	cfg   DeliveryConfig
	owing map[messages.ID]*owing
	peers map[string]*peer
	// all are the peers in the order in which they came.
	all   []*peer
	retry expiryHeap
	free  []*owing
	// clock is the wall clock's last time, and steps how far it went back altogether: their sum never does.
	clock, steps int64
}

// DeliveryConfig sets the pace of a Delivery.
type DeliveryConfig struct {
	// Window is how many outcomes may be under way to one participant at once; default 4096.
	Window int
	// Backoff is the time in milliseconds before an unanswered outcome is sent again; it doubles with every attempt up to
	// MaxBackoff. Defaults 1000 and 30000; a MaxBackoff that is less than Backoff means Backoff.
	Backoff, MaxBackoff int64
}

// owing is a transaction whose participants are owed its outcome.
type owing struct {
	outcome messages.Outcome
	expires int64
	since   int64
	// retryAt is when the transaction is due in the retry heap, 0 when it is not. The heap may hold other times, of no meaning.
	retryAt    int64
	debts      []debt
	heuristics []messages.HeuristicReport
}

// workingGrace is how many Backoffs a participant's word that it is still working is good for.
const workingGrace = 5

type debtState uint8

const (
	queued debtState = iota
	underWay
	settled
)

// debt is one participant's share of an owing.
type debt struct {
	peer     *peer
	vote     uint64
	state    debtState
	attempts int
	sendAt   int64 // when underWay: the time to send again
}

// peer is a participant, as a Delivery sees it.
type peer struct {
	name string
	// queue are debts to send, from head on; it may name some that were settled since.
	queue    []messages.ID
	head     int
	underWay int
}

func (p *peer) push(tx messages.ID) {
	if p.head > len(p.queue)/2 { // so that a queue which is never empty does not grow
		p.queue, p.head = p.queue[:copy(p.queue, p.queue[p.head:])], 0
	}
	p.queue = append(p.queue, tx)
}

// NewDelivery gives an empty Delivery; zero fields of cfg mean the defaults.
func NewDelivery(cfg DeliveryConfig) *Delivery {
	if cfg.Window <= 0 {
		cfg.Window = 4096
	}
	if cfg.Backoff <= 0 {
		cfg.Backoff = 1000
	}
	if cfg.MaxBackoff <= 0 {
		cfg.MaxBackoff = 30_000
	}
	cfg.MaxBackoff = max(cfg.MaxBackoff, cfg.Backoff)
	return &Delivery{cfg: cfg, owing: make(map[messages.ID]*owing), peers: make(map[string]*peer)}
}

// Owe takes over a Send effect that is not presumed. A debt that was settled for an older yes is open again.
func (d *Delivery) Owe(e Effect, now int64) {
	o := d.owing[e.Tx]
	if o == nil {
		o = d.allocate()
		o.outcome, o.expires, o.since = e.Outcome, e.Expires, now
		d.owing[e.Tx] = o
	}
	p := d.peer(e.Participant)
	for i := range o.debts {
		if owed := &o.debts[i]; owed.peer == p {
			owed.vote, owed.attempts = max(owed.vote, e.Vote), 0
			d.enqueue(e.Tx, owed)
			return
		}
	}
	o.debts = append(o.debts, debt{peer: p, vote: e.Vote, state: settled})
	d.enqueue(e.Tx, &o.debts[len(o.debts)-1])
}

func (d *Delivery) enqueue(tx messages.ID, owed *debt) {
	switch owed.state {
	case queued:
		return
	case underWay:
		owed.peer.underWay--
	case settled: // open again
	}
	owed.state = queued
	owed.peer.push(tx)
}

// Batch takes the outcomes to be sent to one participant now, at most messages.MaxRecords, and appends them to commits
// and rollbacks. Both come back empty when there is nothing to send or the window is full.
func (d *Delivery) Batch(participant string, now int64, commits, rollbacks []messages.Effect) (c, r []messages.Effect) {
	p := d.peers[participant]
	if p == nil {
		return commits, rollbacks
	}
	now = d.steady(now)
	for count := 0; p.head < len(p.queue) && count < messages.MaxRecords && p.underWay < d.cfg.Window; {
		tx := p.queue[p.head]
		p.head++
		o, owed := d.find(tx, p)
		if owed == nil || owed.state != queued {
			continue
		}
		count++
		d.send(tx, o, owed, now)
		effect := messages.Effect{Tx: tx, Vote: owed.vote, Expires: o.expires}
		if o.outcome == messages.Committed {
			commits = append(commits, effect)
		} else {
			rollbacks = append(rollbacks, effect)
		}
	}
	return commits, rollbacks
}

// steady makes a wall clock's time one that never goes back.
func (d *Delivery) steady(now int64) int64 {
	d.steps += max(0, d.clock-now)
	d.clock = now
	return now + d.steps
}

func (d *Delivery) send(tx messages.ID, o *owing, owed *debt, now int64) {
	owed.state = underWay
	owed.peer.underWay++
	owed.sendAt = now + min(d.cfg.Backoff<<min(owed.attempts, 20), d.cfg.MaxBackoff)
	owed.attempts++
	d.schedule(tx, o, owed.sendAt)
}

func (d *Delivery) schedule(tx messages.ID, o *owing, at int64) {
	if o.retryAt == 0 || at < o.retryAt {
		o.retryAt = at
		d.retry.push(expiry{at, tx})
	}
}

// Waiting steps through the participants that have something to be sent now.
func (d *Delivery) Waiting() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, p := range d.all {
			if p.head < len(p.queue) && p.underWay < d.cfg.Window && !yield(p.name) {
				return
			}
		}
	}
}

// Tick puts back into the queue what was under way for too long.
func (d *Delivery) Tick(now int64) {
	now = d.steady(now)
	for len(d.retry) > 0 && d.retry[0].at <= now {
		due := d.retry.pop()
		o := d.owing[due.id]
		if o == nil || o.retryAt != due.at {
			continue
		}
		o.retryAt = 0
		for i := range o.debts {
			owed := &o.debts[i]
			if owed.state != underWay {
				continue
			}
			if owed.sendAt <= now {
				d.enqueue(due.id, owed)
			} else {
				d.schedule(due.id, o, owed.sendAt)
			}
		}
	}
}

// Done takes a participant's answer. It gives the finished record, to be written to the log, when that was the last
// of the transaction's debts.
func (d *Delivery) Done(participant string, done *messages.Done, now int64) (finished messages.Finished, ok bool) {
	o, owed := d.find(done.Tx, d.peers[participant])
	if owed == nil || owed.state == settled {
		return messages.Finished{}, false
	}
	if done.Working {
		if owed.state == underWay {
			owed.attempts, owed.sendAt = 0, d.steady(now)+workingGrace*d.cfg.Backoff
		}
		return messages.Finished{}, false
	}
	if done.Vote < owed.vote {
		return messages.Finished{}, false
	}
	if owed.state == underWay {
		owed.peer.underWay--
	}
	owed.state = settled
	if done.Heuristic != "" {
		o.report(messages.HeuristicReport{Participant: participant, Reason: done.Heuristic})
	}
	return o.finished(done.Tx)
}

// report keeps a participant's newest report: it may be done more than once, and a finished record has room for each
// participant only once.
func (o *owing) report(h messages.HeuristicReport) {
	for i := range o.heuristics {
		if o.heuristics[i].Participant == h.Participant {
			o.heuristics[i] = h
			return
		}
	}
	o.heuristics = append(o.heuristics, h)
}

func (o *owing) finished(tx messages.ID) (messages.Finished, bool) {
	f := messages.Finished{Tx: tx, Heuristics: slices.Clone(o.heuristics)}
	for i := range o.debts {
		if o.debts[i].state != settled {
			return messages.Finished{}, false
		}
		f.Through = max(f.Through, o.debts[i].vote)
	}
	return f, true
}

// Resend puts everything that a participant is owed into its queue, with fresh patience: it has just registered.
func (d *Delivery) Resend(participant string) {
	p := d.peers[participant]
	if p == nil {
		return
	}
	var txs []messages.ID
	for tx, o := range d.owing {
		for i := range o.debts {
			if owed := &o.debts[i]; owed.peer == p && owed.state != settled {
				txs = append(txs, tx)
			}
		}
	}
	slices.SortFunc(txs, func(a, b messages.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, tx := range txs {
		_, owed := d.find(tx, p)
		owed.attempts = 0
		d.enqueue(tx, owed)
	}
}

// Retry puts what a transaction's participants are owed into their queues now; false when nothing is owed.
func (d *Delivery) Retry(tx messages.ID) (owes bool) {
	o := d.owing[tx]
	if o == nil {
		return false
	}
	for i := range o.debts {
		if owed := &o.debts[i]; owed.state != settled {
			owes, owed.attempts = true, 0
			d.enqueue(tx, owed)
		}
	}
	return owes
}

// Forget drops a transaction: the log says that it is finished.
func (d *Delivery) Forget(tx messages.ID) {
	o := d.owing[tx]
	if o == nil {
		return
	}
	for i := range o.debts {
		if o.debts[i].state == underWay {
			o.debts[i].peer.underWay--
		}
	}
	delete(d.owing, tx)
	d.release(o)
}

// Debt is what one participant is owed altogether.
type Debt struct {
	Participant string
	// Outcomes that it has not said to be done.
	Outcomes int
	// Voted are those of them that answer its yes: there it may be in doubt.
	Voted int
	// Since is when the oldest of them was decided, in Unix milliseconds.
	Since int64
}

// Debts appends every participant that is owed something, in no order.
func (d *Delivery) Debts(debts []Debt) []Debt {
	at := make(map[*peer]int)
	for _, o := range d.owing {
		for i := range o.debts {
			owed := &o.debts[i]
			if owed.state == settled {
				continue
			}
			k, ok := at[owed.peer]
			if !ok {
				k = len(debts)
				at[owed.peer] = k
				debts = append(debts, Debt{Participant: owed.peer.name, Since: o.since})
			}
			debts[k].Outcomes++
			if owed.vote > 0 {
				debts[k].Voted++
			}
			debts[k].Since = min(debts[k].Since, o.since)
		}
	}
	return debts
}

// Owed appends the names of the participants that have not said a transaction's outcome to be done.
func (d *Delivery) Owed(tx messages.ID, names []string) []string {
	if o := d.owing[tx]; o != nil {
		for i := range o.debts {
			if o.debts[i].state != settled {
				names = append(names, o.debts[i].peer.name)
			}
		}
	}
	return names
}

// Len is how many transactions have debts, settled ones included until the log says that they are finished.
func (d *Delivery) Len() int { return len(d.owing) }

func (d *Delivery) find(tx messages.ID, p *peer) (*owing, *debt) {
	o := d.owing[tx]
	if o == nil || p == nil {
		return nil, nil
	}
	for i := range o.debts {
		if o.debts[i].peer == p {
			return o, &o.debts[i]
		}
	}
	return nil, nil
}

func (d *Delivery) peer(name string) *peer {
	p := d.peers[name]
	if p == nil {
		p = &peer{name: name}
		d.peers[name] = p
		d.all = append(d.all, p)
	}
	return p
}

func (d *Delivery) allocate() *owing {
	if last := len(d.free) - 1; last >= 0 {
		o := d.free[last]
		d.free = d.free[:last]
		*o = owing{debts: o.debts[:0]}
		return o
	}
	return &owing{}
}

func (d *Delivery) release(o *owing) {
	if len(d.free) < maxFree {
		d.free = append(d.free, o)
	}
}
