// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"fmt"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/keylock"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// locking is where the keys of branches are locked, between Branches and the handler: the participant's mutex guards it.
// docs/isolation.md says what that is good for. What a crash leaves behind, line by line:
//
//	InDoubt         The store holds what it held, with the keys; the next process begins in the same way.
//	Hold            What is prepared has its keys, before any prepare is taken. The table is only in memory: a crash forgets it.
//	prepare taken   Request. Not granted: nothing of the branch is anywhere but here, and its message is not acknowledged.
//	turned away     Config.NoWait: a no is cast in place of waiting. A crash before the log has it: the prepare comes again. A crash after:
//	                the transaction is aborted, and the rollback that is owed for a held no finds nothing.
//	granted         The handler is asked. A crash before: as above. A crash after it prepared: the store has the branch and its
//	                keys, with a vote in the log or without; the next process holds them, and repeats the vote.
//	vote stored     A refusal releases. A yes keeps the keys until its outcome is applied.
//	wounded         A no is cast after the yes. A crash before the log has it: the yes stands, and the next process repeats that.
//	                A crash after: the log has decided by it, or had before; the next process hears which.
//	outcome applied Release. A crash before: the store has nothing prepared any more, and the table is gone.
type locking struct {
	table *keylock.Table
	// isolates: the handler says after a restart what it holds prepared. Otherwise it gets no branch with keys.
	isolates bool
	// lonely: the store locks no keys itself; relies: and keys were locked here, and nobody else was seen so far.
	lonely, relies bool
	scratch        []keylock.Key
	// granted are steps that wait for a handler's place, which whoever brought the grant must not wait for.
	granted []protocol.Step
	signal  chan struct{}
	stats   KeyStats
}

func (l *locking) init(cfg *Config) {
	_, l.isolates = cfg.store().(InDoubt)
	store, ok := cfg.store().(LocksKeys)
	l.lonely = !ok || !store.LocksKeys()
	l.signal = make(chan struct{}, 1)
	grace := cfg.Wound.Milliseconds()
	if cfg.Wound < 0 || cfg.NoWait {
		grace = -1
	}
	l.table = keylock.New(keylock.Config{Grace: grace})
}

// LocksKeys is an optional interface of a Handler or BatchHandler whose store locks the keys of its branches itself, from
// Prepare until the outcome, so that several instances of the participant exclude each other, too. Without it an
// instance that locks keys and sees that there is another one says so, as an error, in its log.
type LocksKeys interface {
	LocksKeys() bool
}

// alone tells whether this instance relies on being the only one: it does so since it locked a key, if its store does not lock
// any. It says so once.
func (l *locking) alone() bool {
	was := l.relies
	l.relies = false
	return was
}

// lockKeys goes between branches that are to be prepared and the handler: who has to wait for keys is not for it yet. It
// releases what is over, and adds the steps of those who are granted by that. mu is held.
func (p *Participant) lockKeys(steps []protocol.Step) []protocol.Step {
	own := len(steps)
	for i := 0; ; i++ {
		if effects := p.locks.table.Take(); len(effects) > 0 {
			p.follow(effects)
			steps = append(steps, p.branches.Take()...)
		}
		if i == len(steps) {
			return steps
		}
		switch s := &steps[i]; s.Kind {
		case protocol.AskPrepare:
			if len(record(s).branch.keys) > 0 && !p.locked(s) {
				s.Kind = notClaimed
				steps = append(steps, p.branches.Take()...)
			} else if i >= own {
				p.later(s)
			}
		case protocol.AskFinish:
			p.locks.table.Cancel(steps[i].Tx)
		case protocol.CastVote:
			if steps[i].Vote == messages.VoteNo {
				p.locks.table.Cancel(steps[i].Tx)
			}
		case protocol.LeaveBranch:
			p.locks.table.Release(steps[i].Tx)
			if p.cfg.Ownership != nil {
				p.cfg.Ownership.Settle(steps[i].Tx)
			}
		default:
		}
	}
}

