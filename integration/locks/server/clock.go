// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync/atomic"
	"time"
	_ "unsafe" // for the name of the variable
)

// clockStep is by how many nanoseconds the wall clock of this process is ahead of the machine's. The tests build this program with an
// overlay of the standard library in which time.Now adds it: a clock that is set while a server runs, and that is nobody else's.
// Without the overlay it is a variable that nobody reads.
//
//go:linkname clockStep time.clockStep
var clockStep atomic.Int64

// step sets the clock. Timers and durations do not notice, as with a real clock.
func step(by time.Duration) { clockStep.Add(int64(by)) }
