// SPDX-License-Identifier: Apache-2.0

// The command sharded is a small sharded key-value store with transactions over all its keys, as an application would write it on
// Assent, and a story that shows it:
//
//	go run ./examples/sharded
//
// Three nodes share the keys of a group. While money moves between random keys, a fourth node is added, and the first one is taken
// out. Then every key is asked for: none is lost, each has the value that it must have, and the sum of all is what it was.
//
// # How it is made
//
// A node is two things of one name in a process (node.go): a router.Node, which knows of which keys this is the node now; and a
// participant.Participant, which transactions find by their keys. They are tied together by one line:
//
//	p, err := participant.New(nc, participant.Config{Name: name, Batch: store, Ownership: node})
//
// A transaction names keys, never nodes (client.go). It is one branch at each node that has some of them, and it happens at all or
// at none:
//
//	tx := client.Begin()
//	tx.EnlistKey("kv", "account/7", add(-30, 0)) // refused if less than 0 would be left
//	tx.EnlistKey("kv", "account/9", add(30, 0))
//	tx.EnlistKey("kv", "note/1", put("paid"))
//	err := tx.Commit(ctx)
//
// If a key moves meanwhile, Commit tries again at the new node. A read needs no transaction: router.Client.Request asks the node of
// the key, wherever that is, and router.Node.Serve answers while the key is surely there.
//
// # What a node does with a branch
//
// Prepare (branch.go) works out what each key will be, notes that in the Journal, and holds the keys: nobody else changes them until
// the transaction has ended. Who finds a key held is refused at once and may try again: two that waited for each other, on two
// nodes, would wait for ever. (The bank of examples/bank does otherwise: it holds amounts, not accounts, so that many transactions
// can be at one account.) Commit puts the new values in place, rollback lets go of the keys. All of a batch is one commit of
// the file, and one sync of the disk.
//
// A client hears that its transaction is committed before each node has applied it. So a read that finds a key held asks again
// (client.get), and sees everything that anybody was told before.
//
// # What happens when nodes come and go
//
// The ring moves as few partitions as can be, some at a time. For each of them the router lets the node finish what it has in hand,
// calls Release, which sends the partition's keys to the next node page by page and has them made durable there, and only when
// that has succeeded does the ring say, in a later epoch, that it is the next node's. Then that Acquires it, and the first
// one Drops its copy. Package handover does this for a bbolt file, and says what it has to bear. So at no time do two nodes act for
// a key, and at no time is there no whole copy of it.
//
// The group is of kind router.Data: a node that is lost keeps its keys until it is back on its file, because nobody else has them.
package main
