// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"errors"
	"math/bits"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// Fold reads the log of one shard, message by message, and knows what its transactions are. The zero Fold is not
// usable; see NewFold. It has one owner: no method may run beside another.
type Fold struct {
	cfg FoldConfig
	// Invariant: logTime never decreases, and is at least the timestamp of every message read.
	logTime int64
	// before is the log time before the message that is being read.
	before int64
	// sequence is that of the message read last.
	sequence  uint64
	replaying bool
	// stopped is why no more can be read.
	stopped error
	// Invariant: a transaction is in open, in memory, or in neither.
	open      map[messages.ID]*transaction
	memory    memory
	forgotten forgotten
	expires   expiryHeap
	effects   []Effect
	free      []*transaction
	decoder   messages.Decoder
	prepare   messages.Prepare
	stats     FoldStats
}

// FoldConfig bounds what a fold remembers of finished transactions.
type FoldConfig struct {
	// Window is how long a finished transaction is remembered, in milliseconds of log time; 0 means DefaultWindow.
	Window int64
	// Remember is how many finished transactions are remembered at the most; over it the oldest are forgotten early,
	// though never before their expiry. 0 means DefaultRemember. All readers of a log must have the same.
	Remember int
}

// The de-duplication window of a shard: FoldConfig's values in production.
const (
	DefaultWindow   = 2 * 60 * 1000
	DefaultRemember = 250_000
)

// FoldStats counts what a fold has ignored.
type FoldStats struct {
	// Malformed counts records that no reader may act on, and messages on subjects that the protocol does not have.
	Malformed uint64
	// Stranger counts votes of a participant that is not the transaction's. If they hold something they are answered with a
	// rollback.
	Stranger uint64
	// Late counts prepares of transactions that are, or may be, forgotten.
	Late uint64
	// LastMalformed says what was wrong with the last of the malformed.
	LastMalformed error
}

// Checkpoint is where a reader of the log may start: no record before Sequence matters any more.
type Checkpoint struct {
	Sequence uint64 `json:"sequence"`
	// LogTime is the log time just before Sequence was read, in Unix milliseconds: neither later, or a replay would
	// expire what was decided in time, nor earlier, or it would not expire what was.
	LogTime int64 `json:"log_time"`
	// Floor is the newest id time, in Unix milliseconds, of the transactions that were forgotten: at or before it a
	// repeated submission cannot be told from a new one.
	Floor int64 `json:"floor"`
	// Through is the sequence of the message that was read last when the checkpoint was taken.
	Through uint64 `json:"through,omitempty"`
	// Skip are forgotten transactions of which prepares follow Sequence, while what they were decided by may precede it: these
	// prepares are to be ignored.
	Skip []Skipped `json:"skip,omitempty"`
}

// transaction is an unfinished transaction. Its per-participant bits follow the order of participants.
type transaction struct {
	id      messages.ID
	expires int64
	// routing is that of its first prepare; 0 for none.
	routing uint64
	// since is its first prepare's: it decides nothing here, but the prepares that are missing must have the same.
	since int64
	// first is the message that made it known.
	first position
	// Invariant: participants never changes once it is known, except when recalled.
	participants []string
	// yesAt is the sequence of each participant's last yes, or no that is held; 0 for none.
	yesAt                       []uint64
	prepared, yes, no, readOnly uint64
	// held are those whose no was not a refusal.
	held    uint64
	outcome messages.Outcome
	refusal
	// parted is the sequence of the last prepare that would mislead a reader that has not read what came before; 0 for none.
	parted uint64
	// recalled: it was finished, and a late yes opened it again; participants are then only those who did so, and members
	// all that it ever had.
	recalled bool
	members  []string
}

// position is a place in the log: a message's sequence, and the log time before it.
type position struct {
	sequence uint64
	logTime  int64
}

func (p position) lower(q position) position {
	if q.sequence < p.sequence {
		return q
	}
	return p
}

// NewFold gives a fold that will read the log from a checkpoint on; the zero Checkpoint is an empty log's.
func NewFold(cfg FoldConfig, from Checkpoint) *Fold {
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Remember <= 0 {
		cfg.Remember = DefaultRemember
	}
	f := &Fold{cfg: cfg, logTime: from.LogTime, open: make(map[messages.ID]*transaction)}
	if from.Sequence > 0 {
		f.sequence = from.Sequence - 1
	}
	f.memory.init(from.Floor)
	f.forgotten.init(from)
	return f
}

