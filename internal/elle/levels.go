// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"cmp"
	"slices"
	"strings"
)

// Verdict says of a level of isolation whether the history may be one of it.
type Verdict struct {
	Level string `json:"level"`
	// Holds: nothing in the history speaks against it. Unsure: nothing does, but the search was cut short.
	Holds  bool `json:"holds"`
	Unsure bool `json:"unsure,omitempty"`
	// Against are the classes of anomalies that speak against it.
	Against []Class `json:"against,omitempty"`
}

// The levels, the strongest first.
const (
	StrictSerializable = "strict serializable"
	Serializable       = "serializable"
	SnapshotIsolation  = "snapshot isolation"
	ReadCommitted      = "read committed"
	ReadUncommitted    = "read uncommitted"
)

// levels are what each level rules out beside what the next weaker one does. (Adya 1999; for snapshot isolation Cerone, Bernardi
// and Gotsman 2015: in each of its cycles two rw are in a row.)
var levels = []struct {
	name     string
	rulesOut []Class
}{
	{StrictSerializable, []Class{LostAppend}}, // and whatever ends in Process or Realtime
	{Serializable, []Class{G2Item, NegativeBalance}},
	{SnapshotIsolation, []Class{Internal, LostUpdate, GSingle, GNonadjacent, WrongTotal}},
	{ReadCommitted, []Class{G1a, G1b, G1c, IncompatibleOrder}},
	{ReadUncommitted, []Class{G0, DuplicateElements, GarbageRead}},
}

// level is the index of the weakest level that a class rules out.
func (class Class) level() int {
	for i := range levels {
		if slices.Contains(levels[i].rulesOut, class) {
			return i
		}
	}
	return 0
}

// rank orders classes for people: the worst first.
func rank(class Class) int {
	base := Class(strings.TrimSuffix(strings.TrimSuffix(string(class), Realtime), Process))
	ordered := base != class
	at, count := 0, 0
	for i := len(levels) - 1; i >= 0; i-- {
		if j := slices.Index(levels[i].rulesOut, base); j >= 0 {
			at = count + j
		}
		count += len(levels[i].rulesOut)
	}
	if ordered {
		return at + count
	}
	return at
}

// verdicts judges each level by what was found.
func verdicts(r *Report) []Verdict {
	all := make([]Verdict, len(levels))
	for i := range levels {
		v := Verdict{Level: levels[i].name}
		for class := range r.Counts {
			if class.level() >= i {
				v.Against = append(v.Against, class)
			}
		}
		slices.SortFunc(v.Against, func(a, b Class) int { return cmp.Compare(rank(a), rank(b)) })
		v.Holds = len(v.Against) == 0
		v.Unsure = v.Holds && r.Truncated && v.Level == SnapshotIsolation
		all[i] = v
	}
	return all
}
