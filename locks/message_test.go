// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/assent-tx/assent/locks/internal/agent"
	"github.com/assent-tx/assent/locks/internal/record"
)

// FuzzMessage lets an agent hear whatever comes: nothing panics, and nothing is sent to what cannot be a session.
func FuzzMessage(f *testing.F) {
	const self, other = "00000000000000aa", "00000000000000bb"
	ops := []record.Operation{{ID: other + "-1", TTL: 1000}, {ID: self + "-1"}}
	r := record.Record{Holders: []record.Holder{{Operation: ops[0], Token: 7}}, Queue: ops[1:]}
	for _, m := range []message{
		{KindLock, "k", &agent.Ask{From: other, Revision: 3, Join: ops[:1], Leave: []string{other + "-2"}}, nil},
		{KindLock, "k", nil, &agent.Tell{From: other, Revision: 9, Record: &r, Join: ops}},
		{KindElection, "k", nil, &agent.Tell{From: other, Keeper: other, Revision: 9, Noted: []agent.Noted{{ID: self + "-1", Ahead: 1}}}},
		{KindSemaphore, "k", nil, &agent.Tell{Revision: 9, Refused: []agent.Refused{{ID: self + "-1", Why: agent.Busy}}}},
	} {
		data, err := json.Marshal(&m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		a := agent.New(agent.Config{Self: self, Poll: 10, Answer: 4, Persist: 5, Patience: 2})
		now := int64(1)
		effects := a.Join(now, record.Operation{ID: self + "-1"})
		for round := range 20 {
			var answers []agent.Effect
			for i := range effects {
				switch e := &effects[i]; {
				case e.Write != nil && round%3 == 0:
					answers = append(answers, a.Conflict(now)...)
				case e.Write != nil:
					answers = append(answers, a.Written(now, e.Write.Expected+1)...)
				case e.Read:
					answers = append(answers, a.Read(now, uint64(round), record.Record{})...)
				case e.To == self || (e.Ask != nil || e.Tell != nil) && !sessionID.MatchString(e.To):
					t.Fatalf("sent to %q", e.To)
				}
			}
			now += 3
			effects = slices.Concat(answers, a.Tick(now))
			for _, data := range [][]byte{first, second} {
				m, err := decodeMessage(data)
				switch {
				case err != nil:
				case m.Ask != nil:
					effects = append(effects, a.Asked(now, m.Ask)...)
				default:
					effects = append(effects, a.Told(now, m.Tell)...)
				}
			}
		}
	})
}

func TestMessagesFromStrangersAreRefused(t *testing.T) {
	for _, data := range []string{
		"", "{", "[]", "{}", `{"kind":"lock","key":"k"}`, `{"kind":"lock","key":"a b","ask":{"from":"00000000000000aa"}}`,
		`{"kind":"session","key":"k","ask":{"from":"00000000000000aa"}}`, `{"kind":"lock","key":"k","ask":{"from":"a b"}}`, `{"kind":"lock","key":"k","ask":{"from":""}}`,
		`{"kind":"lock","key":"k","ask":{"from":"00000000000000aa","join":[{"id":">-1"}]}}`,
		`{"kind":"lock","key":"k","tell":{"from":"00000000000000aa","keeper":"*"}}`, `{"kind":"lock","key":"k","tell":{"record":{"holders":[{"id":""}]}}}`,
		`{"kind":"lock","key":"k","tell":{"record":{"queue":[{"id":"` + strings.Repeat("a", 17) + `-1"}]}}}`,
		`{"kind":"lock","key":"k","tell":{},"ask":{"from":"00000000000000aa"}}`,
	} {
		if m, err := decodeMessage([]byte(data)); err == nil {
			t.Errorf("%s is taken: %+v", data, m)
		}
	}
}
