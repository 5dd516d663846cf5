// SPDX-License-Identifier: Apache-2.0

// Package participant is the SDK for a service that takes part in transactions: it gives a Handler, the SDK does the
// protocol.
//
//	p, err := participant.New(nc, participant.Config{Name: "bank-a", Handler: bank})
//	...
//	err = p.Run(ctx) // blocks; registers, votes, applies outcomes; drains when ctx ends
//
// The handler is asked to Prepare a branch, which makes it durable without showing it, and later told to Commit or
// Rollback. The SDK votes once Prepare has returned, and acknowledges the prepare once the log has the vote. After a yes
// the branch is in doubt: only the outcome ends it, and the participant must be able to go either way.
//
//	Prepare ──▶ Yes ──▶ in doubt ──▶ Commit or Rollback
//	       ├──▶ ReadOnly: nothing changed, nothing follows
//	       ├──▶ Refuse(err): the transaction aborts, nothing is held here
//	       └──▶ any other error: asked again until the transaction expires, then a no; a Rollback follows
//
// What a handler has to bear, whatever crashes or is delivered twice:
//   - Prepare may come again for the same transaction, also after its outcome: it gives the same answer and prepares nothing
//     anew that was finished. (Remembering finished transactions until Branch.Expires, and a minute for clocks, is enough.)
//   - Commit and Rollback may come again, and may come for a transaction that was never prepared here or is finished: that
//     is no error and changes nothing.
//   - Several instances of a participant share one store; the calls for one transaction may come to different ones.
//
// Keys that a branch names (assent.Keys, assent.SharedKeys, Tx.Lock) are locked here from before Prepare until the outcome is
// applied: transactions that name the same key, not both as shared, come to Prepare one after the other, the oldest first.
// A transaction that waits takes no handler's place. A younger one that holds what an older one has waited for (Config.Wound) gives
// way: the transaction is aborted, and its client tries it again. With Config.NoWait nobody waits: who meets a held key is aborted. For that
// the handler has to
//   - implement InDoubt, and keep Branch.Keys with what it prepares, so that a restart locks them again;
//   - answer Yes for a branch that is Isolated, also when it changes nothing;
//   - run in one instance, or lock the keys in its store as well (LocksKeys): instances do not see each other's locks.
//
// docs/isolation.md says what holds then.
//
// A participant may be a node of a group, whose transactions find it by key (Config.Ownership; package router). Then it prepares
// only for keys that the node owns, and votes no for others, so that the client asks again where they are now. What it
// holds prepared keeps the node from handing the keys over; Ownership says how that survives a crash at each line.
//
// Commit and Rollback are repeated until they succeed. A resource that has decided against the outcome (an operator
// rolled back by hand) says so with Heuristic: it is reported, and not repeated.
package participant
