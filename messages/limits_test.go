// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const someID = "0190163d-8694-739b-aea5-966c26f8ad91"

// repeat joins n elements; a %d in each becomes its number.
func repeat(n int, element string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(element, "%d", fmt.Sprint(i))
	}
	return strings.Join(all, ",")
}

func prepareWith(operations string) string {
	return `{"tx":"` + someID + `","participants":["a"],"expires":1,"operations":[` + operations + `]}`
}

func nested(depth int, inside string) string {
	return `{"payload":` + strings.Repeat(`[`, depth) + inside + strings.Repeat(`]`, depth) + `}`
}

// padded is a record of exactly size bytes; %s is where it grows.
func padded(size int, record string) string {
	return strings.Replace(record, "%s", strings.Repeat("p", size-len(record)+2), 1)
}

// TestLimits tries each limit exactly and one over: the latter's error must name the field and the limit.
func TestLimits(t *testing.T) {
	tx := `{"tx":"` + someID + `"`
	for name, limit := range map[string]struct {
		kind  string
		limit int
		line  func(n int) string
		field string
		kindE error
	}{
		"participants of a prepare": {"prepare", MaxParticipants, func(n int) string {
			return tx + `,"participants":[` + repeat(n, `"p%d"`) + `],"expires":1,"operations":[{}]}`
		}, "participants[64]", ErrMalformed},
		"participants of a submission": {"submission", MaxParticipants, func(n int) string {
			return tx + `,"operations":[` + repeat(n, `{"participant":"p%d"},{"participant":"p0"}`) + `]}`
		}, "operations", ErrMalformed},
		"heuristics": {"finished", MaxParticipants, func(n int) string {
			return tx + `,"through":1,"heuristics":[` + repeat(n, `{"participant":"p%d"}`) + `]}`
		}, "heuristics[64]", ErrMalformed},
		"operations": {"prepare", MaxOperations, func(n int) string {
			return prepareWith(repeat(n, `{}`))
		}, "operations[1024]", ErrMalformed},
		"operations of a submission": {"submission", MaxOperations, func(n int) string {
			return tx + `,"operations":[` + repeat(n, `{"participant":"a"}`) + `]}`
		}, "operations[1024]", ErrMalformed},
		"keys": {"prepare", MaxKeys, func(n int) string {
			return prepareWith(`{},{"keys":[` + repeat(n, `"k"`) + `]}`)
		}, "operations[1].keys[1024]", ErrMalformed},
		"key": {"prepare", MaxKey, func(n int) string {
			return prepareWith(`{"keys":["j","` + strings.Repeat("k", n) + `"]}`)
		}, "operations[0].keys[1]", ErrMalformed},
		"shared keys": {"submission", MaxKeys, func(n int) string {
			return tx + `,"operations":[{"participant":"a","shared":[` + repeat(n, `"k"`) + `]}]}`
		}, "operations[0].shared[1024]", ErrMalformed},
		"keys of both kinds": {"prepare", MaxKeys, func(n int) string {
			return prepareWith(`{"keys":[` + repeat(400, `"x%d"`) + `],"shared":[` + repeat(n-400, `"s%d"`) + `]}`)
		}, "operations[0].shared[624]", ErrMalformed},
		"keys after shared ones": {"prepare", MaxKeys, func(n int) string {
			return prepareWith(`{"shared":[` + repeat(1000, `"s%d"`) + `],"keys":[` + repeat(n-1000, `"x%d"`) + `]}`)
		}, "operations[0].keys[24]", ErrMalformed},
		"shared key": {"prepare", MaxKey, func(n int) string {
			return prepareWith(`{"shared":["` + strings.Repeat("k", n) + `"]}`)
		}, "operations[0].shared[0]", ErrMalformed},
		"locks": {"submission", MaxLocks, func(n int) string {
			return tx + `,"locks":[` + repeat(n, `{"key":"k%d","token":"t"}`) + `],"operations":[{"participant":"a"}]}`
		}, "locks[64]", ErrMalformed},
		"key of a lock": {"prepare", MaxKey, func(n int) string {
			return tx + `,"participants":["a"],"expires":1,"locks":[{"token":"t","key":"` + strings.Repeat("k", n) + `"}],"operations":[{}]}`
		}, "locks[0].key", ErrMalformed},
		"token of a lock": {"prepare", MaxToken, func(n int) string {
			return tx + `,"participants":["a"],"expires":1,"locks":[{"key":"k","token":"` + strings.Repeat("t", n) + `"}],"operations":[{}]}`
		}, "locks[0].token", ErrMalformed},
		"since": {"submission", 1<<53 - 1, func(n int) string {
			return tx + fmt.Sprintf(`,"since":%d,"operations":[{"participant":"a"}]}`, n)
		}, "since", ErrMalformed},
		"key of escapes": {"prepare", MaxKey, func(n int) string {
			return prepareWith(`{"keys":["` + strings.Repeat(`\u006b`, n) + `"]}`)
		}, "operations[0].keys[0]", ErrMalformed},
		"key of a route": {"prepare", MaxRouteKey, func(n int) string {
			return prepareWith(`{},{"route":{"group":"g","key":"` + strings.Repeat("k", n) + `","incarnation":1,"epoch":1}}`)
		}, "operations[1].route.key", ErrMalformed},
		"group of a route": {"submission", MaxName, func(n int) string {
			return tx + `,"operations":[{"participant":"a","route":{"key":"k","incarnation":1,"epoch":1,"group":"` + strings.Repeat("g", n) + `"}}]}`
		}, "operations[0].route.group", ErrMalformed},
		"incarnation of a route": {"prepare", 1<<53 - 1, func(n int) string {
			return prepareWith(fmt.Sprintf(`{"route":{"group":"g","key":"k","incarnation":%d,"epoch":1}}`, n))
		}, "operations[0].route.incarnation", ErrMalformed},
		"epoch of a wrong owner": {"vote", 1<<53 - 1, func(n int) string {
			return tx + fmt.Sprintf(`,"vote":"no","wrong_owner":%d}`, n)
		}, "wrong_owner", ErrMalformed},
		"name": {"prepare", MaxName, func(n int) string {
			return tx + `,"participants":["` + strings.Repeat("p", n) + `"],"expires":1,"operations":[{}]}`
		}, "participants[0]", ErrMalformed},
		"trace": {"submission", MaxTrace, func(n int) string {
			return tx + `,"operations":[{"participant":"a"}],"trace":"` + strings.Repeat("t", n) + `"}`
		}, "trace", ErrMalformed},
		"reason of a vote": {"vote", MaxReason, func(n int) string {
			return tx + `,"vote":"no","reason":"` + strings.Repeat("r", n) + `"}`
		}, "reason", ErrMalformed},
		"reason of an abort": {"abort", MaxReason, func(n int) string {
			return tx + `,"reason":"` + strings.Repeat(`\n`, n) + `"}`
		}, "reason", ErrMalformed},
		"heuristic of a done": {"done", MaxReason, func(n int) string {
			return tx + `,"vote":1,"heuristic":"` + strings.Repeat("h", n) + `"}`
		}, "heuristic", ErrMalformed},
		"heuristic's reason": {"finished", MaxReason, func(n int) string {
			return tx + `,"through":1,"heuristics":[{"participant":"a","reason":"` + strings.Repeat("r", n) + `"}]}`
		}, "heuristics[0].reason", ErrMalformed},
		"error of an answer": {"answer", MaxName, func(n int) string {
			return tx + `,"error":"` + strings.Repeat("e", n) + `"}`
		}, "error", ErrMalformed},
		"message of an answer": {"answer", maxMessageText, func(n int) string {
			return tx + `,"error":"e","message":"` + strings.Repeat("m", n) + `"}`
		}, "message", ErrMalformed},
		"timeout": {"submission", int(MaxTimeout.Milliseconds()), func(n int) string {
			return tx + fmt.Sprintf(`,"timeout_ms":%d,"operations":[{"participant":"a"}]}`, n)
		}, "timeout_ms", ErrMalformed},
		"arrays in a payload": {"prepare", MaxDepth, func(n int) string {
			return prepareWith(nested(n, ""))
		}, "operations[0].payload", ErrMalformed},
		"arrays round a value in a payload": {"prepare", MaxDepth, func(n int) string {
			return prepareWith(nested(n, "1"))
		}, "operations[0].payload", ErrMalformed},
		"objects in a payload": {"prepare", MaxDepth, func(n int) string {
			return prepareWith(`{"payload":` + strings.Repeat(`{"a":`, n-1) + `{}` + strings.Repeat(`}`, n-1) + `}`)
		}, "operations[0].payload", ErrMalformed},
		"number": {"effect", 1<<53 - 1, func(n int) string {
			return tx + fmt.Sprintf(`,"vote":%d}`, n)
		}, "vote", ErrMalformed},
		"record": {"prepare", MaxRecord, func(n int) string {
			return padded(n, prepareWith(`{"payload":"%s"}`))
		}, "", ErrTooLarge},
		"record of spaces": {"wait", MaxRecord, func(n int) string {
			return tx + strings.Repeat(" ", n-len(tx)-1) + "}"
		}, "", ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			if broken, err := kinds[limit.kind].check([]byte(limit.line(limit.limit))); broken != "" || err != nil {
				t.Errorf("exactly %d: %s %v", limit.limit, broken, err)
			}
			broken, err := kinds[limit.kind].check([]byte(limit.line(limit.limit + 1)))
			var fault *FieldError
			if broken != "" || !errors.As(err, &fault) {
				t.Fatalf("one over %d: %s %v", limit.limit, broken, err)
			}
			if fault.Field != limit.field || !errors.Is(err, limit.kindE) {
				t.Errorf("the error names %q: %v", fault.Field, err)
			}
			says := fmt.Sprint(limit.limit)
			if limit.limit == 1<<53-1 {
				says = "2^53-1"
			}
			if !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), limit.field) {
				t.Errorf("the error does not name the field and the limit %s: %v", says, err)
			}
		})
	}
}

