// SPDX-License-Identifier: Apache-2.0

// Package coordinator leads shards: it takes submissions, writes their prepares to the shard's log, follows the log with
// the fold of internal/protocol, tells clients and participants the outcomes, expires what nobody decided, and trims
// what nobody needs.
//
// It guarantees that every transaction whose first prepare reached the log ends, once the log and one coordinator are up;
// that a client is told only what the log says; and that participants hear the outcome until they are done. It keeps
// nothing of its own but a checkpoint, so any coordinator can take over any shard, and two that lead one shard at once
// disagree about nothing: they only do some work twice.
//
//	               submissions            prepare, vote, abort, finished
//	client ──────────────────▶ leader ◀────────────────────────────────── log (JetStream)
//	       ◀────────────────── │   ▲ └─────────── prepare, abort, finished ──▶
//	             answers       │   │ done
//	         commit, rollback  ▼   │
//	                        participant ─────── vote ──▶ log
//
// Each shard has one leader among the coordinators, by a lease of package locks (Gray & Cheriton, "Leases: an efficient
// fault-tolerant mechanism for distributed file cache consistency", SOSP 1989). It saves work and nothing else depends on
// it. The others stand by: they follow the log without acting, so that one of them leads a second after the lease of a dead
// leader has run out, and milliseconds after a leader that stops has handed over. Which coordinator should lead which shard
// follows from a ring of package router whose nodes are the coordinators, so that one that comes or goes moves its share and
// nothing else; while there is no ring everybody goes on as they are. What coordinators tell each other about all this is
// hearsay over core NATS. Each coordinator also runs a router.Service, and with it perhaps the steward of all rings.
//
//	         warm             granted           lost, handed over
//	reads ──────────▶ stands by ──────▶ leads ──────────────────────▶ stands by
//	  ▲                                   │ told to stop
//	  └── fell behind a trimmed log       ▼
//	                              hands over, or drains
//
// For each shard one goroutine owns the fold, the delivery and the list of waiting clients, leading or standing by: it
// receives, folds, and carries out the effects.
package coordinator
