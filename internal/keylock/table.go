// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// Config bounds a Table.
type Config struct {
	// Grace is how long an older branch waits for a younger one that holds a key, in the milliseconds of now, before the
	// younger one is wounded; negative: for ever.
	Grace int64
	// Waiting is how many branches may wait, and Weight how much they may weigh together; over either the youngest is turned
	// away. 0 means DefaultWaiting and DefaultWeight.
	Waiting, Weight int
}

// The bounds of what waits: branches, and what they weigh, in bytes.
const (
	DefaultWaiting = 16_384
	DefaultWeight  = 64 << 20
)

// Key is a key and how it is wanted.
type Key struct {
	Name   string
	Shared bool
}

// Age orders branches: who began earlier goes first. Since is in Unix microseconds.
type Age struct {
	Since int64
	ID    messages.ID
}

func (a Age) compare(b Age) int {
	if c := cmp.Compare(a.Since, b.Since); c != 0 {
		return c
	}
	return bytes.Compare(a.ID[:], b.ID[:])
}

// youngest is the Since of those that were recalled: nobody knows how old they are.
const youngest = int64(1)<<62 - 1

// Kind is what an Effect says.
type Kind uint8

// The effects.
const (
	// Granted: a branch that waited has its keys.
	Granted Kind = iota + 1
	// Wound: the branch holds Key, for which the older branch By has waited for the grace. It has to end.
	Wound
	// Crowded: the branch does not wait any more, because there are too many.
	Crowded
)

// Effect is what a table wants to be known.
type Effect struct {
	Kind Kind
	ID   messages.ID
	Key  string
	By   messages.ID
}

// Table is the table. It has one owner: no method may run beside another.
type Table struct {
	cfg      Config
	locks    map[string]*lock
	branches map[messages.ID]*branch
	// waiting has the branches that wait, as a heap with the youngest on top; weight is what they weigh.
	waiting crowd
	weight  int
	// everything are the holders of all keys; while there are any, nobody is granted anything.
	everything []*branch
	// ready are branches that nothing stands in the way of; empty between events.
	ready   []*branch
	timers  []timer
	effects []Effect
}

// branch is what the table knows of one: it holds all its keys, or waits for them.
type branch struct {
	age   Age
	wants []want
	// Invariant: blocked counts the wants that are not clear, and one more if barred; a waiter's is never 0 between events.
	blocked int
	// barred: it waits for a holder of everything, too.
	barred  bool
	granted bool
	wounded bool
	// came is when it began to wait.
	came   int64
	weight int
	// at is its place in Table.waiting.
	at int
}

// New gives a table of which nothing is locked.
func New(cfg Config) *Table {
	if cfg.Waiting <= 0 {
		cfg.Waiting = DefaultWaiting
	}
	if cfg.Weight <= 0 {
		cfg.Weight = DefaultWeight
	}
	return &Table{cfg: cfg, locks: make(map[string]*lock), branches: make(map[messages.ID]*branch)}
}

// Request wants keys for a branch, each named once, and tells whether it has them now. If not, it waits, until a Granted or
// a Crowded, which may come of this very event, or until it is released. One that is here already is told how it stands. weight
// is how much memory its waiting takes, in bytes.
func (t *Table) Request(age Age, keys []Key, weight int, now int64) (granted bool) {
	if b := t.branches[age.ID]; b != nil {
		return b.granted
	}
	b := &branch{age: age, wants: make([]want, len(keys)), came: now, weight: weight, at: nowhere}
	t.branches[age.ID] = b
	for i, key := range keys {
		b.wants[i] = want{branch: b, lock: t.lock(key.Name), shared: key.Shared}
	}
	b.blocked = 1 + len(keys) // one for not being ready while it is only half asked
	for i := range b.wants {
		b.wants[i].lock.enqueue(t, &b.wants[i])
	}
	if b.barred = len(t.everything) > 0; !b.barred {
		b.blocked--
	}
	if b.blocked == 0 {
		t.grant(b)
		return true
	}
	t.waiting.push(b)
	t.weight += weight
	if t.fears(b) {
		t.watch(b, now)
	}
	for len(t.waiting) > t.cfg.Waiting || (t.weight > t.cfg.Weight && len(t.waiting) > 1) {
		turned := t.waiting[0]
		t.Release(turned.age.ID)
		t.effects = append(t.effects, Effect{Kind: Crowded, ID: turned.age.ID})
	}
	return false
}