func TestTimeoutFromTo(t *testing.T) {
	for _, ms := range []string{"1000", "86400000"} {
		line := `{"tx":"` + someID + `","timeout_ms":` + ms + `,"operations":[{"participant":"a"}]}`
		var d Decoder
		var sub Submission
		if err := d.Submission([]byte(line), &sub); err != nil || sub.Timeout().Milliseconds() != sub.TimeoutMS {
			t.Errorf("%s ms is %v, %v", ms, sub.Timeout(), err)
		}
	}
	if got := (&Submission{}).Timeout(); got != DefaultTimeout {
		t.Errorf("without a timeout: %v", got)
	}
}

// TestVersionOfAnotherShape: a record of a newer version is told from garbage, whatever it changed.
func TestVersionOfAnotherShape(t *testing.T) {
	for line, want := range map[string]error{
		`{"v":2}`: ErrNewerVersion,
		`{"tx":"` + strings.Repeat("x", MaxRecord) + `","v":2}`:                   ErrNewerVersion,
		strings.Repeat("[", 5) + `"v"` + strings.Repeat("]", 5):                   ErrMalformed,
		`{"a":` + strings.Repeat("[", 255) + strings.Repeat("]", 255) + `,"v":2}`: ErrNewerVersion,
		`{"a":` + strings.Repeat("[", 256) + strings.Repeat("]", 256) + `,"v":2}`: ErrMalformed,
		"{\"a\":\"\xff\",\"v\":2}":                                                ErrMalformed,
		`{"v":2}{"v":2}`:                                                          ErrMalformed,
		`{"v":9007199254740991}`:                                                  ErrNewerVersion,
		`{"v":9007199254740992}`:                                                  ErrMalformed,
		`{"v":"2"}`:                                                               ErrMalformed,
		`{"reason":"\"v\":2","a":{"v":2}}`:                                        ErrMalformed,
	} {
		for name, kind := range kinds {
			if broken, err := kind.check([]byte(line)); broken != "" || !errors.Is(err, want) {
				t.Errorf("%s %.60s: %s %v; expected %v", name, line, broken, err, want)
			}
		}
	}
}

