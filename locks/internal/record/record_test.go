// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// queue is the same in a second, dumb way: a list of operations in the order in which they came, of which the first that
// may hold together do.
type queue struct {
	ops     []Operation
	permits int
}

func (q *queue) holding() int {
	n := 0
	for n < len(q.ops) && (n == 0 || q.permits > 0 && n < q.permits || q.permits == 0 && q.ops[n].Shared && q.ops[0].Shared) {
		n++
	}
	return n
}

func (q *queue) remove(gone func(*Operation) bool) {
	q.ops = slices.DeleteFunc(q.ops, func(op Operation) bool { return gone(&op) })
	if len(q.ops) == 0 {
		q.permits = 0
	}
}

func (q *queue) join(op Operation) error {
	if slices.ContainsFunc(q.ops, func(o Operation) bool { return o.ID == op.ID }) {
		return nil
	}
	if len(q.ops) == 0 {
		q.permits = op.Permits
	}
	if q.permits != op.Permits {
		return ErrPermits
	}
	q.ops = append(q.ops, op)
	if op.Try && q.holding() < len(q.ops) {
		q.ops = q.ops[:len(q.ops)-1]
		return ErrBusy
	}
	return nil
}

func TestRecordProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Record
		var q queue
		sequence, tokens := uint64(0), map[string]uint64{}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			session := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "session")
			id := fmt.Sprintf("%s-%d", session, rapid.IntRange(0, 4).Draw(t, "number"))
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				op := Operation{
					ID: id, Shared: rapid.Bool().Draw(t, "shared"), Try: rapid.IntRange(0, 3).Draw(t, "try") == 0,
					Permits: rapid.SampledFrom([]int{0, 0, 0, 2, 3}).Draw(t, "permits"), Since: int64(i),
				}
				if got, want := r.Join(op), q.join(op); !errors.Is(got, want) {
					t.Fatalf("join %+v: %v, want %v", op, got, want)
				}
			case 3:
				r.Leave(id)
				q.remove(func(op *Operation) bool { return op.ID == id })
			case 4:
				r.Evict(session)
				q.remove(func(op *Operation) bool { return op.Session() == session })
			case 5:
				holding := q.ops[:q.holding()]
				r.Force()
				var gone []string
				for i := range holding {
					gone = append(gone, holding[i].ID)
				}
				q.remove(func(op *Operation) bool { return slices.Contains(gone, op.ID) })
				if len(gone) > 0 && r.Forced[len(r.Forced)-1].ID != gone[len(gone)-1] {
					t.Fatalf("%v is not remembered in %v", gone, r.Forced)
				}
			}
			sequence += 2
			var err error
			if r, err = Decode(r.Encode(), sequence); err != nil {
				t.Fatal(err)
			}
			same(t, &r, &q, sequence, tokens)
		}
	})
}

// same compares a record with the model, and its tokens with those before.
func same(t *rapid.T, r *Record, q *queue, sequence uint64, tokens map[string]uint64) {
	holding := q.holding()
	var got, want []string
	for i := range r.Holders {
		h := &r.Holders[i]
		got = append(got, h.ID)
		if token, ok := tokens[h.ID]; ok && token != h.Token || !ok && h.Token != sequence {
			t.Fatalf("the token of %s is %d, at %d; before: %d", h.ID, h.Token, sequence, token)
		}
	}
	for i := range r.Queue {
		got = append(got, r.Queue[i].ID)
	}
	for i := range q.ops {
		want = append(want, q.ops[i].ID)
	}
	if !slices.Equal(got, want) || len(r.Holders) != holding || r.Permits != q.permits || len(r.Forced) > MaxForced {
		t.Fatalf("holders and queue %v, %d of them holding, %d permits; want %v, %d, %d", got, len(r.Holders), r.Permits, want, holding, q.permits)
	}
	clear(tokens)
	for i := range r.Holders {
		tokens[r.Holders[i].ID] = r.Holders[i].Token
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	var r Record
	for i := range MaxQueue + 1 {
		if err := r.Join(Operation{ID: fmt.Sprint("s-", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Join(Operation{ID: "s-last"}); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	var shared Record
	for i := range MaxHolders + 1 {
		if err := shared.Join(Operation{ID: fmt.Sprint("s-", i), Shared: true}); err != nil {
			t.Fatal(err)
		}
	}
	if len(shared.Holders) != MaxHolders || len(shared.Queue) != 1 {
		t.Errorf("%d hold, %d wait", len(shared.Holders), len(shared.Queue))
	}
}

func FuzzDecode(f *testing.F) {
	r := Record{Holders: []Holder{{Operation: Operation{ID: "a-1", Owner: "ann", Shared: true, TTL: 1000}, Token: 7}}, Queue: []Operation{{ID: "b-1"}}, Forced: []Grant{{"c-1", 3}}}
	f.Add(r.Encode(), uint64(9))
	f.Add([]byte(`{"v":2}`), uint64(1))
	f.Add([]byte(`{"holders":[{"id":"x"},{"id":"x"}],"queue":[{"id":""}]}`), uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, sequence uint64) {
		r, err := Decode(data, sequence)
		if err != nil {
			return
		}
		again, err := Decode(r.Encode(), sequence+1)
		if err != nil {
			t.Fatal(err)
		}
		if sequence > 0 && !reflect.DeepEqual(r.Holders, again.Holders) && len(r.Holders)+len(again.Holders) > 0 {
			t.Fatalf("%+v became %+v", r, again)
		}
		_ = again.Join(Operation{ID: "new-1"}) // whatever was stored, nothing panics
		again.Evict("x")
		again.Leave("")
		again.Force()
	})
}
