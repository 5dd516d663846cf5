// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
)

// model is the same table, said in the fewest words: after each event it looks at everybody, until nobody changes any more.
type model struct {
	cfg      Config
	branches []*modelBranch // in the order of age
	effects  []string
}

type modelBranch struct {
	age        Age
	keys       map[string]bool // to shared
	everything bool
	granted    bool
	wounded    bool
	weight     int
	timers     []int64
}

func (a *modelBranch) conflicts(b *modelBranch) bool {
	if a.everything || b.everything {
		return true
	}
	for key, shared := range a.keys {
		if other, both := b.keys[key]; both && (!shared || !other) {
			return true
		}
	}
	return false
}

// free: no conflicting holder, and no older conflicting waiter.
func (m *model) free(b *modelBranch) bool {
	return !slices.ContainsFunc(m.branches, func(o *modelBranch) bool {
		return o != b && o.conflicts(b) && (o.granted || o.age.compare(b.age) < 0)
	})
}

func (m *model) find(id messages.ID) int {
	return slices.IndexFunc(m.branches, func(b *modelBranch) bool { return b.age.ID == id })
}

func (m *model) add(b *modelBranch) {
	m.branches = append(m.branches, b)
	slices.SortFunc(m.branches, func(a, b *modelBranch) int { return a.age.compare(b.age) })
}

func (m *model) grant() {
	for _, b := range m.branches {
		if !b.granted && m.free(b) {
			b.granted = true
			m.effects = append(m.effects, describe(Effect{Kind: Granted, ID: b.age.ID}))
		}
	}
}

func (m *model) request(age Age, keys []Key, weight int, now int64) bool {
	if i := m.find(age.ID); i >= 0 {
		return m.branches[i].granted
	}
	b := &modelBranch{age: age, keys: map[string]bool{}, weight: weight}
	for _, k := range keys {
		b.keys[k.Name] = k.Shared
	}
	m.add(b)
	if m.free(b) {
		b.granted = true
		return true
	}
	if slices.ContainsFunc(m.branches, func(o *modelBranch) bool { return m.fears(b, o) }) {
		b.timers = append(b.timers, now+m.cfg.Grace)
	}
	for m.crowded() {
		waiting := m.waiting()
		last := waiting[len(waiting)-1]
		m.release(last.age.ID)
		m.effects = append(m.effects, describe(Effect{Kind: Crowded, ID: last.age.ID}))
	}
	return false
}

func (m *model) waiting() []*modelBranch {
	return slices.DeleteFunc(slices.Clone(m.branches), func(b *modelBranch) bool { return b.granted })
}

func (m *model) crowded() bool {
	weight, waiting := 0, m.waiting()
	for _, b := range waiting {
		weight += b.weight
	}
	return len(waiting) > m.cfg.Waiting || (weight > m.cfg.Weight && len(waiting) > 1)
}

func (m *model) fears(b, holder *modelBranch) bool {
	return holder.granted && holder.conflicts(b) && (holder.everything || b.age.compare(holder.age) < 0)
}

func (m *model) release(id messages.ID) {
	if i := m.find(id); i >= 0 {
		m.branches = slices.Delete(m.branches, i, i+1)
	}
	m.grant()
}

func (m *model) hold(id messages.ID, keys []Key, everything bool, now int64) {
	m.release(id)
	b := &modelBranch{age: Age{youngest, id}, keys: map[string]bool{}, everything: everything, granted: true}
	for _, k := range keys {
		b.keys[k.Name] = k.Shared
	}
	m.add(b)
	for _, o := range m.branches {
		if !o.granted {
			o.timers = append(o.timers, now+m.cfg.Grace)
		}
	}
}

func (m *model) tick(now int64) {
	for _, b := range m.branches {
		due := slices.ContainsFunc(b.timers, func(at int64) bool { return at <= now })
		b.timers = slices.DeleteFunc(b.timers, func(at int64) bool { return at <= now })
		for _, h := range m.branches {
			if due && !b.granted && !h.wounded && m.fears(b, h) {
				h.wounded = true
				m.effects = append(m.effects, "wound "+name(h.age.ID))
			}
		}
	}
}

