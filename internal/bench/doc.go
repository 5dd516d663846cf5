// SPDX-License-Identifier: Apache-2.0

// Package bench measures Assent against a yardstick that was taken in the same run: what JetStream itself does with single
// publishes, on the same server, the same disk and the same machine. The command `assent bench` prints what it finds.
//
//	raw publishes ──▶ a row of so many clients ──▶ raw publishes ──▶ the next row ──▶ raw publishes ──▶ …
//
// Everything runs in one process, as little as possible of it in process: the participants and the client have TCP
// connections of their own, and the server syncs each message to disk before it acknowledges it. The participants do
// nothing, so that only the protocol is measured.
//
// A row is a closed loop: each of its clients begins the next transaction when the last one has its outcome. What is
// counted is what ended between the end of the warm-up and the end of the row; latencies run from Begin to the return of Commit.
// CPU is the whole process's: server, coordinator, participants and clients together.
//
// Ratios between figures of one run mean something; absolute figures are those of the machine and of what else it did. So
// each row is compared with the samples of the yardstick just before and just after it.
//
// RunLocks measures locks in the same way, for `assent bench locks`. Its rows and its yardstick are each cut in slices, which take turns.
package bench
