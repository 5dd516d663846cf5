// SPDX-License-Identifier: Apache-2.0

// Package locks tests the locks of package locks with real servers, real processes and real faults.
//
// Client processes (client/) run a seeded random workload over few keys. Each writes down what it asks and what it is
// told, before and after every call, with the machine's monotonic clock (history/), so that a process that is killed
// leaves an operation without an end. The test merges the histories and checks (check_test.go) that
//
//   - there is one order of all grants, releases and expiries that agrees with what everyone was told (porcupine;
//     Herlihy and Wing, "Linearizability", 1990): nobody is granted what another holds, and fencing tokens only grow;
//   - no two believe at one moment that they hold what excludes the other;
//   - a resource that compares tokens never goes back;
//   - whoever was refused was refused because of somebody, and in the end every key can be had.
//
// Servers (server/) are one process, or three that replicate. Between them and the clients stands a proxy (proxy_test.go)
// that reads the NATS protocol and can lose, delay or repeat single messages; partitions are made with it and with network namespaces
// too, where the machine allows them.
//
//	go test ./integration/locks                                         a short run of every fault, under a minute
//	go test ./integration/locks -timeout 0 -locks.all -locks.duration 5m   the long run: every fault for so long
//	go test ./integration/locks -locks.seed 42                           the workload of a failure, which printed its seed
//
// A failure keeps the histories, the logs of all processes and porcupine's picture of it, and says where.
package locks
