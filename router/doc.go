// SPDX-License-Identifier: Apache-2.0

// Package router says which node is to be asked for a key, keeps that right while nodes come and go, and has nodes take over from one
// another so that one at a time acts for a key. It runs on NATS JetStream, and can be used alone.
//
// Keys of a group fall into partitions, and a ring gives each partition its owner, a node of the group (package ring: consistent
// hashing in which every node has its part by weight, and a change moves no more than it must). What is stored of a group is its
// record, numbered by incarnation and epoch; each is made from the one before and stored by compare-and-swap.
//
//	Client   keeps the rings, and routes keys to nodes: no round trip, no memory      every application
//	Node     is a member of a group: acts for what it owns, hands over, serves        every process that owns keys
//	Service  answers for other languages, takes operators' changes, is the steward    one or more of them somewhere
//	Groups   makes, changes and shows groups, in JetStream itself                     operators' programs
//
// The steward is the service that computes the next record when nodes join, leave, are lost or have handed over:
//
//	presences ─┐                          ┌─ hint ─▶ followers: Client, Node, Service
//	sessions ──┴─▶ steward ── CAS ─▶ record ┤
//	operators ──────────── CAS ─▶         └─ and every 250 ms again; else read when reconnected, and every 10 s
//
// What is promised:
//   - Each pair of incarnation and epoch is one ring, for ever. Who has read it never goes back to an earlier one.
//   - In groups that hand over, no two nodes act for a partition at the same time: see Node.
//   - Changes are made whole or not at all, one after the other, however many make them at once. A call whose answer was lost says so
//     (ErrUnknown), and finds out before, if it can.
//   - Whoever is cut off goes on with the ring that it has. While no service runs, rings stay in force; only nothing changes.
//   - A record that cannot be read, or that a newer version wrote, is reported, and the last good one stays in force.
//
// What is not: that a client's ring is the newest one. A node that is asked for what it does not own says so, and Client.Request
// goes on to who does.
//
// # Permissions
//
// With the prefix assent, a Client publishes to $JS.API.STREAM.MSG.GET.KV_assent-rings, and to the subjects of the nodes if it
// makes requests (assent.node.> unless they have others); it subscribes to assent.ring.* and to its inbox. It creates nothing
// in JetStream, and sees no stream's description. Who only asks the service publishes to assent.route.
//
// A Node needs that, its presence $KV.assent-rings.<group>.<node>, and what a session takes in the bucket assent-nodes of package
// locks; to make its group, $KV.assent-rings.<group> and assent.ring.<group> too. A Service and Groups need $JS.API.>, $KV.assent-rings.>,
// assent.ring.*, and the service the bucket assent-nodes as well.
//
// docs/routing.md has the protocol, why it is safe, and how it is proven. The ideas are those of Karger et al., "Consistent hashing
// and random trees" (STOC 1997), Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998), and Adya
// et al., "Slicer: auto-sharding for datacenter applications" (OSDI 2016).
package router
