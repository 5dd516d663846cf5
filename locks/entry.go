// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/locks/internal/agent"
	"github.com/assent-tx/assent/locks/internal/record"
)

// The pace of an agent.
const (
	// answerTime is how long a keeper has to answer.
	answerTime = 100 * time.Millisecond
	// persistTime is how long those who wait are known to the keeper alone.
	persistTime = 100 * time.Millisecond
	// patience is how often a keeper is asked in vain.
	patience = 3
	// tickTime is the time between looks at the clock, while there is something to wait for.
	tickTime = 50 * time.Millisecond
	// unprovenPause is how long a replicated stream is given to end the write that it has under way.
	unprovenPause = 2 * time.Millisecond
	// maxEntries is how many keys are remembered that are not in use.
	maxEntries = 1024
)

// entry is the shell round the agent of one key.
type entry struct {
	s    *Session
	kind Kind
	key  string
	at   place

	mu       sync.Mutex
	agent    *agent.Agent
	calls    map[string]*call // of local operations, by id
	watching map[string]bool
	place    int        // how many wait before this session, as those who watch were told
	failure  error      // why the last write or read came to nothing
	closed   bool       // forgotten, or the session is over
	together *gathering // where writes go meanwhile
}

// call is a local operation from the outside.
type call struct {
	granted chan *Lock
	ended   chan agent.Ended
	places  chan int // the newest place in the queue
	lock    *Lock    // once it is granted
	shared  bool
}

// entry gives the entry of a key.
func (s *Session) entry(kind Kind, key string) *entry {
	name := string(kind) + "." + key
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[name]
	if e == nil {
		s.makeRoom()
		e = &entry{s: s, kind: kind, key: key, at: s.bucket.place(string(kind), key), calls: make(map[string]*call), watching: make(map[string]bool)}
		e.agent = agent.New(agent.Config{
			Self: s.id, Epoch: s.begun.UnixMilli(), Poll: ms(s.pollTime()), Answer: ms(answerTime), Persist: ms(persistTime), Patience: patience,
		})
		e.closed = s.err != nil
		s.entries[name] = e
	}
	return e
}

// makeRoom forgets some keys that are not in use, when there are many. The session's mutex is held.
func (s *Session) makeRoom() {
	if len(s.entries) < maxEntries {
		return
	}
	looks := 64
	for name, e := range s.entries {
		if looks--; looks < 0 {
			return
		}
		if !e.mu.TryLock() { // in use
			continue
		}
		if len(e.calls) == 0 && e.agent.Idle() && !s.busy[e] {
			e.closed = true
			delete(s.entries, name)
		}
		e.mu.Unlock()
	}
}

// do lets the agent have an event, and carries out its effects. It tells false when the entry is not in use any more.
func (e *entry) do(event func(a *agent.Agent, now int64) []agent.Effect) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.carryOut(event(e.agent, e.s.now()))
	e.together = nil
	e.attend()
	return true
}

// doTogether is do, with what is to be written left to a gathering, if there is one.
func (e *entry) doTogether(together *gathering, event func(a *agent.Agent, now int64) []agent.Effect) bool {
	return e.do(func(a *agent.Agent, now int64) []agent.Effect {
		e.together = together
		return event(a, now)
	})
}

func (e *entry) carryOut(effects []agent.Effect) {
	for i := range effects {
		effect := &effects[i]
		switch {
		case effect.Write != nil && e.together != nil:
			e.together.add(e, effect.Write)
		case effect.Write != nil:
			e.s.running.Go(func() { e.write(effect.Write) })
		case effect.Read:
			e.s.running.Go(e.read)
		case effect.Ask != nil, effect.Tell != nil:
			e.send(effect)
		case effect.Granted != nil:
			e.granted(effect.Granted)
		case effect.Ended != nil:
			e.ended(effect.Ended)
		case effect.Waiting != nil:
			e.waiting(effect.Waiting)
		}
	}
}

