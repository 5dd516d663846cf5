// SPDX-License-Identifier: Apache-2.0

// Package integration tests Assent with real servers, real processes and real kills. It has tests only, one file an
// anomaly, with the anomaly's history in its comment.
//
// The processes (node/) are built once a run, with the crash points of internal/crash in them. Each process reaches the
// server through a proxy of its own in the test (internal/link), which can go deaf or break; clients are in the test.
//
// After every fault the test heals what it broke, and the checker (check_test.go) asserts what the design promises:
// every transaction has one outcome, on which the client's answer, the log (read by a second, dumb fold) and the
// participants' stores agree; none is open, none in doubt; the total of all money is what it was.
//
//	go test ./integration/                          a sample of everything, a minute or two
//	go test ./integration/ -faults.all -timeout 0   every crash point by every other, and the large numbers
//	go test ./integration/ -faults.seed 42          the workload of a failure, which printed its seed
//
// A failure keeps the data and the logs of all processes, and says where.
package integration
