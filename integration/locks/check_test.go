// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/assent-tx/assent/integration/locks/history"
	"github.com/assent-tx/assent/locks"
)

// checkLimit is how long porcupine may think about one key.
const checkLimit = 2 * time.Minute

// grant is one lock that somebody got, from the call to the end.
type grant struct {
	number    int
	key, name string // name is the process's, with the operation's number
	shared    bool
	token     locks.Token
	call, ret int64
	// known is the last time at which the holder knew that it held the lock; 0: it never asked.
	known int64
	// unlocks are the calls that gave it back. It has none when the process ended or the session was lost.
	unlocks []operation
}

// released is when the holder was told that the lock is free; forever if it never was.
func (g *grant) released() int64 {
	for _, u := range g.unlocks {
		if u.result == history.Released {
			return u.ret
		}
	}
	return forever
}

// operation is the two lines of one operation.
type operation struct {
	history.Line
	name   string
	ret    int64 // forever if it is open
	result history.Result
}

// story is what all processes of a scenario did, together.
type story struct {
	grants []*grant
	// asked is every Lock and Try, granted or not.
	asked  []operation
	writes []operation // Token is the grant's
}

// read merges the histories of a directory.
func read(dir string) (*story, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.history"))
	if err != nil {
		return nil, err
	}
	s := &story{}
	for _, file := range files {
		lines, err := history.Read(file)
		if err != nil {
			return nil, err
		}
		if err := s.add(strings.TrimSuffix(filepath.Base(file), ".history"), lines); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add takes one process's lines.
func (s *story) add(process string, lines []history.Line) error {
	operations := make(map[uint64]*operation)
	grants := make(map[uint64]*grant)
	var order []*operation
	for _, line := range lines {
		o := operations[line.Op]
		switch {
		case line.Kind == history.Use:
			g := grants[line.Of]
			if g == nil {
				return fmt.Errorf("%s: a use of %d, which was not granted", process, line.Of)
			}
			g.known = max(g.known, line.At)
		case o == nil:
			o = &operation{Line: line, name: fmt.Sprintf("%s/%d", process, line.Op), ret: forever, result: history.Unknown}
			operations[line.Op] = o
			order = append(order, o)
		default:
			if line.Result != history.Unknown { // what is unknown stays open
				o.ret, o.result, o.Token = line.At, line.Result, cmp.Or(line.Token, o.Token)
			}
			if o.result == history.Held {
				grants[o.Op] = s.grant(o)
			}
		}
	}
	return s.sort(order, grants)
}

func (s *story) grant(o *operation) *grant {
	g := &grant{number: len(s.grants), key: o.Key, name: o.name, shared: o.Shared, call: o.At, ret: o.ret}
	g.token, _ = locks.ParseToken(o.Token) // a token that is none is less than every other
	s.grants = append(s.grants, g)
	return g
}

// sort puts the operations of one process where they belong.
func (s *story) sort(order []*operation, grants map[uint64]*grant) error {
	for _, o := range order {
		g := grants[o.Of]
		switch o.Kind {
		case history.Lock, history.Try:
			s.asked = append(s.asked, *o)
		case history.Unlock, history.Write:
			if g == nil {
				return fmt.Errorf("%s: %s of %d, which was not granted", o.name, o.Kind, o.Of)
			}
			if o.Key = g.key; o.Kind == history.Unlock {
				g.unlocks = append(g.unlocks, *o)
			} else {
				o.Token = g.token.String()
				s.writes = append(s.writes, *o)
			}
		case history.Use:
		}
	}
	return nil
}

// check says everything that is wrong with the story. The picture of what porcupine found goes to a directory, if one is given.
func (s *story) check(pictures string) error {
	var wrong []error
	for _, key := range s.keys() {
		wrong = append(wrong,
			explain(keyModel(), s.steps(key), key+": no order of grants, releases and expiries explains what the clients were told", pictures),
			explain(resourceModel(), s.attempts(key), key+": no order of writes explains what the resource told", pictures),
			s.believed(key),
			s.reasons(key))
	}
	return errors.Join(wrong...)
}

func (s *story) keys() (keys []string) {
	for _, o := range s.asked {
		keys = append(keys, o.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// steps are the operations of a key for its model. What was asked for and not granted, or whose answer is unknown, is not there: that it had
// no effect is always an explanation, since nobody acts on it. (An effect of it that outlives it is found in the
// end, when every key must be free.)
func (s *story) steps(key string) (ops []porcupine.Operation) {
	for _, g := range s.grants {
		if g.key == key {
			ops = append(ops, g.steps()...)
		}
	}
	return ops
}

func (g *grant) steps() []porcupine.Operation {
	of := func(action action, call, ret int64) porcupine.Operation {
		return porcupine.Operation{ClientId: g.number, Input: step{action, g.number, g.shared, g.token}, Call: call, Return: ret, Metadata: g.name}
	}
	ops := []porcupine.Operation{of(acquire, g.call, g.ret)}
	for _, u := range g.unlocks {
		switch u.result {
		case history.Released:
			ops = append(ops, of(release, u.At, u.ret))
		case history.Lost, history.NotHeld:
			ops = append(ops, of(disown, u.At, u.ret))
		default: // the expiry says it
		}
	}
	if g.released() == forever {
		// It may be gone from the moment on at which its holder last knew better.
		ops = append(ops, of(expire, max(g.call, g.known), forever))
	}
	return ops
}

// attempts are the operations of a key's resource for its model.
func (s *story) attempts(key string) (ops []porcupine.Operation) {
	for i, w := range s.writes {
		if w.Key != key {
			continue
		}
		result := unanswered
		token, _ := locks.ParseToken(w.Token) // it is String's
		switch w.result {
		case history.Accepted:
			result = accepted
		case history.Refused:
			result = refused
		default:
		}
		ops = append(ops, porcupine.Operation{ClientId: i, Input: attempt{token}, Output: result, Call: w.At, Return: w.ret, Metadata: w.name})
	}
	return ops
}

// explain asks porcupine. It fails if it does not know either.
func explain(model porcupine.Model, ops []porcupine.Operation, wrong, pictures string) error {
	result := porcupine.CheckOperationsTimeout(model, ops, checkLimit)
	if result == porcupine.Ok {
		return nil
	}
	if pictures != "" {
		_, info := porcupine.CheckOperationsVerbose(model, ops, checkLimit)
		name := filepath.Join(pictures, strings.Map(plain, strings.SplitAfterN(wrong, ":", 2)[0])+fmt.Sprint(len(ops))+".html")
		if err := porcupine.VisualizePath(model, info, name); err != nil {
			return fmt.Errorf("%s (%s, %d operations; no picture: %w)", wrong, result, len(ops), err)
		}
	}
	return fmt.Errorf("%s (%s, %d operations)", wrong, result, len(ops))
}

func plain(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// believed checks that no two knew at one moment that they held what excludes the other. This is what a lease promises as long as
// all clocks run at about the same rate, and here they are one clock.
func (s *story) believed(key string) error {
	var mine []*grant
	for _, g := range s.grants {
		if g.key == key && g.known >= g.ret {
			mine = append(mine, g)
		}
	}
	slices.SortFunc(mine, func(a, b *grant) int { return cmp.Compare(a.ret, b.ret) })
	var wrong []error
	for i, g := range mine {
		for _, h := range mine[:i] {
			if h.known >= g.ret && (!g.shared || !h.shared) {
				wrong = append(wrong, fmt.Errorf("%s: %s (token %v) and %s (token %v) both held it for %v", key, h.name, h.token, g.name, g.token,
					time.Duration(min(h.known, g.known)-g.ret)))
			}
		}
	}
	return errors.Join(wrong...)
}

// lingering is how long what was given up may still be in a queue.
const lingering = int64(5 * time.Second)

// reasons checks that whoever was refused was refused because somebody held the key, or waited for it, at some time of the call.
func (s *story) reasons(key string) error {
	var wrong []error
	for _, o := range s.asked {
		if o.Key == key && o.result == history.Refused && !s.reason(&o) {
			wrong = append(wrong, fmt.Errorf("%s: %s was refused it, and nobody held it or waited for it", key, o.name))
		}
	}
	return errors.Join(wrong...)
}

func (s *story) reason(o *operation) bool {
	for _, g := range s.grants {
		if g.key == o.Key && (!g.shared || !o.Shared) && g.call <= o.ret && g.released() >= o.At {
			return true
		}
	}
	return slices.ContainsFunc(s.asked, func(other operation) bool {
		switch { // who waited was in the queue, and who wanted several at once had some of them for a moment
		case other.Key != o.Key || other.name == o.name || other.At > o.ret:
			return false
		case other.result == history.Unknown, other.result == history.Lost:
			return true
		default:
			return other.result == history.NotHeld && other.ret+lingering >= o.At
		}
	})
}

// counts says how much happened, for people, and for tests that want something to have happened.
func (s *story) counts() map[string]int {
	counts := make(map[string]int)
	for _, o := range s.asked {
		counts[string(o.Kind)+" "+string(o.result)]++
	}
	for _, g := range s.grants {
		for _, u := range g.unlocks {
			counts["unlock "+string(u.result)]++
		}
		if len(g.unlocks) == 0 {
			counts["left"]++
		}
	}
	for _, w := range s.writes {
		counts["write "+string(w.result)]++
	}
	return counts
}
