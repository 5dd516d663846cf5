// SPDX-License-Identifier: Apache-2.0

package ring

import "math/bits"

// queue gives choices, the best one first. Most are made once and only have to be sorted, at a fraction of what a heap
// takes for them; those that are made anew are in a heap.
type queue struct {
	choices []choice
	sorted  []entry
	anew    []entry // a heap
	// fromAnew says where the first one is.
	fromAnew bool
}

// entry is a choice's score, and its place among the choices.
type entry struct {
	score uint64
	at    int32
}

func newQueue(choices []choice) *queue {
	q := &queue{choices: choices, sorted: make([]entry, len(choices))}
	for i := range choices {
		q.sorted[i] = entry{choices[i].score, int32(i)}
	}
	q.sort()
	return q
}

// first is the best choice. There must be one.
func (q *queue) first() *choice {
	q.fromAnew = len(q.sorted) == 0 || len(q.anew) > 0 && q.before(q.anew[0], q.sorted[0])
	if q.fromAnew {
		return &q.choices[q.anew[0].at]
	}
	return &q.choices[q.sorted[0].at]
}

// pop takes the first out.
func (q *queue) pop() {
	if !q.fromAnew {
		q.sorted = q.sorted[1:]
		return
	}
	last := len(q.anew) - 1
	q.anew[0] = q.anew[last]
	q.anew = q.anew[:last]
	q.down()
}

// worsened puts the first in its place again after it was changed for a worse one.
func (q *queue) worsened() {
	if q.fromAnew {
		q.anew[0].score = q.choices[q.anew[0].at].score
		q.down()
		return
	}
	at := q.sorted[0].at
	q.sorted = q.sorted[1:]
	q.anew = append(q.anew, entry{q.choices[at].score, at})
	q.up()
}

func (q *queue) before(a, b entry) bool {
	if a.score != b.score {
		return a.score < b.score
	}
	return q.choices[a.at].before(&q.choices[b.at])
}

func (q *queue) up() {
	for i := len(q.anew) - 1; i > 0; {
		parent := (i - 1) / 2
		if !q.before(q.anew[i], q.anew[parent]) {
			return
		}
		q.anew[i], q.anew[parent] = q.anew[parent], q.anew[i]
		i = parent
	}
}

func (q *queue) down() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(q.anew) {
			return
		}
		if child+1 < len(q.anew) && q.before(q.anew[child+1], q.anew[child]) {
			child++
		}
		if !q.before(q.anew[child], q.anew[i]) {
			return
		}
		q.anew[i], q.anew[child] = q.anew[child], q.anew[i]
		i = child
	}
}

// digit is how many bits of a score are sorted by at a time.
const digit = 11

// sort sorts by the first three digits of the scores, as long as the greatest is, and then mends what these leave: next to
// nothing, as 65536 scores rarely are the same in 33 bits.
func (q *queue) sort() {
	most := uint64(0)
	for _, e := range q.sorted {
		most = max(most, e.score)
	}
	shift := max(bits.Len64(most), 3*digit) - 3*digit
	to := make([]entry, len(q.sorted))
	for range 3 {
		q.distribute(to, shift)
		q.sorted, to = to, q.sorted
		shift += digit
	}
	for i := 1; i < len(q.sorted); i++ {
		for j := i; j > 0 && q.before(q.sorted[j], q.sorted[j-1]); j-- {
			q.sorted[j], q.sorted[j-1] = q.sorted[j-1], q.sorted[j]
		}
	}
}

// distribute sorts by one digit, and leaves the order of those with the same.
func (q *queue) distribute(to []entry, shift int) {
	const values = 1 << digit
	var starts [values + 1]int
	for _, e := range q.sorted {
		starts[e.score>>shift%values+1]++
	}
	for d := range values {
		starts[d+1] += starts[d]
	}
	for _, e := range q.sorted {
		at := &starts[e.score>>shift%values]
		to[*at] = e
		*at++
	}
}
