// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
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
	effects []Effect
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
	a.operations = append(a.operations, &operation{Operation: op, ahead: -1, fresh: true})
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
	a.stale = false
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

// passesOn tells whether an ask goes on to the session that is known to be the keeper by now, so that who asks does not run
// after a key that changes hands fast. Its revision grows on the way, so the way ends.
func (a *Agent) passesOn(ask *Ask, keeper string) bool {
	return a.writing == nil && !a.stale && ask.Revision < a.revision && len(ask.Join)+len(ask.Leave) > 0 &&
		keeper != "" && keeper != a.cfg.Self && keeper != ask.From
}

// takeOver takes what others want.
func (a *Agent) takeOver(joins []record.Operation, leaves []string) {
	for _, op := range joins {
		if op.Session() != a.cfg.Self && !slices.Contains(a.leaves, op.ID) && !slices.ContainsFunc(a.joins, func(o record.Operation) bool { return o.ID == op.ID }) {
			a.joins = append(a.joins, op)
		}
	}
	for _, id := range leaves {
		if record.Session(id) != a.cfg.Self && !slices.Contains(a.leaves, id) {
			a.leaves = append(a.leaves, id)
		}
		a.dropForeignJoin(id)
	}
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
	return a.step()
}

// Tick says that time has passed.
func (a *Agent) Tick(now int64) []Effect {
	a.now = now
	return a.step()
}

// Idle tells whether the agent has nothing to do and nothing to remember but Known.
func (a *Agent) Idle() bool {
	return len(a.operations) == 0 && a.writing == nil && !a.reading && len(a.asking) == 0 && len(a.joins) == 0 && !a.doubt
}

// Busy tells whether the agent wants to be told of the time: something is waited for, or to be written or answered.
func (a *Agent) Busy() bool {
	return a.wanting() || a.noted != 0 || len(a.asking) > 0 || len(a.joins) > 0
}

// Watched is a session whose death matters, and its TTL in ms.
type Watched struct {
	Session string
	TTL     int64
}

// watched is how many of those who wait are watched.
const watched = 8

// Still tells whether nothing has changed for so long that somebody may be dead.
func (a *Agent) Still() bool { return a.now-a.changed >= a.cfg.Poll }

