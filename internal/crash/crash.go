// SPDX-License-Identifier: Apache-2.0

//go:build !faults || !unix

package crash

// Here is a point at which a fault test may kill or pause the process.
func Here(string) {}

// Window is the fold's de-duplication window in milliseconds, where a fault test shortens it; 0 for the usual one.
func Window() int64 { return 0 }