func name(id messages.ID) string { return fmt.Sprint(id[15]) }

func describe(e Effect) string {
	switch e.Kind {
	case Granted:
		return "grant " + name(e.ID)
	case Crowded:
		return "crowded " + name(e.ID)
	default:
		return "wound " + name(e.ID) // by whom, of several, is no matter
	}
}

func id(n int) messages.ID { return messages.ID{6: 0x70, 8: 0x80, 15: byte(n)} }

func drawKeys(t *rapid.T) []Key {
	var keys []Key
	for _, name := range []string{"a", "b", "c"} {
		switch rapid.IntRange(0, 3).Draw(t, name) {
		case 1:
			keys = append(keys, Key{name, true})
		case 2:
			keys = append(keys, Key{name, false})
		}
	}
	return keys
}

// TestTableModelProperty: whatever comes, the table and the model say the same; and of what the table says, no two holders
// conflict that were not both recalled, and nobody waits for nothing.
func TestTableModelProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Grace: int64(rapid.SampledFrom([]int{0, 10, 10}).Draw(t, "grace")), Waiting: rapid.IntRange(1, 6).Draw(t, "waiting"), Weight: 50}
		table, m, now := New(cfg), &model{cfg: cfg}, int64(0)
		branch := func() messages.ID { return id(rapid.IntRange(1, 9).Draw(t, "branch")) }
		t.Repeat(map[string]func(*rapid.T){
			"request": func(t *rapid.T) {
				age := Age{int64(rapid.IntRange(1, 5).Draw(t, "since")), branch()}
				keys, weight := drawKeys(t), rapid.IntRange(0, 60).Draw(t, "weight")
				if got, want := table.Request(age, keys, weight, now), m.request(age, keys, weight, now); got != want {
					t.Fatalf("request of %s is granted %v, want %v", name(age.ID), got, want)
				}
			},
			"release": func(*rapid.T) { b := branch(); table.Release(b); m.release(b) },
			"cancel": func(*rapid.T) {
				b := branch()
				table.Cancel(b)
				if i := m.find(b); i >= 0 && !m.branches[i].granted {
					m.release(b)
				}
			},
			"hold": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "rare") == 0 {
					b, keys, everything := branch(), drawKeys(t), rapid.IntRange(0, 2).Draw(t, "everything") == 0
					table.Hold(b, keys, everything, now)
					m.hold(b, keys, everything, now)
				}
			},
			"time": func(t *rapid.T) {
				now += int64(rapid.IntRange(0, 12).Draw(t, "time"))
				table.Tick(now)
				m.tick(now)
			},
			"": func(t *rapid.T) { same(t, table, m) },
		})
		for n := range 10 { // all that ends, ends; nothing is left
			table.Release(id(n))
			m.release(id(n))
			same(t, table, m)
		}
		if len(table.locks)+len(table.branches)+len(table.waiting)+len(table.everything)+table.weight != 0 {
			t.Fatalf("something is left: %+v", table)
		}
	})
}

func same(t *rapid.T, table *Table, m *model) {
	var got []string
	for _, e := range table.Take() {
		got = append(got, describe(e))
	}
	slices.Sort(got) // wounds of one moment: in whatever order
	want := slices.Clone(m.effects)
	slices.Sort(want)
	if m.effects = nil; !slices.Equal(got, want) {
		t.Fatalf("effects %q, want %q", got, want)
	}
	holding, waiting := 0, 0
	for _, b := range m.branches {
		key, _, waits := table.Waits(b.age.ID)
		if known := table.branches[b.age.ID]; known == nil || known.granted != b.granted || waits == b.granted {
			t.Fatalf("%s is %+v, want %+v", name(b.age.ID), known, b)
		}
		if _, wanted := b.keys[key]; waits && key != "" && !wanted {
			t.Fatalf("%s waits for %q, which it does not want", name(b.age.ID), key)
		}
		if b.granted {
			holding++
		} else {
			waiting++
		}
	}
	if h, w := table.Len(); h != holding || w != waiting {
		t.Fatalf("%d hold and %d wait, want %d and %d", h, w, holding, waiting)
	}
}