// Replay makes the fold keep its effects to itself until Live: what it reads now has been acted on, perhaps, by a
// reader before. Presumed abort (rule 5) does not apply to what is read meanwhile, for the transaction may have been
// finished and forgotten before the checkpoint; a participant in doubt repeats its vote.
func (f *Fold) Replay() { f.replaying = true }

// Live ends Replay. The effects of what is still open, which the caller has to carry out now, are emitted.
func (f *Fold) Live() {
	f.replaying = false
	var decided []*transaction
	for _, tx := range f.open {
		if tx.outcome != messages.Undecided {
			decided = append(decided, tx)
		}
	}
	slices.SortFunc(decided, func(a, b *transaction) int { return bytes.Compare(a.id[:], b.id[:]) })
	for _, tx := range decided {
		f.sendOwed(tx)
	}
}

// ErrGap says that messages are missing before the one that came. Another leader has trimmed the log under a reader that was
// slow: what it does not know to be committed it would take to be timed out.
var ErrGap = errors.New("the log has a gap: it was trimmed under its reader, or has lost messages")

// Message reads the next message of the log: its stream sequence, the time in Unix milliseconds that the server gave
// it, and its records. Log time moves before the records are read (rule 2). A message that was read before is ignored.
//
// Two errors end a reader, which reads nothing further. One wraps messages.ErrNewerVersion: nothing of the record that says
// so was read. The other is ErrGap: start again from the stored checkpoint.
func (f *Fold) Message(sequence uint64, unixMilli int64, kind messages.Kind, participant string, data []byte) error {
	if f.stopped != nil || sequence <= f.sequence {
		return f.stopped
	}
	if sequence != f.sequence+1 {
		return ErrGap
	}
	f.sequence, f.before = sequence, f.logTime
	f.logTime = max(f.logTime, unixMilli)
	f.expire()
	f.memory.forget(f.cfg, f.logTime, &f.forgotten)
	f.prune()
	for line := range messages.Lines(data) {
		err := f.record(kind, participant, line)
		if errors.Is(err, messages.ErrNewerVersion) {
			f.stopped = err
			return err
		}
		if err != nil {
			f.stats.Malformed++
			f.stats.LastMalformed = err
		}
	}
	return nil
}

var errForeign = errors.New("not a subject of the protocol, or not a participant of the record's")

func (f *Fold) record(kind messages.Kind, participant string, line []byte) error {
	switch kind {
	case messages.KindPrepare:
		if err := f.decoder.Prepare(line, &f.prepare); err != nil {
			return err
		}
		return f.onPrepare(participant, &f.prepare)
	case messages.KindVote:
		var vote messages.VoteRecord
		if err := f.decoder.Vote(line, &vote); err != nil {
			return err
		}
		f.onVote(participant, &vote)
	case messages.KindAbort:
		var abort messages.Abort
		if err := f.decoder.Abort(line, &abort); err != nil {
			return err
		}
		f.onAbort(&abort)
	case messages.KindFinished:
		var finished messages.Finished
		if err := f.decoder.Finished(line, &finished); err != nil {
			return err
		}
		f.onFinished(&finished)
	default:
		return errForeign
	}
	return nil
}

// onPrepare: rule 1. A prepare of a transaction that is known changes only which prepares were seen.
func (f *Fold) onPrepare(participant string, p *messages.Prepare) error {
	if indexOf(p.Participants, participant) < 0 {
		return errForeign
	}
	tx := f.open[p.Tx]
	switch {
	case tx != nil:
		tx.part(p, f.sequence)
	case f.memory.prepared(p.Tx, f.sequence):
		return nil
	case f.ignores(p.Tx):
		f.stats.Late++
		f.emit(Effect{Kind: Ignored, Tx: p.Tx})
		return nil
	default:
		tx = f.begin(p)
	}
	index := indexOf(tx.participants, participant)
	if index < 0 {
		if tx.recalled { // only those who called it back are known
			return nil
		}
		return errForeign
	}
	tx.prepared |= 1 << index
	if tx.outcome != messages.Undecided {
		return nil
	}
	switch {
	case f.logTime > tx.expires:
		f.decide(tx, Verdict{Outcome: messages.Aborted, Reason: ReasonTimeout})
	case p.Routing != tx.routing:
		f.decide(tx, Verdict{Outcome: messages.Aborted, Reason: ReasonRouting})
	}
	return nil
}

