// SPDX-License-Identifier: Apache-2.0

// Package kv is transactions over JetStream's key-value buckets: several keys, of several buckets, read and written as one, or not at all.
//
//	store, err := kv.NewClient(client, nc, kv.ClientConfig{})
//	...
//	err = store.Txn(ctx, func(tx *kv.Tx) error {
//		from, err := tx.Get(ctx, "accounts", "alice")
//		...
//		return tx.Put("accounts", "alice", debited)
//	})
//
// The function may run several times: when a value that it read was written by another transaction meanwhile, it runs anew. The participant
// behind it (Participant, or `assent serve --kv`) is one of many: a transaction may span buckets, databases and services.
//
// # What holds
//
// Transactions by this package are atomic, durable, and strictly serializable among each other: it is as if each had happened at one moment
// between its begin and its end, with everything that it read and wrote. The function itself may see values of different moments before the
// transaction is found to conflict; it should have no effects but through the transaction.
//
// Plain readers of a bucket see committed values only, each key by itself: between the first and the last key of a transaction they may
// see one new and one old. Plain writers are not held back, and break isolation for the keys that they write; what happens to their
// values is said below. So write keys that transactions use by transactions only.
//
// Read a bucket by JetStream. A subscription of core NATS to its subjects has what is sent to it, stored or not: also what a bucket refuses,
// and Prepare sends each key that a transaction names a message that it must refuse.
//
// # How
//
// Get reads a key by a direct get, which any replica or mirror may answer, perhaps with what is old; or from the leader of the bucket's stream,
// where there are none, and when a transaction is tried again. It need not be right: everything that was read is validated.
//
// The keys of a transaction are locked at the participant (the SDK's strict two-phase locking) from before its prepare until its
// outcome is applied: what is read shared, what is written exclusively. One instance of the participant works at a time; that it does is
// proven by its journal, a stream with one writer, with everything that it answers.
//
//	Prepare   asks the leader of each bucket's stream for each key's revision, and compares it with the one that the transaction read: if it is
//	          another, the vote is no, and the client tries again. (It asks by a write without a value that the stream must refuse, and whose
//	          refusal tells the revision; by a get where that tells nothing.) Then the writes go into the journal, each with the revision which its key has
//	          now, its base. A yes follows once that is stored. Nothing is written to the buckets.
//	Commit    writes all values at once, each by a compare-and-swap on its base (Nats-Expected-Last-Subject-Sequence), with
//	          the transaction's id in the header Assent-Tx, and then settles the branch in the journal. Only then the locks are released and
//	          the commit is answered.
//	Rollback  settles the branch in the journal.
//
// No other transaction can write a key between prepare and commit: it would have to hold its lock, in this instance, or be
// prepared by another instance, and when that one took the journal over it found this branch in it, and locked its keys before it
// took any prepare.
//
// # Crashes
//
//	before the journal has it   nothing happened; the prepare comes again
//	after that                  the next instance reads it, repeats its vote, and is told the outcome
//	between two values          the commit comes again. A value that has this transaction's id in its header is there already; one whose key
//	                            has its base still is written. If the key has a later value of another transaction, that one was prepared after this
//	                            one had been applied: it stays.
//	before it is settled        the same: everything is found written
//
// An instance that was superseded and does not know it (it was paused) may still write values of branches that it had
// prepared, which are committed, onto their base, which nobody else has written since: that is what the new instance does as well,
// and one of the two is first. It never writes over a value that came after. It answers nothing: every answer needs its journal.
//
// # Writers that are no transactions
//
// A plain put, deletion or purge of a key
//
//   - before a transaction that has read it prepares: is seen as a conflict;
//   - between prepare and commit: stays. The transaction is committed, its other keys are written, and for this key it is as if the
//     foreign value had been put right after it: nobody sees the transaction's. It is counted (Stats.Overtaken) and logged. (The foreign
//     writer, if it computed its value from what it had read, has not seen the transaction: that is how plain writers lose updates.)
//   - after the commit: is a put like any other.
//
// What vanishes between prepare and commit without a writer (a bucket's TTL, an operator's purge of a subject or a stream, a bucket that is
// deleted and made anew) is nothing, and the transaction's value takes its place. A bucket that is made anew counts its revisions from 1: what a
// transaction that is under way then has read of the one before may be taken for the new one's, if that has got as far. Delete buckets that
// transactions use while none runs.
//
// # Buckets
//
// Any bucket may be used but mirrors, buckets with sources, sealed ones, and those whose names begin as Assent's own do. Keys must be known when
// the operation is submitted: there are no transactions over "all keys". History is kept as ever, each value with its transaction's id.
// Values have the bucket's TTL, from their commit on; where a value expires between the crash of an instance that had written it
// and the next one's repetition of the commit, it is written once more, and lives for another TTL. An instance that is paused for longer than a bucket's TTL
// in the middle of a commit may do the same to a key that has expired since: with a TTL, keep it above a minute.
//
// A value that does not fit (the bucket's max_value_size; the headers count about 130 bytes) is refused at prepare, as is a bucket that is full, or
// is not there. If that happens after the yes, the commit is tried again for ever, and shows in the log, in Stats and in `assent tx list`;
// the transaction's keys stay locked meanwhile.
//
// At three replicas the leader of a stream answers reads from what is committed. One that was deposed and has not noticed may answer an older revision
// for a moment (NATS does not confirm reads with a quorum). If that makes a prepare accept a stale read, the compare-and-swap of a
// written key fails at commit, and is reported as a foreign writer's doing; for a key that was only read nothing would tell. On one
// replica it cannot happen.
package kv
