// SPDX-License-Identifier: Apache-2.0

//go:build race

package locks

// raceEnabled: the processes are built with the race detector too.
const raceEnabled = true
