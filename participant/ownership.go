// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// Ownership says which keys this process may act for, and keeps those that branches are about from being handed over to
// others: a router.Node. Its methods are called by several goroutines at once, and wait for nothing.
//
// A claim lasts from before the handler is asked to prepare a branch until nothing of the branch is held here any more:
// its handler refused or changed nothing, and the log has that vote, or its outcome is applied. A claim is only in memory.
// What a crash leaves behind is in the store, and Recall tells of it before the process can hand over anything:
//
//	New               Expect: from here on nothing is handed over.
//	Run, store read   A crash before or here: the store holds what it held, and the next process begins in the same way.
//	Recall            What is prepared holds every partition, since which keys it was about is not known any more.
//	outcomes heard    They end what is recalled, and its hold: Settle.
//	registered, votes of what is recalled repeated: they bring the outcomes that are missing.
//	TakesPart         Keys may be the process's own. A crash before: it had none, or kept those that it had.
//	prepares taken    Claim, then Prepare. A crash between the two: nothing was prepared, and the claim is forgotten. A crash
//	                  after Prepare: the store has the branch, with a vote in the log or without; the next process
//	                  recalls it, and when the prepare comes again it finds the branch in hand.
//	outcome applied   Settle. A crash before: the store has nothing prepared any more, and nothing is to be held.
type Ownership interface {
	// Expect says that a participant is coming whose store may hold prepared branches: nothing is handed over until Recall
	// was called, and nothing is to be owned until TakesPart was. New calls it; a participant that is never run keeps the process
	// from both.
	Expect()
	// Recall names the branches that the store holds prepared. Each of them holds all that this process owns until Settle.
	Recall(txs []messages.ID)
	// Claim claims the keys of a branch, all or none; until Settle they are not handed over. It is called again when a
	// Prepare that failed is tried again, and claims once. An error means that nothing was claimed by this call: with a
	// wrongOwner, the epoch of the ring by which this process does not own one of the keys, the branch is voted no;
	// without, it may own them but cannot act just now, and is asked again later. Both say why.
	Claim(tx messages.ID, routes []messages.Route) (wrongOwner uint64, err error)
	// TakesPart says that the participant has registered, and is sent prepares: transactions may be routed here from now on. Before
	// it, they would be refused, because nobody knows a participant of this name.
	TakesPart()
	// Settle gives up what Claim or Recall claimed for a branch; for others it does nothing.
	Settle(tx messages.ID)
}

// checkOwnership: claims do not outlive the process, so the store has to say what it holds prepared.
func (cfg *Config) checkOwnership() error {
	if cfg.Ownership == nil {
		return nil
	}
	if _, ok := cfg.store().(InDoubt); !ok {
		return fmt.Errorf("participant %s: with Ownership the %T must implement InDoubt: after a restart only the store knows which branches "+
			"are prepared, and until they are settled their partitions must not be handed over", cfg.Name, cfg.store())
	}
	return nil
}

// recallClaims lets what the store holds prepared keep its partitions, and gives it. Until it has succeeded nothing is
// handed over.
func (p *Participant) recallClaims(ctx context.Context) ([]Prepared, error) {
	if p.cfg.Ownership == nil {
		return nil, nil
	}
	branches, err := p.inDoubt(ctx)
	if err != nil {
		return nil, err
	}
	txs := make([]messages.ID, len(branches))
	for i := range branches {
		txs[i] = branches[i].Tx
	}
	p.cfg.Ownership.Recall(txs)
	return branches, nil
}

// notClaimed takes the place of AskPrepare in a step whose branch is not for the handler.
const notClaimed protocol.StepKind = 0

// claim claims the keys of the branches that are to be prepared. Those that are not to be had are answered here, beside the
// others: by a no with the epoch in which somebody else owns them, or by another try later.
func (p *Participant) claim(steps []protocol.Step) {
	if p.cfg.Ownership == nil {
		return
	}
	var answers []func(b *protocol.Branches, now int64)
	for i := range steps {
		s := &steps[i]
		if s.Kind != protocol.AskPrepare {
			continue
		}
		wrongOwner, err := p.claimBranch(record(s).branch)
		if err == nil {
			continue
		}
		s.Kind = notClaimed
		tx, reason := s.Tx, err.Error()
		answers = append(answers, func(b *protocol.Branches, now int64) {
			if wrongOwner != 0 {
				b.WrongOwner(tx, wrongOwner, reason)
			} else {
				b.Prepared(tx, 0, reason, now)
			}
		})
		p.log.WithError(err).WithField("tx", tx).Debug("the keys of a branch are not to be had here")
	}
	if len(answers) > 0 {
		p.do(func(b *protocol.Branches, now int64) {
			for _, answer := range answers {
				answer(b, now)
			}
		})
	}
}

// claimBranch claims the keys of a branch; one that has none needs no claim.
func (p *Participant) claimBranch(b *Branch) (wrongOwner uint64, err error) {
	var routes []messages.Route
	for i := range b.Operations {
		if r := b.Operations[i].Route; r != nil {
			routes = append(routes, *r)
		}
	}
	if len(routes) == 0 {
		return 0, nil
	}
	wrongOwner, err = p.cfg.Ownership.Claim(b.Tx, routes)
	if wrongOwner != 0 && err == nil {
		err = errors.New("wrong owner: " + p.cfg.Name + " does not own every key of the branch")
	}
	return wrongOwner, err
}
