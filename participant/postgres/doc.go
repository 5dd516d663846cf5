// SPDX-License-Identifier: Apache-2.0

// Package postgres makes a PostgreSQL database take part in transactions. The application gives a function that executes a branch
// by its own SQL; the rest is done here.
//
//	store, err := postgres.Open(ctx, pool, postgres.Config{Name: "bank-a", Do: func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
//		_, err := tx.Exec(ctx, `UPDATE accounts SET balance = …`)
//		return err
//	}})
//	p, err := participant.New(nc, participant.Config{Name: "bank-a", Handler: store})
//
// A branch is a prepared transaction of PostgreSQL (PREPARE TRANSACTION), named assent:<participant>:<transaction>. In the
// same transaction a row is written into assent_markers, the branch's marker: while it is prepared nobody sees the marker, when it
// is committed it is there, and when it is rolled back it is not. So what is neither prepared nor marked was not committed, whatever
// happened to it.
//
//	Prepare ─ BEGIN ─ keys ─ Config.Do ─ marker, PREPARE TRANSACTION ─▶ Yes ─┬─ COMMIT PREPARED ───▶ the marker is there
//	                             │                     │                     ├─ ROLLBACK PREPARED ─▶ nothing is there
//	                             │                     └ wrote nothing: ROLLBACK, ReadOnly           │
//	                             └ an error: ROLLBACK, Refuse, Conflict, or tried again              └ by hand: heuristic
//
// # What it guarantees
//
//   - What Prepare has said Yes to is on disk, can go either way, and is in nobody's sight. PostgreSQL syncs PREPARE TRANSACTION and
//     COMMIT PREPARED also with synchronous_commit off; only fsync off breaks it (it is warned of).
//   - Prepare, Commit and Rollback may be repeated, by several instances at once. A refusal or a conflict is answered only when it is
//     certain that no instance has prepared the branch.
//   - A prepared transaction that somebody ended by hand, against the outcome, or that was lost, is told as heuristic. What was
//     ended by hand and as the outcome says, is not: then all is well.
//   - Prepared transactions of anything else are never touched: others' names, names that resemble its own, other databases of the server.
//   - A branch costs the application's statements (BEGIN goes with the first one), one round trip for the marker and PREPARE TRANSACTION,
//     and COMMIT PREPARED. Connections are the pool's, and go back after each of the two; one is always left for outcomes.
//   - Keys of a branch (assent.Keys, assent.SharedKeys, Tx.Lock) are locked by advisory locks, which the prepared transaction holds until
//     its outcome: also for other instances, and across a crash of both.
//
// # Errors of the database
//
// They are judged by their SQLSTATE, which stands in the text that the client gets:
//
//	40001, 40P01                         the branch is executed again, up to 10 times with pauses; then it is a conflict
//	55P03 (lock_timeout, NOWAIT)         a conflict: assent.ErrConflict, client.Do tries it again
//	08, 25, 28, 3D, 40, 53, 55, 57, 58,  of the database's condition (disk full, too many connections, no place for a prepared
//	72, F0, XX                           transaction, a shutdown): the SDK asks again until the transaction expires
//	all others                           a refusal: constraints, bad data, missing tables, whatever RAISE raises
//
// # What a crash leaves
//
// Of the participant, or of the database:
//
//	before PREPARE TRANSACTION              nothing: the transaction ends with its connection; the prepare comes again
//	between that and the vote               a prepared transaction. The prepare comes again, waits for LockTimeout at most for what the first
//	                                        one holds, finds it, and answers Yes; or InDoubt finds it at the start
//	after the vote                          the same; the outcome comes
//	between COMMIT PREPARED and the done    the marker. The outcome comes again and finds it
//
// # What it does not guarantee
//
//   - Readers of the database see one participant's changes when another's are not there yet. docs/isolation.md says what keys change in that.
//   - A database that is restored from a backup has forgotten what it voted for and what it committed since. What is in doubt then
//     is reported as heuristic when its commit comes; of what was over the newest is missed at the next start, and told
//     (participant.ErrStoreLost). docs/stores.md says what to do.
//   - What is in doubt holds its row locks, and keeps VACUUM from cleaning up. Without a coordinator it stays so. Watch Stats: the Store is a
//     Prometheus collector of them.
//   - A marker is removed after Config.Keep, in which outcomes have been arriving. A commit that comes again only after that is
//     reported as heuristic though it was applied. (A leader that is up repeats what it is owed every 30 s.)
//   - Keys are locked by 64 bits of their hash: two keys may, once in a long while, wait for each other.
//
// The protocol is two-phase commit as in Gray, "Notes on data base operating systems" (1978), section 5.8.3.3, with the resource's part
// as X/Open's XA has it (CAE specification C193, 1991): xa_prepare, xa_commit, xa_recover.
package postgres
