// SPDX-License-Identifier: Apache-2.0

// Command assent runs Assent and talks to it: `assent serve` is a coordinator with a NATS server in the process,
// `assent tx` runs transactions and shows what became of them, `assent demo` shows that it works while processes are killed.
// docs/cli.md describes every command.
//
// This package is flags, signals, wiring and output; one file a command. root.go has what the commands share: the connection, the
// output as text or as one JSON object, and the exit codes.
package main