func (f *Fold) begin(p *messages.Prepare) *transaction {
	tx := f.allocate(p.Tx, p.Expires, position{f.sequence, f.before})
	tx.routing, tx.since = p.Routing, p.Since
	for _, name := range p.Participants {
		tx.participants = append(tx.participants, name)
		tx.yesAt = append(tx.yesAt, 0)
	}
	f.expires.push(expiry{p.Expires, p.Tx})
	return tx
}

// onVote: rules 2 to 5. Who is a stranger to the transaction was asked to prepare something else under its id, which has
// no part in its outcome (two clients that share an id routed it differently, say, and two leaders led): it must be told to
// roll back, and never what the transaction's own participants are told.
func (f *Fold) onVote(participant string, v *messages.VoteRecord) {
	// Who voted yes holds the branch, and a no that is held says that something may be: both are owed the outcome that comes after.
	holds := v.Vote == messages.VoteYes || (v.Vote == messages.VoteNo && v.Held)
	tx := f.open[v.Tx]
	if tx == nil {
		if holds {
			f.late(participant, v)
		}
		return
	}
	index := indexOf(tx.participants, participant)
	if index < 0 && tx.recalled && holds && indexOf(tx.members, participant) >= 0 {
		index = len(tx.participants)
		tx.participants = append(tx.participants, participant)
		tx.yesAt = append(tx.yesAt, 0)
	}
	if index < 0 {
		f.stats.Stranger++
		if holds {
			f.presume(participant, v.Tx)
		}
		return
	}
	if holds {
		tx.yesAt[index] = f.sequence
	}
	if v.Vote == messages.VoteYes {
		tx.yes |= 1 << index
	} else if holds {
		tx.held |= 1 << index
	}
	switch {
	case tx.outcome != messages.Undecided:
		if holds {
			f.send(tx, index)
		}
	case v.Vote == messages.VoteNo:
		tx.no |= 1 << index
		f.decide(tx, Verdict{messages.Aborted, participant, v.Reason, v.WrongOwner, v.Conflict})
	default:
		if v.Vote == messages.VoteReadOnly {
			tx.readOnly |= 1 << index
		}
		if tx.yes|tx.readOnly == tx.all() {
			f.decide(tx, Verdict{Outcome: messages.Committed})
		}
	}
}

// late answers who holds, or may hold, a branch of a transaction that is not open: with its outcome when that is remembered
// (rule 4), with a rollback when it is not known (rule 5: presumed abort, and nothing is kept), or not the participant's.
func (f *Fold) late(participant string, v *messages.VoteRecord) {
	past, ok := f.memory.peek(v.Tx)
	if stranger := ok && indexOf(past.members, participant) < 0; stranger || !ok {
		if stranger {
			f.stats.Stranger++
		}
		f.presume(participant, v.Tx)
		return
	}
	f.memory.remove(v.Tx, past.remembered)
	tx := f.allocate(v.Tx, past.expires, past.first)
	tx.participants = append(tx.participants, participant)
	tx.yesAt = append(tx.yesAt, f.sequence)
	tx.yes, tx.outcome, tx.recalled = 1, past.outcome, true
	tx.members = past.members
	if v.Vote != messages.VoteYes {
		tx.yes, tx.held = 0, 1
	}
	tx.refusal, tx.parted = past.refusal, past.parted
	f.send(tx, 0)
}

// presume answers who holds a branch that has no part in a commit.
func (f *Fold) presume(participant string, tx messages.ID) {
	f.emit(Effect{Kind: Send, Tx: tx, Participant: participant, Outcome: messages.Aborted, Vote: f.sequence, Presumed: true})
}

