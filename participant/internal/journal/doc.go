// SPDX-License-Identifier: Apache-2.0

// Package journal keeps what a participant holds prepared, when its store is JetStream itself: in a stream, with one writer.
//
//	j, err := journal.Take(ctx, js, journal.Config{Name: "kv"}) // reads what is open; an older instance is shut out
//	for _, e := range j.Entries() { ... }                      // what InDoubt tells
//	err = j.Append(ctx, journal.Entry{Tx: b.Tx, Expires: b.Expires, Data: data}) // in Prepare, before Yes
//	err = j.Settle(ctx, outcomes...)                           // in Commit and Rollback, once applied
//
// Calls return when what they wrote is durable; what many write at once shares messages (internal/groupcommit), and one message
// is under way at a time.
//
// # One writer
//
// A message names, in a header, the sequence of the message that its writer took for the newest. It counts if it stands right
// after that one, and not otherwise. So whoever has read the stream to its end and written a message that counts has
// taken it over: nothing that an older instance writes can count any more. An older instance finds out with its next write
// (ErrSuperseded), and until then can do no more than its participant does without writing: so every call that ends in something that is
// told to others writes first (Append, Settle, Prove).
//
// The server's compare-and-swap on the last sequence (Nats-Expected-Last-Sequence) keeps messages that would not count out
// of the stream. Safety does not rest on it: on a replicated stream it is checked by the leader as it proposes, and leaders
// change.
//
// # Crashes, and answers that do not come
//
//	Append     A crash before it returned: the branch is open, or is not; its prepare comes again in both cases. A write whose
//	           acknowledgement is lost is settled by reading what stands at its place, and repeated there until
//	           something does. Until that is known nothing else is written.
//	Settle     A crash before it returned: the branch is open still, though its outcome may be applied. The participant is told the outcome
//	           again when it repeats its vote: commit, or rollback if the coordinator has forgotten the transaction, which it
//	           does only after it was told that the outcome is applied. So a participant's Commit must bear repetition,
//	           and its Rollback must leave alone what a Commit has done.
//	Take       A crash at any line leaves a journal that the next Take reads. Two that take over at once: the later one stays.
//	trimming   Only what is over is removed, by whomever: that never becomes untrue.
//
// # What stays
//
// Open branches, watermarks, and settled branches until a minute after their expiry, so that a prepare which is delivered once more
// is not taken for a new one (Status). At most 250,000 of those are kept; beyond that the oldest are forgotten, and
// transactions whose ids are as old as theirs, and are not known, get the status Forgotten. What is needed for long is written again at
// the end, so that the stream stays short: about 4096 messages, and what comes in a second or two.
package journal
