// SPDX-License-Identifier: Apache-2.0

// Package handoff is the part of the router that decides who acts for a partition, and when it passes from one node to another. It is
// pure: no I/O, no clock, no goroutine, no randomness. Time arrives as data, and what is to be done leaves as data.
package handoff
