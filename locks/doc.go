// SPDX-License-Identifier: Apache-2.0

// Package locks gives distributed locks, semaphores and elections on NATS JetStream, to any Go program: nothing else needs to
// run.
//
// A Session is a process's claim to be alive. While it is renewed it holds what was taken by it; when it is not, because
// the process died, was paused or was cut off, others take over after its TTL. Locks go to those who wait in the order in
// which they came. Each grant has a fencing Token.
//
// What is promised:
//   - While clocks run at the same rate within one in a hundred, no two sessions believe at the same time that they hold
//     an exclusive lock: Lock.Err turns before anybody else gets it. Steps of any clock change nothing.
//   - Tokens of a key grow strictly from one exclusive grant to the next, whatever clocks do. A resource that checks them
//     (package fence) is safe also from a holder that looked at Lock.Err and was paused right afterwards.
//   - A call says held, not held, or unknown, and never guesses.
//   - A lock that was acknowledged survives what the stream survives: kill -9 of everything, and with sync_interval: always
//     the loss of power.
//
// Without tokens, a lock saves work, and nothing more: no lease can stop a process between looking at it and acting (Gray and
// Cheriton, "Leases", SOSP 1989; Kleppmann, "How to do distributed locking", 2016).
//
//	free ──Lock: one write──▶ held ──Unlock: one write──▶ free, or held by the next in the queue
//	                           │
//	                           └─ session not renewed for its TTL ──▶ ended by who waits ──▶ held by the next
//
// docs/locks.md has the algorithm and why it is safe.
package locks
