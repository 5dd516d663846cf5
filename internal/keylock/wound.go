// SPDX-License-Identifier: Apache-2.0

package keylock

// timer is when it is to be seen whether a waiter still waits for a younger holder.
type timer struct {
	at     int64
	branch *branch
}

// fears tells whether a waiter waits for a younger one that holds.
func (t *Table) fears(b *branch) bool {
	if len(t.everything) > 0 {
		return true
	}
	for i := range b.wants {
		for _, h := range b.wants[i].lock.holders {
			if h.conflicts(&b.wants[i]) && b.age.compare(h.branch.age) < 0 {
				return true
			}
		}
	}
	return false
}

// watch sets a waiter's timer. All timers run equally long, so they are in order.
func (t *Table) watch(b *branch, now int64) {
	if t.cfg.Grace < 0 {
		return
	}
	if len(t.timers) > 64+4*len(t.waiting) { // most are of branches that wait no more
		t.compact()
	}
	t.timers = append(t.timers, timer{now + t.cfg.Grace, b})
}

func (t *Table) compact() {
	kept := t.timers[:0]
	for _, timer := range t.timers {
		if t.waits(timer.branch) {
			kept = append(kept, timer)
		}
	}
	clear(t.timers[len(kept):])
	t.timers = kept
}

// waits: not one that has gone, and perhaps come back.
func (t *Table) waits(b *branch) bool { return t.branches[b.age.ID] == b && !b.granted }

// Tick wounds younger holders that older ones have waited for long enough. Each is wounded once.
func (t *Table) Tick(now int64) {
	due := 0
	for ; due < len(t.timers) && t.timers[due].at <= now; due++ {
		if b := t.timers[due].branch; t.waits(b) {
			t.wound(b)
		}
	}
	if due > 0 {
		left := copy(t.timers, t.timers[due:])
		clear(t.timers[left:])
		t.timers = t.timers[:left]
	}
}

func (t *Table) wound(by *branch) {
	for i := range by.wants {
		w := &by.wants[i]
		for _, h := range w.lock.holders {
			if h.conflicts(w) && by.age.compare(h.branch.age) < 0 {
				t.woundOne(h.branch, w.lock.name, by)
			}
		}
	}
	for _, b := range t.everything {
		t.woundOne(b, "", by)
	}
}

func (t *Table) woundOne(b *branch, key string, by *branch) {
	if !b.wounded {
		b.wounded = true
		t.effects = append(t.effects, Effect{Kind: Wound, ID: b.age.ID, Key: key, By: by.age.ID})
	}
}
