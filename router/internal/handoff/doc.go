// SPDX-License-Identifier: Apache-2.0

// Package handoff decides who acts for a partition of a group, and how it passes from one node to the next. It is pure: no I/O, no clock,
// no goroutine, no lock, no randomness. Time arrives as data (ms of whoever tells), and what is to be done leaves as data.
//
// A group is one Record. Operators change it with Record.Apply, stewards with Decide, each by compare-and-swap on the version that the
// next one was made from; so several stewards, and stewards that know too little, do no harm. Each node's process has a Holder, and tells
// of itself in a Presence, which only it writes.
//
//	                 Presence (session, released moves)
//	┌───────────┐ ─────────────────────────────────────▶ ┌─────────┐   compare-and-swap   ┌────────┐
//	│  Holder   │                                        │ Decide  │ ───────────────────▶ │ Record │ ◀── Apply (operators)
//	└───────────┘ ◀───────────────────────────────────── └─────────┘                      └────────┘
//	       ▲              Record (epoch, owners, moves)                                        │
//	       └───────────────────────────────────────────────────────────────────────────────────┘
//
// # A partition in the record
//
//	       no owner that has to release it          released {partition, since}
//	┌────────┐ ─────────────────────────▶ ┌───────┐ ◀──────────────────────────── ┌─────────────────┐
//	│ nobody │                            │ owned │                               │ moving since e  │──┐ another target:
//	└────────┘ ◀───────────────────────── └───────┘ ────────────────────────────▶ └─────────────────┘◀─┘ since e+1
//	            the owner is taken out         │     it has another target                 │
//	                                           │  ◀────────────────────────────────────────┘
//	                                           │     the target is the owner again, or the owner is down
//	                                           ▼
//	                                the owner is down: it stays, until the owner is back or is taken out
//
// # A partition in a node's process
//
//	                 AskAcquire            Open
//	owner, stays ────────────▶ acquiring ───────▶ acting ◀─────────┐ called off before Release was called
//	     ▲                         ▲                 │ moving: Shut │
//	     │                         │                 ▼              │
//	     │                         │              draining ─────────┤ (work that is in hand goes on)
//	     │                         │                 │ Drained      │
//	     │ called off later:       │                 ▼              │
//	     └─────────────────────────┴─ acquire ── releasing ◀────────┘ a process that begins finds it moving: drained first
//	                                                 │ AskRelease has succeeded: Announce
//	                                                 ▼
//	                                              released ──▶ another's: AskDrop ──▶ forgotten
//
// When the session is lost, or another incarnation of the group begins, everything is shut and nothing counts that was acquired or
// released: see Holder.Lost and Holder.Ring.
//
// # What is guaranteed
//
// In the kinds HandOff and Data, whatever crashes, is paused, restarts, reads old records or acts on old views:
//   - no two nodes act for a partition at one time, nor in one epoch (in kind Instant: only not in one epoch);
//   - a node acts only after another that lives has nothing of the partition in hand;
//   - Release is called only when nothing is in hand, and a new owner's Acquire only after the old one's Release has succeeded, or its
//     session has ended; never two hooks of a partition run at once in a process, nor beside work that began in that process;
//   - epochs grow by one; a move's acknowledgement counts for that move alone, and only from the session that the record names;
//   - with the faults over, every partition has an owner that acts, if a node is up that may have it: in kind Data, once the node that is
//     down is back or an operator has taken it out.
//
// It rests on these, which the other packages see to: a session that is said to have ended has ended, and its process lets no work in
// (package locks: Session.Err is exact); of the processes of one name only the one with the lock of the name has a session that counts; a view
// is at least as new as the record that it is used with; presences have the revisions with which they were stored. What a process stores as
// its presence that was paused meanwhile breaks nothing: it is put right when the living one stores its own again.
//
// # What is not guaranteed
//
//   - Work that was in hand when a session was lost goes on in that process, maybe while another node acts: what it writes to other places
//     must carry the fencing token. Branches that an earlier process of a node has prepared are such work, if the node has lost its
//     partitions since.
//   - A Release or Acquire that fails for ever holds its partition back for ever; a Release also its place in the batch. It ends with its
//     process, or when an operator takes the move back.
//   - Hooks are called again after a crash, for the same move too: they must be idempotent. A Release that has succeeded may be followed by
//     an Acquire at the same node. Drop is not called for what a process has released that died or lost its session since.
//   - A node that begins, or has lost its session, acts only after a steward has noted its new session: with no steward, nobody begins.
//   - When a group is deleted and made again nothing is released or handed over; but nobody acts by the new record before every node
//     that lives has let go of the old one.
//
// # Who crashed, and what is left
//
//	owner, before Release         the session ends: taken out after the grace, the target gets the partition at once; in kind Data it stays, and
//	                              a process that comes back is asked to release it
//	owner, during Release or      the same; an announcement that was still stored completes the move, unless a steward has noted the
//	before it is announced        end of the session before: then a process that comes back releases it again
//	owner, after it announced     the move is completed
//	target, before it is owner    the move is called off, and the owner acquires again, or it goes to another target
//	target, as owner, in Acquire  the session ends: as an owner before Release. In kind Data the partition waits for it
//	steward, before it stored     nothing is left: another decides the same, or better
//	steward, after it stored      the record is right as it is: every version is
//	whole group                   kinds Instant and HandOff: who comes first gets all. Kind Data: everybody gets back what was his
package handoff
