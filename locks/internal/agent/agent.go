// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"

	"github.com/assent-tx/assent/locks/internal/record"
)

// Config is what an agent is told at the beginning. Times are in ms.
type Config struct {
	// Self is the session.
	Self string
	// Epoch is the time 0 of the events, in Unix ms; for people only.
	Epoch int64
	// Poll is how long those who wait hear nothing before the record is read.
	Poll int64
	// Answer is how long a keeper has to answer before it is asked again, and the record read.
	Answer int64
	// Persist is how long what was noted may stay unwritten: those who wait keep their order only by what is written, should
	// the keeper die.
	Persist int64
	// Patience is how often a keeper is asked in vain before the record is written without it.
	Patience int
}

// Agent is one session's part in one key. It is not safe for concurrent use. Every method that takes an event gives
// the effects of it.
type Agent struct {
	cfg Config
	now int64

	// known is the newest version that is known, at revision.
	known    record.Record
	revision uint64
	// stale: known must be read before anything is decided by it.
	stale bool
	// guessed: known is a guess, good enough to try a write on and for nothing else.
	guessed bool
	// heard is when known was last heard to be the newest, changed when it last was another one before.
	heard, changed int64
	// older counts the reads in a row that were older than known.
	older int
	// doubt: a write on the revision unsettled was not acknowledged and may still be stored, unless another one is first.
	doubt     bool
	unsettled uint64
	// pause is until when nothing is tried, because the server refused a write.
	pause int64

	// operations are the local ones, in the order in which they came. They are few: one for each call under way in this
	// process for this key, and for each lock held.
	operations []*operation
	// joins are operations that are not in the record yet, local ones and others', in the order in which they came.
	joins []record.Operation
	// leaves are ids that others asked to take out.
	leaves []string
	// asking are sessions that are owed an answer.
	asking []string
	// dead are sessions that have ended.
	dead map[string]bool
	// noted is since when there is something to write that does not hurry; 0 when there is nothing.
	noted int64

	writing *Write
	reading bool
	// requests counts the writes and reads that were begun, one after the other. answered is the newest of them whose answer told what was
	// stored at some time after it was begun.
	requests, answered uint64
	effects            []Effect
}

// operation is a local one.
type operation struct {
	record.Operation
	state state
	token uint64
	// asked is the keeper that was asked for it, when, how often without an answer, and whether it said to have noted it, and
	// at which revision.
	asked    string
	askedAt  int64
	unheard  int
	noted    bool
	notedAt  uint64
	ahead    int  // what was last told of its place; -1: nothing
	fresh    bool // no keeper has ever heard of it
	quiet    bool // nobody waits for its end
	answered bool // the keeper has said that it does not know it
	// came is how many requests had been begun when it came: what they tell may have been so only before.
	came uint64
}

type state uint8

const (
	waiting state = iota // wants to hold
	held                 // holds
	leaving              // gives back, or waits no more
)

// New gives the agent of a key of which nothing is known. Its guess is that the key was never used.
func New(cfg Config) *Agent {
	return &Agent{cfg: cfg, guessed: true, dead: make(map[string]bool)}
}

// Join begins an operation of this session.
func (a *Agent) Join(now int64, op record.Operation) []Effect {
	a.now = now
	if op.Session() != a.cfg.Self || a.operation(op.ID) != nil {
		panic(fmt.Sprintf("agent of %s: join of %s", a.cfg.Self, op.ID))
	}
	if keeper := a.known.Keeper(); keeper != "" && keeper != a.cfg.Self && (op.Try || now-a.heard >= a.cfg.Answer) {
		a.stale = true // it may have changed; who finds it free, finds that out by writing
	}
	a.operations = append(a.operations, &operation{Operation: op, ahead: -1, fresh: true, came: a.requests})
	a.joins = append(a.joins, op)
	return a.step()
}

// Leave gives a held operation back, or withdraws one that waits. quiet: nobody wants to hear of its end.
func (a *Agent) Leave(now int64, id string, quiet bool) []Effect {
	a.now = now
	op := a.operation(id)
	if op == nil {
		return nil
	}
	if op.state != leaving {
		op.state, op.asked, op.unheard, op.answered = leaving, "", 0, false
	}
	op.quiet = quiet
	a.dropJoin(id)
	return a.step()
}

