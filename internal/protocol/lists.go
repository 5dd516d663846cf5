// SPDX-License-Identifier: Apache-2.0

package protocol

import "slices"

// lists holds lists of participants by number. Equal lists are one: there are few, and many transactions.
type lists struct {
	numbers map[string]uint32
	all     []list
	free    []uint32
	key     []byte
}

// list is one of them. Invariant: names never changes while uses is not 0, nor later for who was given it.
type list struct {
	names []string
	key   string
	uses  int
}

func (l *lists) init() { l.numbers = make(map[string]uint32) }

// take gives the number of a list, which is kept until it is released as often as it was taken.
func (l *lists) take(names []string) uint32 {
	l.key = l.key[:0]
	for _, name := range names {
		l.key = append(append(l.key, name...), '.') // which no name has
	}
	if number, ok := l.numbers[string(l.key)]; ok {
		l.all[number].uses++
		return number
	}
	number := uint32(len(l.all))
	if last := len(l.free) - 1; last >= 0 {
		number, l.free = l.free[last], l.free[:last]
	} else {
		l.all = append(l.all, list{})
	}
	key := string(l.key)
	l.all[number], l.numbers[key] = list{slices.Clone(names), key, 1}, number
	return number
}

func (l *lists) names(number uint32) []string { return l.all[number].names }

func (l *lists) release(number uint32) {
	held := &l.all[number]
	if held.uses--; held.uses > 0 {
		return
	}
	delete(l.numbers, held.key)
	*held = list{}
	l.free = append(l.free, number)
}