// write writes a record. It does not wait for a late answer, as those do that read: then what came of the write is not known, and the
// agent reads next, which tells it, and also what somebody else has written meanwhile.
func (e *entry) write(w *agent.Write) {
	ctx, cancel := context.WithTimeout(e.s.ctx, e.s.request())
	defer cancel()
	revision, unproven, err := e.s.bucket.put(ctx, e.at, &w.Record, w.Expected)
	if unproven {
		e.s.pause(unprovenPause)
	}
	e.wrote(revision, err)
}

// wrote tells the agent what came of its write.
func (e *entry) wrote(revision uint64, err error) {
	if errors.Is(err, errRemade) { // what it took there is freed by those who want it: this session is not in that bucket
		e.s.end(err)
		return
	}
	e.do(func(a *agent.Agent, now int64) []agent.Effect {
		switch {
		case err == nil:
			return a.Written(now, revision)
		case errors.Is(err, errConflict):
			return a.Conflict(now)
		case errors.Is(err, errUnknown):
			return a.Unknown(now)
		default:
			e.failure = err
			return a.Refused(now)
		}
	})
}

func (e *entry) read() {
	r, revision, err := e.s.get(e.s.ctx, e.at)
	e.do(func(a *agent.Agent, now int64) []agent.Effect {
		switch {
		case err == nil:
			return a.Read(now, revision, r)
		case errors.Is(err, ErrRecord):
			e.failure = err
			return a.Unreadable(now)
		default:
			return a.ReadFailed(now)
		}
	})
}

// get reads the record of a key, and waits for the answer.
func (s *Session) get(ctx context.Context, at place) (record.Record, uint64, error) {
	last, err := s.lookAt(ctx, at)
	if err != nil {
		return record.Record{}, 0, err
	}
	return decode(at, &last)
}

// pause waits, unless the session ends.
func (s *Session) pause(d time.Duration) {
	select {
	case <-s.ctx.Done():
	case <-time.After(d):
	}
}

// message is what sessions send each other about a key.
type message struct {
	Kind Kind        `json:"kind"`
	Key  string      `json:"key"`
	Ask  *agent.Ask  `json:"ask,omitempty"`
	Tell *agent.Tell `json:"tell,omitempty"`
}

func (e *entry) send(effect *agent.Effect) {
	data, err := json.Marshal(&message{e.kind, e.key, effect.Ask, effect.Tell})
	if err != nil {
		panic(err) // strings and numbers only
	}
	if err := e.s.bucket.nc.Publish(e.s.bucket.inbox(effect.To), data); err != nil {
		e.s.log.WithError(err).Debug("a message was not sent; the record tells the same")
	}
}

// decodeMessage reads a message, and refuses one that names what cannot be a key or an operation.
func decodeMessage(data []byte) (m message, err error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return m, err
	}
	if err := CheckKey(m.Key); err != nil {
		return m, err
	}
	switch {
	case m.Kind != KindLock && m.Kind != KindSemaphore && m.Kind != KindElection:
		return m, fmt.Errorf("locks: %w: kind %.20q", ErrInvalid, m.Kind)
	case m.Ask != nil && m.Tell != nil || m.Ask == nil && m.Tell == nil:
		return m, fmt.Errorf("locks: %w: want an ask or a tell", ErrInvalid)
	case m.Ask != nil:
		return m, errors.Join(checkSession(m.Ask.From), checkOperations(m.Ask.Join), checkIDs(m.Ask.Leave))
	case m.Tell.Record != nil:
		err = checkRecord(m.Tell.Record)
	}
	if m.Tell.From != "" { // it is who released by force otherwise
		err = errors.Join(err, checkSession(m.Tell.From))
	}
	if m.Tell.Keeper != "" {
		err = errors.Join(err, checkSession(m.Tell.Keeper))
	}
	return m, errors.Join(err, checkOperations(m.Tell.Join), checkIDs(m.Tell.Leave))
}

// sessionID is what newID makes.
var sessionID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// checkSession refuses what cannot be a session: ids become subjects.
func checkSession(id string) error {
	if !sessionID.MatchString(id) {
		return fmt.Errorf("locks: %w: the session %.40q", ErrInvalid, id)
	}
	return nil
}

func checkIDs(operations []string) error {
	for _, id := range operations {
		if err := checkSession(record.Session(id)); err != nil {
			return err
		}
	}
	return nil
}

