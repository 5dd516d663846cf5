// SPDX-License-Identifier: Apache-2.0

// Package ring says which node of a group owns a key: consistent hashing by a table of partitions, in which no node has
// more than its part and nothing moves that need not. It is pure: no I/O, no clock, no randomness.
package ring
