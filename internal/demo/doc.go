// SPDX-License-Identifier: Apache-2.0

// Package demo is `assent demo`: money moves between banks while processes are killed, or nodes come and go, and afterwards
// everybody is asked what happened.
//
// The cluster is operating system processes of the assent program: `assent serve` (coordinator and NATS server in one) and banks
// of examples/bank. The load is a closed loop of clients in this process. Who holds the accounts is a scene, and what happens
// meanwhile its script: one thing after the other, each at a part of the load's way, so that the load is under way
// whenever one comes.
//
//   - Two banks with accounts of their own. Faults are kill -9 and a restart on the same data:
//
//     load  ├────────────┬────────────┬────────────┬────────────┤ settle ─▶ quiet ─▶ stop ─▶ check
//     kill            bank-a        serve       bank-b
//
//   - Nodes of a group that share its accounts. They are killed in the same way, or
//
//     load     ├────────────┬────────────┬────────────┤ settle ─▶ quiet ─▶ stop ─▶ check
//     change            + a node     − a node
//
// The check believes nobody: what clients were told, what the log says (read and folded anew, not asked of the coordinator)
// and what stands in all banks' files must be the same for every single transfer, and every account must hold what the
// committed transfers make of it. One that met keys which moved was tried again under the next id: then all of its ids are looked
// at. Of nodes each account must be where the ring says, and in no other file.
package demo
