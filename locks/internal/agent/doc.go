// SPDX-License-Identifier: Apache-2.0

// Package agent is what one session does about one key: a pure state machine, events in, effects out, with no I/O, no clock
// and no goroutine. Package locks gives it its events and carries out its effects.
//
// A key is one record (package record), changed only by compare-and-swap on its revision. While it is held, the first holder's
// session is the keeper: the only one that writes. The others ask the keeper by message to let them in or out; it gathers
// what it is asked while a write is under way into the next one (flat combining: Hendler, Incze, Shavit and Tzafrir, SPAA
// 2010, with the record in place of the shared memory), and tells those whom a write concerns. So a hand-off costs one write
// however many wait, and nobody's write meets another's.
//
//	         ask (join, leave)                  write (compare-and-swap)
//	waiter ────────────────────▶ keeper's agent ───────────────────────▶ record
//	       ◀────────────────────                ◀───────────────────────
//	         tell (record, noted)                 stored / conflict / unknown
//
// Messages only hurry things up. Whoever hears nothing reads the record; whoever is not answered writes it himself; a lock
// whose keeper's session ended is passed on by those who wait. None of this can go wrong by being done twice, late, or by two
// at once, because every write is conditional, and what it changes is computed from the version that it replaces.
package agent
