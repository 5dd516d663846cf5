// SPDX-License-Identifier: Apache-2.0

// Package crash marks the places where a fault test kills or pauses the process: before and after every durable step.
//
// In a normal build Here is an empty function that the compiler removes. Built with -tags faults it obeys two
// environment variables, each of which names one point:
//
//	ASSENT_CRASH=coordinator.decided        SIGKILL to the own process at the first pass
//	ASSENT_CRASH=coordinator.decided:3      … at the third
//	ASSENT_CRASH=coordinator.decided:3:20ms … 20 ms after the third pass began, which does not go on meanwhile
//	ASSENT_STOP=coordinator.decided:3       SIGSTOP instead: the pass goes on when somebody sends SIGCONT
//
// With a delay the other goroutines do go on: what the process has handed to its connection before the point leaves.
// Without one it is most likely lost. Both happen in life.
package crash