// Written says that the write under way was stored, as a revision.
func (a *Agent) Written(now int64, revision uint64) []Effect {
	a.now = now
	w := a.written()
	a.answered = a.requests
	if revision < a.revision { // somebody has told of a later one before
		return a.step()
	}
	before := a.known
	a.known, a.revision = w.Record, revision
	a.known.Stored(revision)
	a.guessed, a.stale, a.doubt, a.noted, a.older, a.heard, a.changed = false, false, false, 0, 0, now, now
	a.tellOf(&before)
	a.learned()
	return a.step()
}

// Conflict says that the write under way was refused, because the record has another revision.
func (a *Agent) Conflict(now int64) []Effect {
	a.now = now
	a.written()
	a.stale = true
	return a.step()
}

// Unknown says that nobody knows what came of the write under way. It may still be stored.
func (a *Agent) Unknown(now int64) []Effect {
	a.now = now
	a.doubt, a.unsettled = true, a.written().Expected
	a.stale = true
	return a.step()
}

// Refused says that the server did not store the write under way and would not store it again, for want of room or rights.
// Who waits and is not in the record yet is sent away; the rest is tried again later.
func (a *Agent) Refused(now int64) []Effect {
	a.now = now
	a.written()
	a.pause = now + a.cfg.Poll
	for _, id := range a.sorted() {
		if op := a.operation(id); op.state == waiting && !a.known.Has(id) {
			a.end(op, Unwritten)
		}
	}
	return a.step()
}

func (a *Agent) written() *Write {
	w := a.writing
	if w == nil {
		panic("agent: a write ended that was not under way")
	}
	a.writing = nil
	return w
}

// olderReads is how many reads in a row must be older than what is known before they are believed: a server that was
// deposed may answer once more, but a record that was purged stays so.
const olderReads = 4

// Read takes the newest version, or what a deposed server took for it; revision 0 when there is none.
func (a *Agent) Read(now int64, revision uint64, r record.Record) []Effect {
	a.now, a.reading = now, false
	if revision < a.revision && !a.guessed && !a.known.Free() {
		if a.older++; a.older < olderReads {
			return a.step()
		}
	}
	a.stale, a.answered = false, a.requests
	a.learn(revision, r)
	return a.step()
}

// ReadFailed says that the read under way gave nothing. It is tried again at the next tick.
func (a *Agent) ReadFailed(now int64) []Effect {
	a.now, a.reading = now, false
	return nil
}

// Unreadable says that what is stored cannot be read. Who waits is sent away; what is held stays so until its session ends.
func (a *Agent) Unreadable(now int64) []Effect {
	a.now, a.reading = now, false
	a.pause = now + a.cfg.Poll
	a.asking, a.joins, a.leaves = nil, nil, nil
	for _, id := range a.sorted() {
		if op := a.operation(id); op.state != held {
			a.end(op, Unwritten)
		}
	}
	return a.step()
}

// Known is the newest version that is known.
func (a *Agent) Known() record.Record { return a.known.Clone() }

// learn takes a version that is not older than the known one, or is to be believed all the same.
func (a *Agent) learn(revision uint64, r record.Record) {
	if revision > a.unsettled {
		a.doubt = false // what was written on unsettled is stored by now, or never will be
	}
	if a.guessed || revision != a.revision {
		a.changed = a.now
	}
	a.known, a.revision, a.guessed, a.older, a.heard = r, revision, false, 0, a.now
	a.learned()
}

// Asked takes what another session asks.
func (a *Agent) Asked(now int64, ask *Ask) []Effect {
	a.now = now
	if a.guessed || ask.Revision > a.revision {
		a.stale = true
	}
	if keeper := a.known.Keeper(); a.passesOn(ask, keeper) {
		a.effect(Effect{Ask: &Ask{From: ask.From, Revision: a.revision, Join: ask.Join, Leave: ask.Leave}, To: keeper})
		return a.step()
	}
	a.takeOver(ask.Join, ask.Leave)
	if !slices.Contains(a.asking, ask.From) {
		a.asking = append(a.asking, ask.From)
	}
	return a.step()
}

