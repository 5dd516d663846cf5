// SPDX-License-Identifier: Apache-2.0

// Package elle finds isolation anomalies in what clients observed of transactions, after K. Kingsbury and P. Alvaro, "Elle:
// Inferring Isolation Anomalies from Experimental Observations", VLDB 2020. It is pure: a history in, a report out.
//
// # How it works
//
// Transactions append to lists and read them. A read of a list tells every version that it had, in order, since each value
// is appended once (section 4.2 of the paper, "recoverability" and "traceability"). From that follow the dependencies
// between transactions (Adya's):
//
//	ww  T2 installed the version after T1's       T1 appended 1, T2 appended 2; somebody read [1 2]
//	wr  T2 read the version that T1 installed     T1 appended 1, T2 read [1]
//	rw  T2 installed the version after T1's read  T1 read [1], T2 appended 2
//	process, realtime  T1 ended before T2 began   by one process, or by any two
//
// A cycle of them means that there is no order in which the transactions could have run one after the other; which edges
// it has says which level of isolation it rules out. Cycles lie within strongly connected components (Tarjan 1972), in which
// a shortest one of each class is looked for:
//
//	G0              ww only                              dirty write
//	G1c             ww and wr                            circular information flow
//	G-single        exactly one rw                       read skew, lost update
//	G-nonadjacent   several rw, no two in a row          long fork's stronger kin
//	G2-item         two rw in a row                      write skew
//	…-process, …-realtime   the same, and an edge of that kind: only an order that contradicts what clients saw would do
//
// Beside cycles it finds G1a (a value of a transaction that failed was read), G1b (a value that its writer overwrote was read), internal
// (a transaction does not see its own operations), lost-update, lost-append, incompatible-order, duplicate-elements and
// garbage-read. A bank's history is checked for its sum.
//
// # What it promises
//
// What it reports is an anomaly in every execution that explains the observations (soundness), provided that clients reported
// what they saw. Whether there is a cycle at all is decided exactly, so the verdicts on strict serializability and serializability,
// read committed and read uncommitted are what the observed dependencies say. The search for the class of a cycle has a bound on its work, after which
// Report.Truncated is set; then there may be more classes than reported. What nobody read is not known: a history has to end with
// reads.
//
// Time and memory grow linearly with the history, but for the search in components that have cycles.
package elle
