// SPDX-License-Identifier: Apache-2.0

// Package tables is what the examples' stores have in common: a bbolt File whose changes share commits, each of which is a sync
// of the disk; its buckets, with their values; and the Journal, which is what a participant has to remember of
// transactions.
package tables
