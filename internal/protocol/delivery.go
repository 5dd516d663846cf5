// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"iter"

	"github.com/assent-tx/assent/messages"
)

// Delivery keeps what participants are owed: outcomes that they have not said to be done. It decides what to send now,
// what to send again and when, and which transactions are finished. Times are a wall clock's Unix milliseconds; a
// clock that steps makes it send early or late, and nothing worse. It has one owner, like Fold.
type Delivery struct {
	cfg   DeliveryConfig
	owing map[messages.ID]*owing
	peers map[string]*peer
	retry expiryHeap
	free  []*owing
}

// DeliveryConfig sets the pace of a Delivery.
type DeliveryConfig struct {
	// Window is how many outcomes may be under way to one participant at once; default 4096.
	Window int
	// Backoff is the time in milliseconds before an unanswered outcome is sent again; it doubles with every attempt up to
	// MaxBackoff. Defaults 1000 and 30000.
	Backoff, MaxBackoff int64
}

// owing is a transaction whose participants are owed its outcome.
type owing struct {
	outcome    messages.Outcome
	expires    int64
	since      int64
	scheduled  bool
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
	name     string
	queue    []messages.ID // debts to send; may name some that were settled since
	underWay int
}

// NewDelivery gives an empty Delivery; zero fields of cfg mean the defaults.
func NewDelivery(cfg DeliveryConfig) *Delivery {
	if cfg.Window <= 0 {
		cfg.Window = 4096
	}
	if cfg.Backoff <= 0 {
		cfg.Backoff = 1000
	}
	if cfg.MaxBackoff < cfg.Backoff {
		cfg.MaxBackoff = max(30_000, cfg.Backoff)
	}
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
			owed.vote = max(owed.vote, e.Vote)
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
	}
	owed.state = queued
	owed.peer.queue = append(owed.peer.queue, tx)
}

// Batch takes the outcomes to be sent to one participant now, at most messages.MaxRecords, and appends them to commits
// and rollbacks. Both come back empty when there is nothing to send or the window is full.
func (d *Delivery) Batch(participant string, now int64, commits, rollbacks []messages.Effect) (c, r []messages.Effect) {
	p := d.peers[participant]
	if p == nil {
		return commits, rollbacks
	}
	taken, count := 0, 0
	for taken < len(p.queue) && count < messages.MaxRecords && p.underWay < d.cfg.Window {
		tx := p.queue[taken]
		taken++
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
	p.queue = p.queue[:copy(p.queue, p.queue[taken:])]
	return commits, rollbacks
}

func (d *Delivery) send(tx messages.ID, o *owing, owed *debt, now int64) {
	owed.state = underWay
	owed.peer.underWay++
	owed.sendAt = now + min(d.cfg.Backoff<<min(owed.attempts, 20), d.cfg.MaxBackoff)
	owed.attempts++
	if !o.scheduled {
		o.scheduled = true
		d.retry.push(expiry{owed.sendAt, tx})
	}
}

// Waiting steps through the participants that have something to be sent now.
func (d *Delivery) Waiting() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name, p := range d.peers {
			if len(p.queue) > 0 && p.underWay < d.cfg.Window && !yield(name) {
				return
			}
		}
	}
}

// Tick puts back into the queue what was under way for too long.
func (d *Delivery) Tick(now int64) {
	for len(d.retry) > 0 && d.retry[0].at <= now {
		tx := d.retry.pop().id
		o := d.owing[tx]
		if o == nil {
			continue
		}
		o.scheduled = false
		next := int64(0)
		for i := range o.debts {
			owed := &o.debts[i]
			if owed.state != underWay {
				continue
			}
			if owed.sendAt <= now {
				d.enqueue(tx, owed)
			} else if next == 0 || owed.sendAt < next {
				next = owed.sendAt
			}
		}
		if next != 0 {
			o.scheduled = true
			d.retry.push(expiry{next, tx})
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
			owed.attempts, owed.sendAt = 0, now+workingGrace*d.cfg.Backoff
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
		o.heuristics = append(o.heuristics, messages.HeuristicReport{Participant: participant, Reason: done.Heuristic})
	}
	return o.finished(done.Tx)
}

func (o *owing) finished(tx messages.ID) (messages.Finished, bool) {
	f := messages.Finished{Tx: tx, Heuristics: o.heuristics}
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
	for tx, o := range d.owing {
		for i := range o.debts {
			if owed := &o.debts[i]; owed.peer == p && owed.state == underWay {
				owed.attempts = 0
				d.enqueue(tx, owed)
			}
		}
	}
}

// Retry puts what a transaction's participants are owed into their queues now; false when nothing is owed.
func (d *Delivery) Retry(tx messages.ID) bool {
	o := d.owing[tx]
	if o == nil {
		return false
	}
	for i := range o.debts {
		if owed := &o.debts[i]; owed.state == underWay {
			owed.attempts = 0
			d.enqueue(tx, owed)
		}
	}
	return true
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