// onAbort: rule 2. An abort after the decision, or of an unknown transaction, is ignored.
func (f *Fold) onAbort(a *messages.Abort) {
	if tx := f.open[a.Tx]; tx != nil && tx.outcome == messages.Undecided {
		f.decide(tx, Verdict{Outcome: messages.Aborted, Reason: a.Reason})
	}
}

// onFinished: rule 6. It counts only for a decided transaction, and only while no yes is newer than what it covers.
func (f *Fold) onFinished(fin *messages.Finished) {
	tx := f.open[fin.Tx]
	if tx == nil || tx.outcome == messages.Undecided {
		return
	}
	for _, sequence := range tx.yesAt {
		if sequence > fin.Through {
			return
		}
	}
	f.finish(tx)
}

// expire: rule 2, for every transaction whose time the log has passed.
func (f *Fold) expire() {
	for len(f.expires) > 0 && f.expires[0].at < f.logTime {
		tx := f.open[f.expires.pop().id]
		if tx != nil && tx.outcome == messages.Undecided {
			f.decide(tx, Verdict{Outcome: messages.Aborted, Reason: ReasonTimeout})
		}
	}
}

// Why a transaction was aborted that nobody refused.
const (
	// ReasonTimeout: its time was up.
	ReasonTimeout = "timeout"
	// ReasonRouting: it was submitted twice, by clients that share its id, and its operations went to other participants the
	// second time. Who has voted may have prepared the one or the other.
	ReasonRouting = "submitted twice, and routed differently"
)

func (f *Fold) decide(tx *transaction, v Verdict) {
	if tx.outcome != messages.Undecided {
		panic("protocol: transaction " + tx.id.String() + " decided twice: " + tx.outcome.String() + ", " + v.Outcome.String())
	}
	tx.outcome, tx.refusal = v.Outcome, refusal{v.Participant, v.Reason, v.WrongOwner, v.Conflict}
	f.emit(Effect{
		Kind: Decided, Tx: tx.id, Outcome: v.Outcome, Participant: v.Participant, Reason: v.Reason, WrongOwner: v.WrongOwner,
		Conflict: v.Conflict,
	})
	if tx.owed() == 0 {
		f.finish(tx)
		return
	}
	f.sendOwed(tx)
}

func (f *Fold) sendOwed(tx *transaction) {
	for owed := tx.owed(); owed != 0; owed &= owed - 1 {
		f.send(tx, bits.TrailingZeros64(owed))
	}
}

func (f *Fold) send(tx *transaction, index int) {
	f.emit(Effect{
		Kind: Send, Tx: tx.id, Participant: tx.participants[index], Outcome: tx.outcome,
		Vote: tx.yesAt[index], Expires: tx.expires,
	})
}

func (f *Fold) finish(tx *transaction) {
	f.emit(Effect{Kind: Finished, Tx: tx.id, Outcome: tx.outcome})
	f.memory.remember(tx, f.logTime, f.sequence)
	delete(f.open, tx.id)
	f.release(tx)
}

// everybody is all participants that the transaction ever had.
func (tx *transaction) everybody() []string {
	if tx.recalled {
		return tx.members
	}
	return tx.participants
}

// all has a bit for every participant.
func (tx *transaction) all() uint64 { return ^uint64(0) >> (64 - len(tx.participants)) }

// owed has a bit for every participant that must hear the outcome: all but those who refused or were read-only, and
// never said yes.
func (tx *transaction) owed() uint64 {
	return tx.all() &^ ((tx.no | tx.readOnly) &^ (tx.yes | tx.held))
}

func (f *Fold) allocate(id messages.ID, expires int64, first position) *transaction {
	var tx *transaction
	if last := len(f.free) - 1; last >= 0 {
		tx, f.free = f.free[last], f.free[:last]
	} else {
		tx = new(transaction)
	}
	*tx = transaction{
		id: id, expires: expires, first: first,
		participants: tx.participants[:0], yesAt: tx.yesAt[:0],
	}
	f.open[id] = tx
	return tx
}

// maxFree bounds the transactions that are kept for use again.
const maxFree = 4096

func (f *Fold) release(tx *transaction) {
	if len(f.free) < maxFree {
		f.free = append(f.free, tx)
	}
}

func indexOf(names []string, name string) int {
	for i := range names {
		if names[i] == name {
			return i
		}
	}
	return -1
}
