// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
)

// world is a fold, the delivery of its outcomes, and participants that apply them, with a network between that loses,
// repeats and delays whatever it likes, and a wall clock that jumps.
type world struct {
	t        *rapid.T
	cfg      DeliveryConfig
	fold     *Fold
	delivery *Delivery
	now      int64 // the wall clock
	sequence uint64
	txs      []*worldTx
	network  []flight
	finished []messages.Finished // decided by the delivery, not yet in the log
}

type worldTx struct {
	id           messages.ID
	participants []string
	// lastYes and done are each participant's newest yes in the log, and the newest that it is done for; -1 for none.
	lastYes, done map[string]int64
	letGo         map[string]bool // refused or was read-only
	outcome       messages.Outcome
	finished      bool
}

// flight is a done under way.
type flight struct {
	from string
	done messages.Done
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, cfg: DeliveryConfig{Window: 3, Backoff: 10, MaxBackoff: 80}, now: 1000}
	w.fold = NewFold(FoldConfig{Window: 1 << 40, Remember: 1 << 20}, Checkpoint{})
	w.delivery = NewDelivery(w.cfg)
	return w
}

func (w *world) pick(label string, n int) int { return pick(w.t, label, n) }

func (w *world) append(kind messages.Kind, participant string, r genRecord) {
	w.sequence++
	m := (&genMessage{w.sequence, 1000, kind, participant, []genRecord{r}}).encode()
	if err := w.fold.Message(m.sequence, m.at, m.kind, m.participant, m.data); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range w.fold.Take() {
		tx := w.find(e.Tx)
		switch e.Kind {
		case Decided:
			tx.outcome = e.Outcome
		case Send:
			w.delivery.Owe(e, w.now)
			tx.finished = false
		case Finished:
			w.delivery.Forget(e.Tx)
			w.mayFinish(tx)
			tx.finished = true
		case Ignored:
		}
	}
}

func (w *world) find(id messages.ID) *worldTx {
	for _, tx := range w.txs {
		if tx.id == id {
			return tx
		}
	}
	w.t.Fatalf("no transaction %s", id)
	return nil
}

// mayFinish: finished only when every participant that is owed the outcome was done for its last yes.
func (w *world) mayFinish(tx *worldTx) {
	for _, p := range tx.participants {
		if tx.letGo[p] && tx.lastYes[p] < 0 {
			continue
		}
		if tx.done[p] < max(tx.lastYes[p], 0) {
			w.t.Fatalf("%s finished, and %s, whose last yes was at %d, is done for %d", tx.id, p, tx.lastYes[p], tx.done[p])
		}
	}
}

func (w *world) step() {
	if len(w.txs) == 0 || w.pick("new", 6) == 0 {
		w.begin()
		return
	}
	tx := w.txs[w.pick("tx", len(w.txs))]
	p := tx.participants[w.pick("participant", len(tx.participants))]
	switch w.pick("step", 12) {
	case 0, 1, 2, 3:
		w.vote(tx, p)
	case 4, 5, 6:
		w.deliver(p)
	case 7, 8:
		w.arrive()
	case 9:
		w.time(int64(w.pick("ms", 100)) - 30)
	case 10:
		w.note()
	case 11:
		switch w.pick("operator", 3) {
		case 0:
			w.delivery.Resend(p)
		case 1:
			if owes := len(w.delivery.Owed(tx.id, nil)) > 0; w.delivery.Retry(tx.id) != owes {
				w.t.Fatalf("retry %v", !owes)
			}
		case 2:
			w.append(messages.KindAbort, "", genRecord{tx: tx.id})
		}
	}
}

func (w *world) begin() {
	tx := &worldTx{
		id: testID(1000, len(w.txs)+1), participants: makerNames[:1+w.pick("participants", 3)],
		lastYes: make(map[string]int64), done: make(map[string]int64), letGo: make(map[string]bool),
	}
	for _, p := range tx.participants {
		tx.lastYes[p], tx.done[p] = -1, -1
	}
	w.txs = append(w.txs, tx)
	w.append(messages.KindPrepare, tx.participants[0], genRecord{tx: tx.id, participants: tx.participants, expires: 5000})
}

