// SPDX-License-Identifier: Apache-2.0

// Package sqlstore is a participant on any database of database/sql: MySQL and MariaDB, SQLite, PostgreSQL. It is for databases
// that cannot hold a prepared transaction, or should not: what a branch wants is reserved by one local transaction
// (Config.Try), and turned into what was wanted, or given back, by another one (Config.Confirm, Config.Cancel).
//
//	store, err := sqlstore.Open(ctx, db, sqlstore.Config{Name: "stock", Dialect: sqlstore.SQLite, Try: …, Confirm: …, Cancel: …})
//	…
//	p, err := participant.New(nc, participant.Config{Name: "stock", Handler: store})
//
// # The barrier
//
// Each local transaction reads and writes, beside what the application does in it, one row of the table assent_branches. So the
// database itself knows what was done for a transaction, and the application's functions need not be idempotent: each of them takes
// effect at most once, Confirm and Cancel only after Try and never both, whatever crashes, comes twice, late or in another
// order.
//
//		            Prepare: Try                    Commit: Confirm
//		unknown ────────────────────▶ tried ────────────────────▶ confirmed ──▶ forgotten
//		   │  │                         └───────────────────────▶ cancelled ──▶ forgotten
//		   │  │ Rollback: nothing to undo    Rollback: Cancel         ▲
//		   │  └───────────────────────────────────────────────────────┘
//		   └─ Prepare is refused, or fails: nothing is kept
//
//	  - Prepare again: tried and confirmed say yes, cancelled refuses. A prepare that comes after its own rollback reserves nothing.
//	  - Commit and Rollback again, in the state that they lead to, do nothing. A rollback of what is confirmed does nothing either: it
//	    comes from a coordinator that has forgotten the transaction, because everyone was done.
//	  - Commit of a branch that is unknown or cancelled is reported as heuristic: a yes of this participant is in the log, and the
//	    database has lost it (it was restored from an old backup, or did not keep what it had acknowledged).
//	  - A Try that finds nothing to do says so (ErrNothing). Then nothing is kept, unless the branch is isolated: its keys are held,
//	    in the state held, until the outcome lets go of them.
//
// What a crash leaves behind, of this process or of the database, at each line:
//
//	Prepare   begin                         nothing
//	          insert the row, tried         nothing: not committed. Another instance that prepares, commits or rolls back
//	                                        the same transaction waits for this row, and then sees what came of it
//	          insert the keys, fences       nothing
//	          Try                           nothing
//	          commit                        nothing, or tried. Who is asked again finds out which. The next start asks for its outcome
//	          vote                          tried
//	Commit    begin, lock the row           tried
//	          delete the keys, Confirm      tried
//	          update the row to confirmed   tried
//	          commit                        tried or confirmed; the outcome is sent again until it is answered
//	          done                          confirmed
//	Rollback  as Commit, with Cancel and cancelled; of an unknown branch: nothing, or cancelled
//	reaping   note how far, delete rows     the rows, or not; never only one of the two
//
// # Isolation
//
// The keys of a branch are rows of the table assent_keys from its Try until its outcome. The SDK locks keys in memory, which keeps
// branches of one instance apart without asking the database; the rows do so between instances, and keep the keys of what is
// prepared across crashes. Who meets a held key tries on for Config.Patience and then answers a conflict. A branch
// without keys is isolated as its database isolates the local transactions, and what Try reserved shows as reserved.
// The locks of the client (Branch.Locks) are fenced in Try's transaction, in the table of locks/fence.
//
// # Errors
//
// An error of Try is judged by the database's code, which stays in its text: what is wrong with the statement or its values is a
// refusal (SQLSTATE classes 22, 23, 42, 44, 45 and P0001; SQLite's CONSTRAINT, MISMATCH, TOOBIG, RANGE and ERROR); a deadlock, a lock that
// is not to be had, a serialization failure, a busy database are tried again, with jitter, for Config.Patience, and then a
// conflict; everything else (no connection, no disk, a read-only standby) is a failure, after which the SDK asks again until the
// transaction expires. Wrap errors with %w. Before the barrier row is had nothing is refused: another instance may be about
// to prepare the same branch.
//
// # One sync for many
//
// SQLite has one writer at a time and one sync for each transaction. Branches that come at the same time share one, each in a
// savepoint of its own, so that a failure stays alone. MySQL and PostgreSQL do that themselves, for
// transactions that commit at the same time (group commit), and would only hold locks for longer.
//
// # What it does not guarantee
//
//   - Config.Confirm must be able to succeed after Try, also weeks later: it is repeated until it does. Reserve what it needs.
//   - Whoever changes the reserved rows past Try, Confirm and Cancel is not kept from it.
//   - The tables are as durable as the database: see Open.
//   - A commit that comes for what was forgotten (Config.Keep) is taken for a repeated one. What was never there is told from
//     what was forgotten by the transaction's age.
//
// The pattern is Try-Confirm-Cancel (Helland, "Life beyond distributed transactions", CIDR 2007, section 5, "tentative operations");
// the barrier row follows the observation that empty compensation, hanging and repetition are one problem and end with
// one row in the local transaction.
package sqlstore