// stopWaiting takes a branch out of those that wait, if it is one.
func (t *Table) stopWaiting(b *branch) {
	if t.waiting.remove(b) {
		t.weight -= b.weight
	}
}

// Hold says that a branch holds keys from before the table was, whatever others hold. It counts as the youngest of all. With everything it
// holds all keys that there are.
func (t *Table) Hold(id messages.ID, keys []Key, everything bool, now int64) {
	if t.branches[id] != nil {
		t.Release(id)
	}
	b := &branch{age: Age{youngest, id}, wants: make([]want, len(keys)), granted: true, at: nowhere}
	t.branches[id] = b
	for i, key := range keys {
		b.wants[i] = want{branch: b, lock: t.lock(key.Name), shared: key.Shared}
		b.wants[i].lock.hold(&b.wants[i])
		b.wants[i].lock.review(t)
	}
	if everything {
		t.everything = append(t.everything, b)
	}
	for _, waiter := range t.waiting {
		if everything && !waiter.barred {
			waiter.barred = true
			waiter.blocked++
		}
		t.watch(waiter, now)
	}
}

// Release ends a branch: its keys are free, or it waits no more. For a branch that is not here it does nothing.
func (t *Table) Release(id messages.ID) {
	b := t.branches[id]
	if b == nil {
		return
	}
	delete(t.branches, id)
	t.stopWaiting(b)
	for i := range b.wants {
		w := &b.wants[i]
		if b.granted {
			w.lock.drop(w)
		} else {
			w.lock.dequeue(w)
		}
		w.lock.review(t)
		t.forget(w.lock)
	}
	if i := slices.Index(t.everything, b); i >= 0 {
		t.everything = slices.Delete(t.everything, i, i+1)
		t.unbar()
	}
	t.settle()
}

// Cancel ends the waiting of a branch; one that holds its keys keeps them.
func (t *Table) Cancel(id messages.ID) {
	if b := t.branches[id]; b != nil && !b.granted {
		t.Release(id)
	}
}

// unbar lets those go on who waited for a holder of everything, when none is left.
func (t *Table) unbar() {
	if len(t.everything) > 0 {
		return
	}
	for _, b := range t.waiting {
		if b.barred {
			b.barred = false
			t.unblock(b)
		}
	}
}

func (t *Table) unblock(b *branch) {
	if b.blocked--; b.blocked == 0 {
		t.ready = append(t.ready, b)
	}
}

// settle grants what is ready, in the order of age. Nobody is in another's way: of those that are ready at one key all share
// it.
func (t *Table) settle() {
	if len(t.ready) == 0 {
		return
	}
	slices.SortFunc(t.ready, func(a, b *branch) int { return a.age.compare(b.age) })
	for _, b := range t.ready {
		if b.blocked == 0 && !b.granted {
			t.grant(b)
			t.effects = append(t.effects, Effect{Kind: Granted, ID: b.age.ID})
		}
	}
	clear(t.ready)
	t.ready = t.ready[:0]
}

func (t *Table) grant(b *branch) {
	b.granted = true
	t.stopWaiting(b)
	for i := range b.wants {
		w := &b.wants[i]
		w.lock.dequeue(w)
		w.lock.hold(w)
		w.lock.review(t)
	}
}

// Take gives the effects since the last Take, in order. The slice is used again: it is valid until the next event.
func (t *Table) Take() []Effect {
	taken := t.effects
	t.effects = t.effects[:0]
	return taken
}

// Len counts the branches that hold keys, and those that wait.
func (t *Table) Len() (holding, waiting int) {
	return len(t.branches) - len(t.waiting), len(t.waiting)
}

// Oldest is when the branch that has waited longest began to, in the milliseconds of now; zero when none waits. It looks at all
// that wait.
func (t *Table) Oldest() (came int64) {
	for i, b := range t.waiting {
		if i == 0 || b.came < came {
			came = b.came
		}
	}
	return came
}

// Waits tells of a branch that waits: a key that it waits for, and who holds it or is before it, as far as somebody in particular is.
func (t *Table) Waits(id messages.ID) (key string, by messages.ID, waits bool) {
	b := t.branches[id]
	if b == nil || b.granted {
		return "", messages.ID{}, false
	}
	for i := range b.wants {
		if by, ok := b.wants[i].lock.blocks(&b.wants[i]); ok {
			return b.wants[i].lock.name, by, true
		}
	}
	if len(t.everything) > 0 {
		by = t.everything[0].age.ID
	}
	return "", by, true
}