// Told takes what another session knows.
func (a *Agent) Told(now int64, tell *Tell) []Effect {
	a.now = now
	if tell.Record != nil && (a.guessed || tell.Revision > a.revision) {
		a.stale = false
		a.learn(tell.Revision, tell.Record.Clone())
	}
	if tell.Revision == a.revision {
		a.heard = now
	}
	keeper := tell.Keeper
	if keeper == "" {
		keeper = a.known.Keeper()
	}
	for _, n := range tell.Noted {
		if op := a.operation(n.ID); op != nil && op.state == waiting && tell.Revision >= a.revision && !a.known.Has(n.ID) {
			op.asked, op.askedAt, op.unheard, op.noted, op.notedAt = keeper, now, 0, true, tell.Revision
			a.place(op, n.Ahead)
		}
	}
	for _, refused := range tell.Refused {
		if op := a.operation(refused.ID); op != nil && op.state == waiting && !a.known.Has(refused.ID) {
			a.end(op, refused.Why)
		}
	}
	for _, op := range a.operations {
		switch {
		case op.asked != tell.From || tell.Revision < a.revision:
		case tell.From == keeper:
			op.unheard, op.answered = 0, true
		case !op.noted:
			op.asked = "" // it was heard, and is to be asked again should it be the keeper again
		}
	}
	a.takeOver(tell.Join, tell.Leave)
	return a.step()
}

// Died says that a session has ended, for certain.
func (a *Agent) Died(now int64, session string) []Effect {
	a.now = now
	a.dead[session] = true
	if keeper := a.known.Keeper(); keeper != "" && keeper != a.cfg.Self && !a.dead[keeper] { // it watches nobody while nobody waits
		if gone := a.gone(); len(gone) > 0 {
			a.effect(Effect{Ask: &Ask{From: a.cfg.Self, Revision: a.revision, Leave: gone}, To: keeper})
		}
	}
	return a.step()
}

// Tick says that time has passed.
func (a *Agent) Tick(now int64) []Effect {
	a.now = now
	return a.step()
}

// learned makes local operations what the known version says of them.
func (a *Agent) learned() {
	for _, op := range slices.Clone(a.operations) {
		holder := a.known.Holder(op.ID)
		ahead := a.known.Ahead(op.ID)
		switch {
		case op.state == waiting && holder != nil:
			op.state, op.token = held, holder.Token
			a.dropJoin(op.ID)
			a.effect(Effect{Granted: &Granted{op.ID, holder.Token}})
		case op.state == waiting && ahead >= 0:
			a.dropJoin(op.ID)
			op.asked, op.askedAt, op.unheard = a.known.Keeper(), a.now, 0
			a.place(op, ahead)
		case op.state == waiting && !slices.ContainsFunc(a.joins, func(o record.Operation) bool { return o.ID == op.ID }):
			a.joins = append(a.joins, op.Operation) // it was granted, and taken out by force, before it knew
			op.asked, op.noted = "", false
		case op.state == held && (holder == nil || holder.Token != op.token): // or let in again, because an old message asked for it
			why := Gone
			if a.forced(op) {
				why = Forced
			}
			a.end(op, why)
		}
	}
	for session := range a.dead {
		if !slices.ContainsFunc(a.known.Holders, func(h record.Holder) bool { return h.Session() == session }) &&
			!slices.ContainsFunc(a.known.Queue, func(op record.Operation) bool { return op.Session() == session }) {
			delete(a.dead, session)
		}
	}
}

// forced tells whether an operation's grant was taken back by force.
func (a *Agent) forced(op *operation) bool {
	return slices.Contains(a.known.Forced, record.Grant{ID: op.ID, Token: op.token})
}

func (a *Agent) place(op *operation, ahead int) {
	if op.ahead != ahead {
		op.ahead = ahead
		a.effect(Effect{Waiting: &Noted{op.ID, ahead}})
	}
}

func (a *Agent) end(op *operation, why Reason) {
	a.operations = slices.DeleteFunc(a.operations, func(o *operation) bool { return o == op })
	a.dropJoin(op.ID)
	if !op.quiet {
		a.effect(Effect{Ended: &Ended{op.ID, why, a.known.Clone()}})
	}
}

func (a *Agent) dropJoin(id string) {
	a.joins = slices.DeleteFunc(a.joins, func(op record.Operation) bool { return op.ID == id })
}

func (a *Agent) dropForeignJoin(id string) {
	if record.Session(id) != a.cfg.Self {
		a.dropJoin(id)
	}
}

func (a *Agent) effect(e Effect) { a.effects = append(a.effects, e) }

// operation is a local one; nil when there is none of that id.
func (a *Agent) operation(id string) *operation {
	for _, op := range a.operations {
		if op.ID == id {
			return op
		}
	}
	return nil
}