// TestSalvagedID: a submission that is refused keeps its id, so that the client can be told.
func TestSalvagedID(t *testing.T) {
	other := "0190163d-8694-739b-aea5-966c26f8ad92"
	for line, want := range map[string]string{
		`{"tx":"` + someID + `","operations":[]}`:                              someID,
		`{"operations":[],"tx":"` + someID + `"}`:                              someID,
		`{"tx":"` + someID + `","tx":"` + other + `"}`:                         someID,
		`{"tx":"` + someID + `","a":"` + strings.Repeat("x", MaxRecord) + `"}`: someID,
		"{\"bad\":\"\xff\",\"tx\":\"" + someID + "\"}":                         someID,
		`{"v":2,"tx":"` + someID + `"}`:                                        someID,
		`{"operations":[],"tx":7}`:                                             "",
		`{"tx":"` + someID[1:] + `"}`:                                          "",
		`nonsense`:                                                             "",
	} {
		var d Decoder
		sub := Submission{Tx: NewID()}
		err := d.Submission([]byte(line), &sub)
		got := ""
		if !sub.Tx.IsZero() {
			got = sub.Tx.String()
		}
		if err == nil || got != want {
			t.Errorf("%.80s: the id is %q, the error %v", line, got, err)
		}
	}
}

// TestUnknownFieldIsNamed: the error says what was unknown and where, not which field was read before.
func TestUnknownFieldIsNamed(t *testing.T) {
	var d Decoder
	var p Prepare
	err := d.Prepare([]byte(prepareWith(`{"keys":["k"],"note":1}`)), &p)
	if want := `malformed record: operations[0]: unknown field "note"`; err == nil || err.Error() != want {
		t.Errorf("%v; expected %s", err, want)
	}
	err = d.Prepare([]byte(prepareWith(`{"keys":["k"],"route":{"group":"g","note":1}}`)), &p)
	if want := `malformed record: operations[0].route: unknown field "note"`; err == nil || err.Error() != want {
		t.Errorf("%v; expected %s", err, want)
	}
	err = d.Prepare([]byte(prepareWith(`{"route":{"group":"g","key":"k","incarnation":1,"epoch":1},"note":1}`)), &p)
	if want := `malformed record: operations[0]: unknown field "note"`; err == nil || err.Error() != want {
		t.Errorf("%v; expected %s", err, want)
	}
	err = d.Prepare([]byte(`{"tx":"`+someID+`","locks":[{"key":"k","note":1}]}`), &p)
	if want := `malformed record: locks[0]: unknown field "note"`; err == nil || err.Error() != want {
		t.Errorf("%v; expected %s", err, want)
	}
	err = d.Wait([]byte(`{"tx":"`+someID+`","note":1}`), &Wait{})
	if want := `malformed record: unknown field "note"`; err == nil || err.Error() != want {
		t.Errorf("%v; expected %s", err, want)
	}
}
