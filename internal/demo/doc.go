// SPDX-License-Identifier: Apache-2.0

// Package demo is `assent demo`: money moves between two banks while processes are killed, and afterwards everybody is
// asked what happened.
//
// The cluster is three operating system processes of the assent program: `assent serve` (coordinator and NATS server in
// one) and two banks of examples/bank. The load is a closed loop of clients in this process. Faults are kill -9 and a restart
// on the same data, each at a part of the load's way, so that the load is under way whenever one comes.
//
//	load  ├────────────┬────────────┬────────────┬────────────┤ settle ─▶ quiet ─▶ stop ─▶ check
//	kill            bank-a        serve       bank-b
//
// The check believes nobody: what clients were told, what the log says (read and folded anew, not asked of the coordinator)
// and what stands in both banks' files must be the same for every single transfer, and every account must hold what the
// committed transfers make of it.
package demo
