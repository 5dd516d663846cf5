// SPDX-License-Identifier: Apache-2.0

// Package handover moves the keys of a partition from the file of the node that owns it to the file of the node that is to own it,
// when a group's ring changes. Both examples that live in a group, bank and sharded, use it; it is an example itself, of
// what router.Hooks are for.
//
//	the owner's node                                       the next owner's node
//
//	router: Release(partition) ─▶ Push ─── page by page ───▶ Receive ─▶ Take: into the file
//	                                   ◀── each when durable ──
//	              noted: released
//	... announced, and the ring says that it is the other's, in a later epoch ...
//	router: Drop(partition) ─▶ deleted                     router: Acquire(partition) ─▶ noted: held
//
// It has to bear that either node crashes at any point, that a hook is called again, that a page comes twice or much later, and
// that a move is called off and begun anew, perhaps to another node. What makes that simple:
//
//   - A page says for which move it is, by group incarnation and the epoch in which the move began. Moves of a partition are
//     ordered by that. A page of a later move than the file knows begins the partition anew, one of an earlier move is refused, and
//     within a move nothing changes at the owner, so that a page which comes again changes nothing.
//   - The last page says how many keys there are. What is not whole is not taken for the partition.
//   - The owner keeps its copy until the ring says that the partition is another's.
//   - What a file has of each partition is noted in it, in the same commit as the keys, and the store asks (Holds) before it
//     does anything for a key. So a node that is mistaken about the ring still does no harm.
//   - A key that a transaction holds does not move (Busy). The router calls Release only when nothing is in hand, so this is
//     never seen; if it is, the router calls Release again later.
//
// Keys are kept in the order of the hash circle (Key), so that a partition is a range of the file.
package handover