// locked requests the keys of a branch. If they are not to be had, the branch is told.
func (p *Participant) locked(s *protocol.Step) bool {
	b, now := record(s).branch, p.clock.Now()
	if !p.locks.isolates {
		p.branches.Prepared(s.Tx, messages.VoteNo, p.notIsolating(), now)
		return false
	}
	keys := p.locks.scratch[:0]
	for _, key := range b.keys {
		keys = append(keys, keylock.Key(key))
	}
	p.locks.scratch = keys
	if p.locks.lonely {
		p.locks.lonely, p.locks.relies = false, true
	}
	if p.locks.table.Request(keylock.Age{Since: b.since, ID: b.Tx}, keys, weightOf(b), now) {
		p.branches.Guard(s.Tx)
		return true
	}
	p.notGranted(s.Tx)
	return false
}

// notGranted has a branch wait for its keys, or turns it away: then it leaves the table at once, so that those who come next meet holders
// only. That no is held, as any that was cast without asking the handler: another instance may have prepared the branch.
func (p *Participant) notGranted(tx messages.ID) {
	reason := p.waitsFor(tx)
	p.branches.Wait(tx, reason)
	if !p.cfg.NoWait {
		p.locks.stats.Waited++
		return
	}
	p.locks.stats.TurnedAway++
	p.locks.table.Cancel(tx)
	p.branches.Wound(tx, reason)
}

// waitsFor says what a branch waits for, in case that it does so in vain.
func (p *Participant) waitsFor(tx messages.ID) string {
	key, by, _ := p.locks.table.Waits(tx)
	if key == "" {
		return fmt.Sprintf("what %s holds prepared from before its restart, with keys that are not known, is not settled yet", p.cfg.Name)
	}
	return fmt.Sprintf("key %.200q: transaction %s is before it", key, by)
}

func weightOf(b *Branch) int {
	weight := 512 // what is kept of it beside its payloads
	for i := range b.Operations {
		weight += len(b.Operations[i].Payload) + 256
	}
	for i := range b.keys {
		weight += len(b.keys[i].Name) + 128
	}
	return weight
}

// follow does what the table says.
func (p *Participant) follow(effects []keylock.Effect) {
	for _, e := range effects {
		switch e.Kind {
		case keylock.Granted:
			if !p.branches.Granted(e.ID, p.clock.Now()) {
				p.locks.table.Release(e.ID)
			}
		case keylock.Crowded:
			p.locks.stats.Crowded++
			p.branches.Wound(e.ID, "too many transactions wait for keys here, and it is the youngest")
		case keylock.Wound:
			p.locks.stats.Wounded++
			p.branches.Wound(e.ID, fmt.Sprintf("key %.200q: it gives way to the older transaction %s", e.Key, e.By))
		}
	}
}

// later has a granted branch's handler asked in another goroutine.
func (p *Participant) later(s *protocol.Step) {
	p.locks.granted = append(p.locks.granted, *s)
	s.Kind = notClaimed
	select {
	case p.locks.signal <- struct{}{}:
	default:
	}
}

// askGranted asks the handler for what was granted, until ctx ends.
func (p *Participant) askGranted(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.locks.signal:
		}
		p.mu.Lock()
		steps := p.locks.granted
		p.locks.granted = nil
		p.mu.Unlock()
		crash.Here("participant.keys.granted")
		p.claim(steps)
		for i := range steps {
			p.perform(&steps[i])
		}
	}
}

// hold locks the keys of a branch that the store held prepared at the start. mu is held.
func (p *Participant) hold(b *Prepared, now int64) {
	if len(b.Keys) == 0 && !b.AllKeys {
		return
	}
	keys := make([]keylock.Key, len(b.Keys))
	for i, key := range b.Keys {
		keys[i] = keylock.Key(key)
	}
	p.branches.Guard(b.Tx)
	p.locks.table.Hold(b.Tx, keys, b.AllKeys, now)
}

func (p *Participant) notIsolating() string {
	if !p.locks.stats.refuses {
		p.locks.stats.refuses = true
		p.log.Errorf("branches with keys are refused: %T does not implement participant.InDoubt, so after a restart nobody would know "+
			"which keys its prepared branches lock", p.cfg.store())
	}
	return "participant " + p.cfg.Name + " cannot lock keys: its handler does not implement InDoubt"
}
