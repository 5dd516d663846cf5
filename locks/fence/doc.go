// SPDX-License-Identifier: Apache-2.0

// Package fence is the resource's side of fencing: it refuses those who hold a lock no longer but do not know it yet.
//
// A lock with a lease cannot do that alone. Its holder may be paused (by the garbage collector, the scheduler, a
// suspended machine) between the look at the lock and the write, and the write may wait in a network for longer than the
// lease lasts. Whatever checks come before, the last one has to be where the write takes effect: there, a token that
// grows with every grant (locks.Token) is compared with the greatest that was seen, and an older one is refused
// (Burrows, "The Chubby lock service", OSDI 2006, section 2.4, "sequencers"; Kleppmann, "How to do distributed locking", 2016).
//
//	holder A: lock, token 1 ──── paused ─────────────────────────────────► write(token 1)   refused: ErrStale
//	holder B:                    lock, token 2 ──► write(token 2)  accepted
//
// There is a checker for each of three places:
//
//   - Memory, for what lives and dies with this process;
//   - SQL, for what is written in a transaction of database/sql: SQLite, PostgreSQL, MySQL;
//   - KV, for values in a JetStream key-value bucket.
//
// A resource in another language or store does the same with the text of a token (locks.Token.String), which sorts bytewise as
// tokens do: keep the greatest, refuse lesser ones, and let no other write come between the comparison and the write.
//
// # What it guarantees
//
// For each key, the tokens of what took effect never decrease: once the resource has seen a token, nothing that carries
// an older one takes effect. Comparison and effect are one step (Memory.Run, the caller's transaction with SQL,
// one compare-and-swap with KV). Equal tokens are accepted: a holder may write often, and the holders of a
// shared lock or a semaphore may have equal tokens, which are not fenced from each other.
//
// # What it does not guarantee
//
//   - A late holder is refused only after the resource has seen a newer token. Until the next holder's first write the
//     paused one's may still take effect; that is the order in which they came, and harms nobody.
//   - Whoever writes past the checker is not checked. All writers of a resource have to use it.
//   - A token is no permission: it is not secret, and whoever makes one up is believed. A made-up one from the far future
//     locks everybody out until the record is removed by hand.
//   - One key of a resource belongs to one key of one bucket of locks. Tokens of different keys, or of
//     different buckets, must not meet at one key of a checker.
//   - What is kept for a key is kept for ever: it may be removed only when no holder of an older token can come any more.
//
// # What was tested on what
//
// SQL is tested on SQLite with every change, and as participant/sqlstore uses it on MariaDB and PostgreSQL. The statements for
// PostgreSQL were also run by hand against PostgreSQL 15.18 with the driver pgx, by 16 concurrent writers with late tokens at each of its
// three isolation levels, without a violation. KV is tested on one server, with lost acknowledgements, lost and
// late messages and stale reads; at three replicas the same code meets the error 10164 in place of 10071.
package fence