func (w *world) vote(tx *worldTx, p string) {
	vote := rapid.SampledFrom([]messages.Vote{messages.VoteYes, messages.VoteYes, messages.VoteYes, messages.VoteReadOnly, messages.VoteNo}).Draw(w.t, "vote")
	switch {
	case vote == messages.VoteYes:
		tx.lastYes[p] = int64(w.sequence) + 1
	case tx.outcome == messages.Undecided:
		tx.letGo[p] = true
	}
	w.append(messages.KindVote, p, genRecord{tx: tx.id, vote: vote})
}

// deliver sends a batch, some of which is lost; the participant applies what comes, and answers.
func (w *world) deliver(p string) (sent int) {
	commits, rollbacks := w.delivery.Batch(p, w.now, nil, nil)
	for i, e := range append(slices.Clone(commits), rollbacks...) {
		tx := w.find(e.Tx)
		if want := i < len(commits); want != (tx.outcome == messages.Committed) || tx.outcome == messages.Undecided {
			w.t.Fatalf("%s is %s, and %s is told otherwise", e.Tx, tx.outcome, p)
		}
		if e.Expires != 5000 || int64(e.Vote) != max(tx.lastYes[p], 0) {
			w.t.Fatalf("%+v for the yes of %s at %d", e, p, tx.lastYes[p])
		}
		switch w.pick("fate", 5) {
		case 0: // lost
		case 1:
			w.network = append(w.network, flight{p, messages.Done{Tx: e.Tx, Vote: e.Vote, Working: true}})
		default:
			tx.done[p] = max(tx.done[p], int64(e.Vote))
			w.network = append(w.network, flight{p, messages.Done{Tx: e.Tx, Vote: e.Vote}})
		}
	}
	return len(commits) + len(rollbacks)
}

// arrive delivers one of the answers under way, and perhaps keeps it to be delivered once more.
func (w *world) arrive() {
	if len(w.network) == 0 {
		return
	}
	i := w.pick("flight", len(w.network))
	f := w.network[i]
	if w.pick("repeat", 3) > 0 {
		w.network = slices.Delete(w.network, i, i+1)
	}
	if finished, ok := w.delivery.Done(f.from, &f.done, w.now); ok {
		w.finished = append(w.finished, finished)
	}
}

func (w *world) time(d int64) {
	w.now += d
	w.delivery.Tick(w.now)
}

// note writes one of the finished records, any of them.
func (w *world) note() {
	if len(w.finished) > 0 {
		i := w.pick("finished", len(w.finished))
		f := w.finished[i]
		w.finished = slices.Delete(w.finished, i, i+1)
		w.append(messages.KindFinished, "", genRecord{tx: f.Tx, through: f.Through})
	}
}

// check holds the delivery against the fold: all that is owed there is kept here, within the window's bound.
func (w *world) check() {
	for _, p := range makerNames {
		peer, underWay, waits := w.delivery.peers[p], 0, 0
		for _, tx := range w.txs {
			if _, debt := w.delivery.find(tx.id, peer); debt != nil && debt.state != queued && debt.state != settled {
				underWay++
			} else if debt != nil && debt.state == queued {
				waits++
			}
		}
		if peer != nil && (peer.underWay != underWay || underWay > w.cfg.Window) {
			w.t.Fatalf("%s: %d under way, counted as %d, of at most %d", p, underWay, peer.underWay, w.cfg.Window)
		}
		waiting := slices.Contains(slices.Collect(w.delivery.Waiting()), p)
		if waits > 0 && underWay < w.cfg.Window && !waiting {
			w.t.Fatalf("%s has %d to be sent and does not wait", p, waits)
		}
	}
	for _, tx := range w.txs {
		w.owedIsKept(tx)
	}
}

func (w *world) owedIsKept(tx *worldTx) {
	open := w.fold.open[tx.id]
	if open == nil || open.outcome == messages.Undecided {
		if owed := w.delivery.Owed(tx.id, nil); len(owed) > 0 {
			w.t.Fatalf("%s is not open and decided, yet owed to %v", tx.id, owed)
		}
		return
	}
	for owed := open.owed(); owed != 0; owed &= owed - 1 {
		i := bits.TrailingZeros64(owed)
		p := open.participants[i]
		_, debt := w.delivery.find(tx.id, w.delivery.peers[p])
		if debt == nil || debt.vote != open.yesAt[i] {
			w.t.Fatalf("%s owes %s for %d: %+v", tx.id, p, open.yesAt[i], debt)
		}
		if debt.state == settled && tx.done[p] < int64(debt.vote) {
			w.t.Fatalf("%s: the debt to %s for %d is settled; it is done for %d", tx.id, p, debt.vote, tx.done[p])
		}
	}
}