// Watch gives the sessions whose death matters: those that are in the way of somebody who waits, and those next in the
// queue, so that several that died together are found dead together.
func (a *Agent) Watch() []Watched {
	if a.guessed || len(a.known.Queue) == 0 && len(a.joins) == 0 && !a.wanting() {
		return nil
	}
	var sessions []Watched
	add := func(op *record.Operation) {
		session := op.Session()
		if session != a.cfg.Self && !a.dead[session] && !slices.ContainsFunc(sessions, func(w Watched) bool { return w.Session == session }) {
			sessions = append(sessions, Watched{session, op.TTL})
		}
	}
	for i := range a.known.Holders {
		add(&a.known.Holders[i].Operation)
	}
	for i := range a.known.Queue[:min(watched, len(a.known.Queue))] {
		add(&a.known.Queue[i])
	}
	return sessions
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

// step decides what to do, by the state alone: so it does not matter which event came, or came twice, or did not come.
func (a *Agent) step() []Effect {
	if a.writing == nil && !a.reading && a.now >= a.pause {
		a.decide()
	}
	effects := a.effects
	a.effects = nil
	return effects
}

func (a *Agent) decide() {
	if a.stale || a.guessed && !a.wanting() {
		if a.wanting() || len(a.asking) > 0 {
			a.read()
		} else { // nothing is wanted here, and whoever wants something asks again
			a.joins, a.leaves = nil, nil
		}
		return
	}
	if len(a.joins)+len(a.asking) == 0 && !a.mayWrite() {
		a.settle(nil)
		a.ask()
		a.poll()
		return
	}
	want, refused := a.wanted()
	if a.mayWrite() && a.hurries(&want) {
		a.write(want)
		return
	}
	if a.guessed { // nothing to write on a guess
		a.read()
		return
	}
	a.settle(refused)
	a.answer(&want, refused)
	a.ask()
	a.poll()
}

// poll reads the record when something is waited for and nothing was heard. Who is next in the queue also makes the keeper
// look, because it may not know that it holds: it may have missed that it was granted what it does not want any more.
func (a *Agent) poll() {
	for _, op := range a.operations {
		if op.state == held || a.now-a.heard < a.cfg.Poll && (op.unheard == 0 || a.now-a.heard < a.cfg.Answer) {
			continue
		}
		if keeper := a.known.Keeper(); a.known.Ahead(op.ID) == 0 && keeper != a.cfg.Self {
			a.effect(Effect{Ask: &Ask{From: a.cfg.Self, Revision: a.revision}, To: keeper})
		}
		a.read()
		return
	}
}

// wanting tells whether a local operation wants something.
func (a *Agent) wanting() bool {
	for _, op := range a.operations {
		if op.state != held {
			return true
		}
	}
	return a.doubt
}

func (a *Agent) read() {
	a.reading = true
	a.effect(Effect{Read: true})
}

func (a *Agent) write(r record.Record) {
	r.Foreign = false
	r.Granted(a.cfg.Epoch + a.now)
	a.writing = &Write{Expected: a.revision, Record: r}
	a.effect(Effect{Write: &Write{Expected: a.revision, Record: r.Clone()}})
}

// refusal is an operation that was not taken.
type refusal struct {
	record.Operation
	why Reason
}

// wanted is the known version with everything done to it that is known to be wanted.
func (a *Agent) wanted() (record.Record, []refusal) {
	r := a.known.Clone()
	for session := range a.dead {
		r.Evict(session)
	}
	for _, id := range a.strays(&r) {
		r.Leave(id)
	}
	for _, id := range a.leaves {
		r.Leave(id)
	}
	var refused []refusal
	keeper := a.known.Keeper() == a.cfg.Self
	for _, op := range a.joins {
		if a.dead[op.Session()] || !keeper && op.Session() != a.cfg.Self { // others are the keeper's business
			continue
		}
		switch err := r.Join(op); {
		case errors.Is(err, record.ErrBusy):
			refused = append(refused, refusal{op, Busy})
		case errors.Is(err, record.ErrFull):
			refused = append(refused, refusal{op, Full})
		case errors.Is(err, record.ErrPermits):
			refused = append(refused, refusal{op, Permits})
		}
	}
	return r, refused
}

// strays are operations of this session in a record that nobody here wants there: they leave, or they are of a call that
// ended without knowing that its write was stored.
func (a *Agent) strays(r *record.Record) (ids []string) {
	stray := func(id string) bool {
		op := a.operation(id)
		return record.Session(id) == a.cfg.Self && (op == nil || op.state == leaving)
	}
	for i := range r.Holders {
		if stray(r.Holders[i].ID) {
			ids = append(ids, r.Holders[i].ID)
		}
	}
	for i := range r.Queue {
		if stray(r.Queue[i].ID) {
			ids = append(ids, r.Queue[i].ID)
		}
	}
	return ids
}

// mayWrite tells whether this session writes the record: nobody holds the key, or this session is the keeper, or the keeper
// is dead, or it does not answer.
func (a *Agent) mayWrite() bool {
	keeper := a.known.Keeper()
	if keeper == "" || keeper == a.cfg.Self || a.dead[keeper] || a.doubt {
		return true
	}
	for _, op := range a.operations {
		if op.unheard >= a.cfg.Patience {
			return true
		}
	}
	return false
}

// hurries tells whether a version is to be written now.
func (a *Agent) hurries(want *record.Record) bool {
	switch {
	case a.doubt && a.revision <= a.unsettled:
		return true // what is written now, or what was written before: one of them will be stored
	case !want.SameHolders(&a.known):
		return true
	case want.Same(&a.known):
		a.noted = 0
		return false
	case a.known.Keeper() != a.cfg.Self:
		return true // an operation that the keeper did not hear of
	}
	if a.noted == 0 {
		a.noted = a.now
	}
	return a.now-a.noted >= a.cfg.Persist
}

// tellOf tells those whom a write concerns: who came in, who went out, and who has to write from now on.
func (a *Agent) tellOf(before *record.Record) {
	var sessions []string
	concern := func(session string) {
		if session != a.cfg.Self && !slices.Contains(sessions, session) {
			sessions = append(sessions, session)
		}
	}
	for i := range a.known.Holders {
		if before.Holder(a.known.Holders[i].ID) == nil {
			concern(a.known.Holders[i].Session())
		}
	}
	for i := range before.Holders {
		if a.known.Holder(before.Holders[i].ID) == nil {
			concern(before.Holders[i].Session())
		}
	}
	keeper := a.known.Keeper()
	if keeper != "" && keeper != before.Keeper() {
		concern(keeper)
	}
	a.leaves = slices.DeleteFunc(a.leaves, func(id string) bool {
		if !a.known.Has(id) && !slices.Contains(a.asking, record.Session(id)) {
			concern(record.Session(id))
		}
		return !a.known.Has(id)
	})
	a.joins = slices.DeleteFunc(a.joins, func(op record.Operation) bool { return a.known.Has(op.ID) })
	handOver := keeper != "" && keeper != a.cfg.Self
	for _, session := range sessions {
		tell := a.tell()
		if handOver && session == keeper { // what came too late for the write goes with the key
			tell.Join, tell.Leave = slices.Clone(a.joins), slices.Clone(a.leaves)
		}
		a.effect(Effect{Tell: tell, To: session})
	}
	if handOver && slices.Contains(sessions, keeper) {
		a.handedOver(keeper)
	}
}

// handedOver forgets what the new keeper was told to take over, and tells those whom it is about.
func (a *Agent) handedOver(keeper string) {
	for i := range a.joins {
		session := a.joins[i].Session()
		if op := a.operation(a.joins[i].ID); op != nil {
			op.asked, op.askedAt, op.noted, op.notedAt, op.fresh = keeper, a.now, true, a.revision, false
			continue
		}
		noted := []Noted{{a.joins[i].ID, len(a.known.Queue) + i}}
		a.effect(Effect{Tell: &Tell{From: a.cfg.Self, Revision: a.revision, Keeper: keeper, Noted: noted}, To: session})
		a.asking = slices.DeleteFunc(a.asking, func(s string) bool { return s == session })
	}
	a.joins = slices.DeleteFunc(a.joins, func(op record.Operation) bool { return op.Session() != a.cfg.Self })
	a.leaves = nil
}

func (a *Agent) tell() *Tell {
	known := a.known.Clone()
	return &Tell{From: a.cfg.Self, Revision: a.revision, Record: &known}
}

// settle ends local operations that are out of the record for good, and those that are not taken.
func (a *Agent) settle(refused []refusal) {
	keeper := a.known.Keeper()
	for _, r := range refused {
		if op := a.operation(r.ID); op != nil && op.state == waiting {
			a.end(op, r.why)
			if keeper != "" && keeper != a.cfg.Self { // should it not know that it holds, it learns so
				a.effect(Effect{Ask: &Ask{From: a.cfg.Self, Revision: a.revision}, To: keeper})
			}
		}
	}
	for _, op := range slices.Clone(a.operations) {
		if op.state != leaving || a.known.Has(op.ID) {
			continue
		}
		switch {
		case a.forced(op):
			a.end(op, Forced)
		case a.known.Foreign && op.token != 0:
			a.end(op, Gone)
		case a.doubt:
		case op.token != 0, keeper == "", keeper == a.cfg.Self, op.answered, op.fresh:
			a.end(op, "")
		}
	}
}

// answer tells those who asked how things stand.
func (a *Agent) answer(want *record.Record, refused []refusal) {
	keeper := a.known.Keeper() == a.cfg.Self
	for _, session := range a.asking {
		tell := &Tell{From: a.cfg.Self, Revision: a.revision}
		if keeper {
			a.note(tell, session, want, refused)
		}
		if len(tell.Noted) == 0 || len(tell.Refused) > 0 {
			tell = a.tell()
			if keeper {
				a.note(tell, session, want, refused)
			}
		} else {
			tell.Keeper = a.cfg.Self
		}
		a.effect(Effect{Tell: tell, To: session})
	}
	a.asking = nil
	a.joins = slices.DeleteFunc(a.joins, func(op record.Operation) bool {
		if op.Session() == a.cfg.Self {
			return false
		}
		return !keeper || !want.Has(op.ID) // not ours to take, or refused
	})
	a.leaves = slices.DeleteFunc(a.leaves, func(id string) bool { return !keeper || !a.known.Has(id) })
}

// note tells a session which of its operations wait though the record does not have them, and which are not taken.
func (a *Agent) note(tell *Tell, session string, want *record.Record, refused []refusal) {
	for i := range want.Queue {
		if id := want.Queue[i].ID; record.Session(id) == session && !a.known.Has(id) {
			tell.Noted = append(tell.Noted, Noted{id, i})
		}
	}
	for i := range refused {
		if refused[i].Session() == session {
			tell.Refused = append(tell.Refused, Refused{refused[i].ID, refused[i].why})
		}
	}
}

// ask asks the keeper for what local operations want and the record has not.
func (a *Agent) ask() {
	keeper := a.known.Keeper()
	if keeper == "" || keeper == a.cfg.Self {
		return
	}
	ask := &Ask{From: a.cfg.Self, Revision: a.revision}
	for _, id := range a.sorted() {
		op := a.operation(id)
		switch {
		case op.state == held, op.state == waiting && a.known.Has(id):
			continue
		case op.state == waiting && op.noted && op.notedAt >= a.revision && a.now-op.askedAt < a.cfg.Poll:
			continue // its keeper may be one that is not known here yet
		case op.asked == keeper && a.now-op.askedAt < a.patience(op):
			continue
		case op.asked == keeper && !op.noted && !op.answered:
			op.unheard++
		case op.asked == keeper:
			op.noted = false
		default:
			op.unheard, op.noted = 0, false
		}
		op.asked, op.askedAt, op.answered, op.fresh = keeper, a.now, false, false
		if op.state == leaving {
			ask.Leave = append(ask.Leave, id)
		} else {
			ask.Join = append(ask.Join, op.Operation)
		}
	}
	if len(ask.Join)+len(ask.Leave) > 0 {
		a.effect(Effect{Ask: ask, To: keeper})
	}
}

// patience is how long nothing more is asked for an operation.
func (a *Agent) patience(op *operation) int64 {
	if op.noted || op.answered {
		return a.cfg.Poll
	}
	return a.cfg.Answer
}

// sorted are the local operations' ids, those first that are in no record yet, each in the order in which they came.
func (a *Agent) sorted() []string {
	ids := make([]string, 0, len(a.operations))
	for _, op := range a.joins {
		if a.operation(op.ID) != nil {
			ids = append(ids, op.ID)
		}
	}
	for _, op := range a.operations {
		if !slices.Contains(ids, op.ID) {
			ids = append(ids, op.ID)
		}
	}
	return ids
}

// operation is a local one; nil when there is none of that id.
func (a *Agent) operation(id string) *operation {
	for _, op := range a.operations {
		if op.ID == id {
			return op
		}
	}
	return nil
}
