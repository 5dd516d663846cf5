// SPDX-License-Identifier: Apache-2.0

package keylock

// nowhere is the place of a branch that is not in the crowd.
const nowhere = -1

// crowd is a binary heap of the branches that wait, the youngest on top, each of which knows its place.
type crowd []*branch

func (c crowd) put(i int, b *branch) { c[i], b.at = b, i }

func (c *crowd) push(b *branch) {
	*c = append(*c, b)
	c.up(len(*c)-1, b)
}

// remove takes a branch out, if it is in.
func (c *crowd) remove(b *branch) (was bool) {
	at := b.at
	if at == nowhere {
		return false
	}
	b.at = nowhere
	last := len(*c) - 1
	moved := (*c)[last]
	(*c)[last] = nil
	*c = (*c)[:last]
	if at < last {
		c.up(at, moved)
		c.down(moved.at, moved)
	}
	return true
}

func (c crowd) up(i int, b *branch) {
	for i > 0 {
		parent := (i - 1) / 2
		if c[parent].age.compare(b.age) > 0 {
			break
		}
		c.put(i, c[parent])
		i = parent
	}
	c.put(i, b)
}

func (c crowd) down(i int, b *branch) {
	for {
		child := 2*i + 1
		if child+1 < len(c) && c[child+1].age.compare(c[child].age) > 0 {
			child++
		}
		if child >= len(c) || c[child].age.compare(b.age) < 0 {
			c.put(i, b)
			return
		}
		c.put(i, c[child])
		i = child
	}
}
