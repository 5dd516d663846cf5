// SPDX-License-Identifier: Apache-2.0

package groupcommit

// Lanes counts the lanes that a Batcher keeps.
func Lanes[T any](b *Batcher[T]) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lanes)
}
