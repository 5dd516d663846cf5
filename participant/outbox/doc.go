// SPDX-License-Identifier: Apache-2.0

// Package outbox is a participant that publishes NATS messages: each is published if and only if its transaction commits.
//
//	p, err := outbox.New(nc, outbox.Config{Name: "outbox"})
//	...
//	err = p.Run(ctx) // blocks; takes part in transactions until ctx ends
//
// and in whoever makes a transaction:
//
//	tx.Enlist("orders", order)
//	outbox.Publish(tx, "outbox", outbox.Message{Subject: "orders.confirmed", Data: confirmation})
//	err = tx.Commit(ctx)
//
// To prepare a branch is to check that its messages can be published, and to write them to the outbox's journal, a stream of its
// own; to commit is to publish them, and to roll back is to forget them. Nothing has to poll a table.
//
//	Prepare: check ──▶ journal: open ──yes──▶ Commit:   publish ──▶ acknowledged ──▶ journal: settled ──▶ done
//	           └──no: no stream takes it …      Rollback: journal: settled ──▶ done
//
// # What is promised
//
// A message for a stream is stored there exactly once if its transaction commits, and never if it aborts, whatever crashes, is
// paused, superseded, or answered too late. Its Nats-Msg-Id is <transaction>.<outbox>.<operation>, so that the stream
// drops a repetition while it remembers ids (its duplicate window, by default 2 minutes). When a message may have been published
// longer ago than half of that, or by a process that died, the outbox first reads the stream, from where it ended when the
// branch was prepared, and publishes only what is not there.
//
// A core message (Message.Core) goes to whoever listens at that moment, as core NATS messages do. If the outbox dies between
// publishing and noting it down, it is published once more, with the same Nats-Msg-Id.
//
// # The order
//
// The messages of one transaction are published in the order of its operations, each after the one before was stored.
// Messages of different transactions mostly come in the order in which they commit, but that is not promised: outcomes are
// delivered again, and streams may be out of reach. Who needs an order names a key:
//
//	outbox.Publish(tx, "outbox", message, assent.Keys("order/42"))
//
// Then the next transaction with that key is prepared only when the messages of the one before are stored.
//
// # What is not promised
//
//   - A stream that removes messages (by age, number, size, purge, or because a consumer has acknowledged them in a work queue or
//     interest stream) may have removed one before the outbox looks for it. Within the duplicate window, and while the server that
//     leads the stream runs, the stream still knows its id; after that the message is published twice. It is logged
//     as a warning and counted (Stats.Unsure). A longer duplicate window makes it rarer.
//   - An instance that is paused right between looking at the clock and publishing, is superseded meanwhile, and goes on after more
//     than half the duplicate window may publish a message again. No stream can be told to refuse that.
//   - A stream that is full, out of reach or gone when the transaction has committed: the message is published when that is mended.
//     Until then it is tried again, logged as a warning, and counted (Stats.Stuck; `assent participants` shows what the outbox
//     owes). What can be checked before is checked by Prepare, which then refuses.
//   - A subject that moves to another stream between prepare and commit is published to that one.
package outbox