func checkOperations(ops []record.Operation) error {
	for i := range ops {
		if err := checkSession(ops[i].Session()); err != nil {
			return err
		}
	}
	return nil
}

func checkRecord(r *record.Record) error {
	for i := range r.Holders {
		if err := checkSession(r.Holders[i].Session()); err != nil {
			return err
		}
	}
	return checkOperations(r.Queue)
}

// hear takes a message of another session.
func (s *Session) hear(msg *nats.Msg) {
	m, err := decodeMessage(msg.Data)
	if err != nil {
		s.log.WithError(err).WithField("subject", msg.Subject).Debug("a malformed message was ignored")
		return
	}
	for s.Err() == nil {
		if s.entry(m.Kind, m.Key).do(func(a *agent.Agent, now int64) []agent.Effect {
			if m.Ask != nil {
				return a.Asked(now, m.Ask)
			}
			return a.Told(now, m.Tell)
		}) {
			return
		}
	}
}

func (e *entry) granted(g *agent.Granted) {
	c := e.calls[g.ID]
	if c == nil {
		return // withdrawn: the agent gives it back
	}
	c.lock = &Lock{
		e: e, id: g.ID, token: e.s.bucket.token(e.at, g.Token), shared: c.shared, ended: c.ended, done: make(chan struct{}),
	}
	c.granted <- c.lock
}

func (e *entry) ended(end *agent.Ended) {
	c := e.calls[end.ID]
	if c == nil {
		return
	}
	delete(e.calls, end.ID)
	if c.lock != nil && end.Why != "" {
		c.lock.lose(end.Why)
	}
	c.ended <- *end
}

func (e *entry) waiting(n *agent.Noted) {
	c := e.calls[n.ID]
	if c == nil {
		return
	}
	select { // only the newest place is of interest
	case <-c.places:
	default:
	}
	c.places <- n.Ahead
}

// lose ends everything, because the session is over.
func (e *entry) lose(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, c := range e.calls {
		if c.lock != nil {
			c.lock.lost(err)
		}
	}
	clear(e.calls)
}

// close withdraws what waits, and gives what is held.
func (e *entry) close() (held []*Lock) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.calls {
		if c.lock != nil {
			held = append(held, c.lock)
			continue
		}
		delete(e.calls, id)
		e.carryOut(e.agent.Leave(e.s.now(), id, true))
	}
	e.attend()
	return held
}

// attend sees to it that the agent hears of the time and of deaths, as far as it cares.
func (e *entry) attend() {
	e.s.attend(e, e.agent.Busy())
	sessions := e.agent.Watch()
	if place := e.agent.Place(); place != e.place {
		e.place = place
		e.s.moved(e, place)
	}
	for _, w := range sessions { // as long as the key changes hands, nobody needs to look at those who pass it on
		if !e.watching[w.Session] && e.agent.Still() {
			e.watching[w.Session] = true
			e.s.watch(e, w.Session, time.Duration(w.TTL)*time.Millisecond, e.place)
		}
	}
	if len(e.watching) == 0 {
		return
	}
	wanted := make(map[string]bool, len(sessions))
	for _, w := range sessions {
		wanted[w.Session] = true
	}
	for session := range e.watching {
		if !wanted[session] {
			delete(e.watching, session)
			e.s.unwatch(e, session)
		}
	}
}

func (s *Session) attend(e *entry, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[e] == busy {
		return
	}
	if !busy {
		delete(s.busy, e)
		return
	}
	s.busy[e] = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tick tells the time to those that want to know it, and sleeps when there is none.
func (s *Session) tick() {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	var busy []*entry
	for {
		s.mu.Lock()
		busy = busy[:0]
		for e := range s.busy {
			busy = append(busy, e)
		}
		s.mu.Unlock()
		if len(busy) == 0 {
			select {
			case <-s.ctx.Done():
				return
			case <-s.wake:
			}
		}
		for _, e := range busy {
			e.do(func(a *agent.Agent, now int64) []agent.Effect { return a.Tick(now) })
		}
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// known is the newest version of the record that is known here.
func (e *entry) known() record.Record {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.agent.Known()
}
