// SPDX-License-Identifier: Apache-2.0

// Package protocol is the pure core of Assent: log-ordered two-phase commit without I/O, clock, goroutine, randomness
// or logger. Events come in as arguments, time among them; effects come out as values that the caller carries out.
//
//   - Fold reads a shard's log and knows the outcome of every transaction in it. The outcome is a function of the log
//     prefix alone: whoever has read the same prefix knows the same outcome, and no later record changes it.
//   - Delivery keeps what the outcome's participants are still owed: it says what to send, when to send it again, and when
//     a transaction is finished.
//   - Branches is the participant's side: what to ask the handler, what to vote, when to repeat a vote, what to answer.
//
// A transaction, as the fold sees it:
//
//	          prepare              every vote yes or read-only
//	unknown ───────────▶ undecided ───────────────────────────▶ committed ──┐ finished
//	                         │                                              ├──────────▶ remembered ──▶ forgotten
//	                         └────────────────────────────────▶ aborted ────┘  ▲              │
//	                           no · abort · log time > expires                 └── late yes ──┘
//
// The idea is Paxos Commit (Gray & Lamport, "Consensus on Transaction Commit", ACM TODS 31(1), 2006) and Cornus (Guo et
// al., VLDB 2022), with the stream's order in place of one register a vote. docs/protocol.md states the rules.
package protocol
