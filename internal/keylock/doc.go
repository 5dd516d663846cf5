// SPDX-License-Identifier: Apache-2.0

// Package keylock is the table of the keys that branches lock at one participant: strict two-phase locking with shared and
// exclusive keys. It is pure, as internal/protocol is: events in, effects out; no I/O, clock, goroutine or logger.
//
// A branch asks for all its keys at once, and has them until it is released: it never waits for one while it holds another
// here. Each key has one queue, ordered by age. A branch is granted when, at each of its keys, no conflicting holder is there
// and no older conflicting waiter is before it. So a younger branch waits for older ones, which come to an end, and the only
// one that can wait for a younger one is a branch that came after that one was granted.
//
// Those are the only edges by which branches of several tables can wait for each other in a circle: going round any circle of
// waits, somewhere an older one waits for a younger one that holds. A Wound says that this has lasted for Config.Grace.
// Whoever carries it out must bring the younger one to its end, if that is possible at all. With that no circle lasts.
//
// What it guarantees: no two holders conflict (but for those that were recalled, which it is told of); no waiter is left
// when it can be granted; the oldest waiter of all is never turned away. An event costs as much as the branch has keys,
// and the logarithm of those who wait.
package keylock
