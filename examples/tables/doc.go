// SPDX-License-Identifier: Apache-2.0

// Package tables is what the examples' stores are made of: buckets of a bbolt file whose values are JSON, and commits that
// do not sync the disk when nothing has changed.
package tables
