// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"slices"

	"github.com/assent-tx/assent/messages"
)

// lock is one key, while anybody holds or wants it.
type lock struct {
	name    string
	holders []*want
	// exclusive counts the holders that do not share; more than one only of recalled branches.
	exclusive int
	// queue are those who wait, the oldest first.
	queue []*want
	// Invariant: the first clear of the queue, and only they, could be granted as far as this key goes. They are one, or all
	// shared.
	clear int
}

// want is a branch's part in a lock.
type want struct {
	branch *branch
	lock   *lock
	shared bool
	// at is its place among the holders.
	at int
}

func (w *want) conflicts(other *want) bool { return !w.shared || !other.shared }

// lock gives the lock of a key, which is there as long as somebody takes part in it.
func (t *Table) lock(name string) *lock {
	l := t.locks[name]
	if l == nil {
		l = &lock{name: name}
		t.locks[name] = l
	}
	return l
}

func (t *Table) forget(l *lock) {
	if len(l.holders) == 0 && len(l.queue) == 0 {
		delete(t.locks, l.name)
	}
}

func (l *lock) hold(w *want) {
	w.at = len(l.holders)
	l.holders = append(l.holders, w)
	if !w.shared {
		l.exclusive++
	}
}

func (l *lock) drop(w *want) {
	last := len(l.holders) - 1
	l.holders[w.at] = l.holders[last]
	l.holders[w.at].at = w.at
	l.holders[last] = nil
	l.holders = l.holders[:last]
	if !w.shared {
		l.exclusive--
	}
}

func (l *lock) find(w *want) int {
	at, _ := slices.BinarySearchFunc(l.queue, w, func(a, b *want) int { return a.branch.age.compare(b.branch.age) })
	return at
}

// enqueue puts a want in its place by age. Its branch has counted it as blocked; whoever it is in the way of now is blocked, too.
func (l *lock) enqueue(t *Table, w *want) {
	at := l.find(w)
	l.queue = slices.Insert(l.queue, at, w)
	switch {
	case at >= l.clear:
	case w.shared && l.queue[l.clear].shared: // amid those who share
		l.clear++
		t.unblock(w.branch)
	default:
		for _, behind := range l.queue[at+1 : l.clear+1] {
			behind.branch.blocked++
		}
		l.clear = at
	}
	l.review(t)
}

// dequeue takes a want out of the queue.
func (l *lock) dequeue(w *want) {
	at := l.find(w)
	if at == 0 { // who is granted is mostly the first
		l.queue[0] = nil
		l.queue = l.queue[1:]
	} else {
		l.queue = slices.Delete(l.queue, at, at+1)
	}
	if at < l.clear {
		l.clear--
	}
}

// review moves clear to where it has to be.
func (l *lock) review(t *Table) {
	free := 0
	switch {
	case l.exclusive > 0 || len(l.queue) == 0:
	case l.queue[0].shared:
		for free = max(l.clear, 1); free < len(l.queue) && l.queue[free].shared; {
			free++
		}
	case len(l.holders) == 0:
		free = 1
	}
	for ; l.clear < free; l.clear++ {
		t.unblock(l.queue[l.clear].branch)
	}
	for ; l.clear > free; l.clear-- {
		l.queue[l.clear-1].branch.blocked++
	}
}

// blocks tells who is in a waiter's way here.
func (l *lock) blocks(w *want) (by messages.ID, ok bool) {
	for _, h := range l.holders {
		if h.conflicts(w) {
			return h.branch.age.ID, true
		}
	}
	for _, q := range l.queue[:l.find(w)] {
		if q.conflicts(w) {
			return q.branch.age.ID, true
		}
	}
	return by, false
}