// TestDeliveryProperty: nothing that is owed is lost; a done counts for its yes and older ones only; a transaction is
// finished only when every owed participant was done for its last yes; the window holds; the wrong outcome is never sent. And
// once the network is quiet, everything is finished within the longest backoff.
func TestDeliveryProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range 1 + pick(t, "steps", 120) {
			w.step()
			w.check()
		}
		w.heal()
	})
}

// heal ends all faults: every decided transaction must be finished soon.
func (w *world) heal() {
	for _, tx := range w.txs {
		w.append(messages.KindAbort, "", genRecord{tx: tx.id})
	}
	for _, f := range w.network { // what is under way comes
		if finished, ok := w.delivery.Done(f.from, &f.done, w.now); ok {
			w.finished = append(w.finished, finished)
		}
	}
	const rounds = 1000 // far more than it takes
	deadline := w.now + 5*w.cfg.Backoff + w.cfg.MaxBackoff
	for i := 0; i < rounds && w.now <= deadline; i++ {
		for _, f := range w.finished {
			w.append(messages.KindFinished, "", genRecord{tx: f.Tx, through: f.Through})
		}
		w.finished = nil
		for _, p := range slices.Collect(w.delivery.Waiting()) {
			w.answer(p)
		}
		if len(w.finished) == 0 && len(slices.Collect(w.delivery.Waiting())) == 0 {
			w.time(1)
		}
	}
	if open, _ := w.fold.Len(); open != 0 || w.delivery.Len() != 0 || len(w.delivery.Debts(nil)) != 0 {
		w.t.Fatalf("%d open, %d owed: %+v", open, w.delivery.Len(), w.delivery.Debts(nil))
	}
}

// answer delivers a batch and its answers, without a fault.
func (w *world) answer(p string) {
	commits, rollbacks := w.delivery.Batch(p, w.now, nil, nil)
	for _, e := range append(commits, rollbacks...) {
		tx := w.find(e.Tx)
		tx.done[p] = max(tx.done[p], int64(e.Vote))
		if finished, ok := w.delivery.Done(p, &messages.Done{Tx: e.Tx, Vote: e.Vote}, w.now); ok {
			w.finished = append(w.finished, finished)
		}
	}
}

func send(d *Delivery, n int, participant string, vote uint64, now int64) messages.ID {
	id := testID(1, n)
	d.Owe(Effect{Kind: Send, Tx: id, Participant: participant, Outcome: messages.Committed, Vote: vote}, now)
	return id
}

func batch(d *Delivery, participant string, now int64) int {
	commits, rollbacks := d.Batch(participant, now, nil, nil)
	return len(commits) + len(rollbacks)
}

// The backoff doubles up to its bound, and starts again when the participant registers or an operator says so.
func TestDeliveryBackoff(t *testing.T) {
	for _, cfg := range []DeliveryConfig{{}, {Backoff: 1000, MaxBackoff: 30_000}} {
		d := NewDelivery(cfg)
		id := send(d, 1, "a", 7, 0)
		now := int64(0)
		expect := func(pauses ...int64) {
			t.Helper()
			for _, pause := range pauses {
				if n := batch(d, "a", now); n != 1 {
					t.Fatalf("%d sent at %d", n, now)
				}
				d.Tick(now + pause - 1)
				if n := batch(d, "a", now+pause-1); n != 0 {
					t.Fatalf("%d sent again at %d, early", n, now+pause-1)
				}
				now += pause
				d.Tick(now)
			}
		}
		expect(1000, 2000, 4000, 8000, 16000, 30000, 30000)
		d.Resend("a")
		expect(1000, 2000)
		d.Retry(id)
		expect(1000)
		// A newer yes is news.
		send(d, 1, "a", 9, now)
		expect(1000)
	}
	d := NewDelivery(DeliveryConfig{Backoff: 50_000, MaxBackoff: 10})
	if d.cfg.MaxBackoff != 50_000 {
		t.Errorf("the longest backoff is %d, less than the first", d.cfg.MaxBackoff)
	}
}

// A debt that was sent later, with less patience, is not held back by another one's backoff.
func TestDeliveryRetryOfOneDebtDoesNotWaitForAnothers(t *testing.T) {
	d := NewDelivery(DeliveryConfig{Backoff: 1000, MaxBackoff: 32_000})
	send(d, 1, "a", 1, 0)
	now := int64(0)
	for range 6 {
		batch(d, "a", now)
		now += 32_000
		d.Tick(now)
	}
	batch(d, "a", now)
	send(d, 1, "b", 2, now)
	batch(d, "b", now)
	d.Tick(now + 1000)
	if n := batch(d, "b", now+1000); n != 1 {
		t.Errorf("%d sent again to b after its backoff", n)
	}
}

// A wall clock that steps back an hour delays nothing by an hour.
func TestDeliveryClockStepsBack(t *testing.T) {
	d := NewDelivery(DeliveryConfig{})
	now := int64(10_000_000)
	send(d, 1, "a", 1, now)
	batch(d, "a", now)
	now -= 3_600_000
	d.Tick(now)
	d.Tick(now + 1000)
	if n := batch(d, "a", now+1000); n != 1 {
		t.Errorf("%d sent again", n)
	}
}

// A participant that reports a heuristic each time that it is done is reported once: the record has room for no more.
func TestDeliveryReportsAHeuristicOnce(t *testing.T) {
	d := NewDelivery(DeliveryConfig{})
	var got messages.Finished
	for vote := range uint64(2 * messages.MaxParticipants) {
		id := send(d, 1, "a", vote+1, 0)
		send(d, 1, "b", vote+1, 0)
		d.Done("b", &messages.Done{Tx: id, Vote: vote + 1, Heuristic: "b"}, 0)
		got, _ = d.Done("a", &messages.Done{Tx: id, Vote: vote + 1, Heuristic: "a"}, 0)
	}
	want := []messages.HeuristicReport{{Participant: "b", Reason: "b"}, {Participant: "a", Reason: "a"}}
	if !slices.Equal(got.Heuristics, want) || got.Through != 2*messages.MaxParticipants {
		t.Errorf("%+v", got)
	}
	var decoder messages.Decoder
	if err := decoder.Finished(messages.AppendFinished(nil, &got), &messages.Finished{}); err != nil {
		t.Error(err)
	}
}

// Batches are bounded, the oldest debts go first, and what is not known is nothing.
func TestDeliveryBatches(t *testing.T) {
	d := NewDelivery(DeliveryConfig{})
	if batch(d, "a", 0) != 0 || d.Retry(testID(1, 1)) || len(d.Owed(testID(1, 1), nil)) != 0 {
		t.Error("an empty delivery gives something")
	}
	d.Resend("a")
	d.Forget(testID(1, 1))
	for n := range 2*messages.MaxRecords + 1 {
		send(d, n, "a", 1, 0)
	}
	for d := range d.Waiting() {
		if d != "a" {
			t.Errorf("%s waits", d)
		}
		break
	}
	next := 0
	for _, want := range []int{messages.MaxRecords, messages.MaxRecords, 1, 0} {
		commits, _ := d.Batch("a", 0, nil, nil)
		if len(commits) != want {
			t.Fatalf("%d in a batch, want %d", len(commits), want)
		}
		for _, e := range commits {
			if e.Tx != testID(1, next) {
				t.Fatalf("%s sent as number %d", e.Tx, next)
			}
			next++
		}
	}
	if _, ok := d.Done("a", &messages.Done{Tx: testID(2, 1)}, 0); ok {
		t.Error("a transaction that is not known is finished")
	}
	d.Forget(testID(1, 0))
	if got := d.peers["a"].underWay; got != 2*messages.MaxRecords {
		t.Errorf("%d under way", got)
	}
}

// A queue that is never empty does not grow.
func TestDeliveryQueueIsBounded(t *testing.T) {
	d := NewDelivery(DeliveryConfig{})
	send(d, 0, "a", 1, 0)
	for n := range 100_000 {
		id := send(d, n+1, "a", 1, 0)
		commits, _ := d.Batch("a", 0, nil, nil)
		send(d, 200_000+n, "a", 1, 0)
		for _, e := range commits {
			d.Done("a", &messages.Done{Tx: e.Tx, Vote: 1}, 0)
			d.Forget(e.Tx)
		}
		d.Forget(id)
	}
	if got := cap(d.peers["a"].queue); got > 64 {
		t.Errorf("the queue has room for %d", got)
	}
}
