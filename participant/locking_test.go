// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// keyed is a prepare's line for p, of a transaction that has another participant and is since seconds old; a key that begins
// with a question mark is shared.
func keyed(tx messages.ID, since int64, expires time.Duration, keys ...string) string {
	p := &messages.Prepare{
		Tx: tx, Participants: []string{"p", "q"}, Expires: time.Now().Add(expires).UnixMilli(), Since: since,
		Operations: []messages.Operation{{Payload: []byte(`1`)}},
	}
	for _, key := range keys {
		if name, shared := strings.CutPrefix(key, "?"); shared {
			p.Operations[0].Shared = append(p.Operations[0].Shared, name)
		} else {
			p.Operations[0].Keys = append(p.Operations[0].Keys, name)
		}
	}
	return string(messages.AppendPrepare(nil, p))
}

// locker is a desk with a participant p, and what its handler was asked to prepare.
type locker struct {
	*desk
	h *handler
}

func (w *world) openLocker() *locker { return &locker{w.openDesk(), newHandler()} }

func (l *locker) join() *running { return l.w.join("p", l.h) }

// begin delivers a branch that is granted its keys at once, and is voted yes.
func (l *locker) begin(since int64, keys ...string) messages.ID {
	l.w.Helper()
	tx := newID()
	l.desk.prepare("p", keyed(tx, since, time.Minute, keys...))
	l.prepared(tx)
	return tx
}

// prepared waits until exactly this branch is prepared and voted yes.
func (l *locker) prepared(tx messages.ID) {
	l.w.Helper()
	if got := receive(l.w, l.h.prepared, "a prepare"); got != tx {
		l.w.Errorf("prepared %s, want %s", got, tx)
	}
	l.vote(tx, messages.VoteYes)
}

// waits delivers a branch, which has to wait.
func (l *locker) waits(since int64, expires time.Duration, keys ...string) messages.ID {
	l.w.Helper()
	tx := newID()
	l.desk.prepare("p", keyed(tx, since, expires, keys...))
	l.quiet()
	return tx
}

// quiet: for a while nothing is prepared or voted.
func (l *locker) quiet() {
	l.w.Helper()
	select {
	case tx := <-l.h.prepared:
		l.w.Errorf("%s is prepared", tx)
	case vote := <-l.votes:
		l.w.Errorf("vote %+v", vote)
	case <-time.After(20 * time.Millisecond): // the bubble's
	}
}

// end sends an outcome, and waits until it is applied.
func (l *locker) end(tx messages.ID, outcome messages.Outcome) {
	l.w.Helper()
	if outcome == messages.Committed {
		l.outcome(subjects.Commit(0, "p"), tx, 1000)
		l.applied(tx, l.h.committed)
	} else {
		l.outcome(subjects.Rollback(0, "p"), tx, 1000)
		l.applied(tx, l.h.rolledBack)
	}
}

func (l *locker) applied(tx messages.ID, told <-chan messages.ID) {
	l.w.Helper()
	if got := receive(l.w, told, "an outcome is applied"); got != tx {
		l.w.Errorf("applied for %s, want %s", got, tx)
	}
	synctest.Wait() // the keys are let go of when the handler has returned
}

// conflict waits for a no that is held, for a conflict, and gives its reason.
func (l *locker) conflict(tx messages.ID) string {
	l.w.Helper()
	vote := l.vote(tx, messages.VoteNo)
	if !vote.Held || !vote.Conflict {
		l.w.Errorf("vote %+v, want a held one, for a conflict", vote)
	}
	return vote.Reason
}

// Who wants the same key waits until the outcome is applied, and takes no handler's place meanwhile; who wants another goes before.
func TestKeysOneAfterAnother(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		w.joinWith(participant.Config{Name: "p", Handler: l.h, Concurrency: 1})
		first := l.begin(1, "a", "b")
		third := l.waits(3, time.Minute, "b", "c")
		second := l.waits(2, time.Minute, "b") // older than the third, so before it
		l.begin(4, "d")
		l.begin(5)
		l.waits(6, time.Minute, "?c") // behind the third, which is older
		l.end(first, messages.Committed)
		l.prepared(second)
		l.quiet()
		l.end(second, messages.Aborted)
		l.prepared(third)
		l.quiet()
	})
}

func TestSharedKeys(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		l.join()
		one, two := l.begin(1, "?a"), l.begin(2, "?a")
		writer := l.waits(3, time.Minute, "a")
		reader := l.waits(4, time.Minute, "?a") // it would make the older writer wait longer
		l.end(one, messages.Committed)
		l.quiet()
		l.end(two, messages.Aborted)
		l.prepared(writer)
		l.end(writer, messages.Committed)
		l.prepared(reader)
	})
}

// A transaction that is aborted elsewhere waits no more, and makes nobody wait.
func TestOutcomeWhileWaiting(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		l.join()
		first := l.begin(1, "a")
		second := l.waits(2, time.Minute, "a")
		third := l.waits(3, time.Minute, "a")
		l.end(second, messages.Aborted)
		l.end(first, messages.Committed)
		l.prepared(third)
		l.quiet()
		l.acknowledged("p")
	})
}

// Nobody waits until his transaction has expired: shortly before that he votes no, and says what for.
func TestExpiryWhileWaiting(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		l.join()
		first := l.begin(1, "a")
		second := newID()
		l.desk.prepare("p", keyed(second, 2, 10*time.Second, "a"))
		got := receive(w, l.votes, "the second's vote")
		for got.Tx == first { // which asks for its outcome
			got = receive(w, l.votes, "the second's vote")
		}
		if got.Tx != second || !got.Conflict || !got.Held || !strings.Contains(got.Reason, `"a"`) || !strings.Contains(got.Reason, first.String()) {
			t.Errorf("vote %+v, want a held conflict that names the key and %s", got, first)
		}
		third := l.waits(3, time.Minute, "a")
		l.end(second, messages.Aborted)
		l.end(first, messages.Committed)
		l.prepared(third)
	})
}

// A younger transaction that holds what an older one has waited for gives way, also after its yes, and holds its keys until it
// hears the outcome: a rollback, or the commit that was before its no in the log.
func TestWound(t *testing.T) {
	for _, outcome := range []messages.Outcome{messages.Aborted, messages.Committed} {
		t.Run(outcome.String(), func(t *testing.T) {
			inBubble(t, func(w *world) {
				l := w.openLocker()
				p, r := w.start(w.connect(), participant.Config{Name: "p", Handler: l.h})
				r.ready(p.Ready())
				young := l.begin(2, "a")
				old := l.waits(1, time.Minute, "a")
				if reason := l.conflict(young); !strings.Contains(reason, `"a"`) || !strings.Contains(reason, old.String()) {
					t.Errorf("the reason %q does not name the key and who waits", reason)
				}
				l.quiet()
				if stats := p.KeyStats(); stats.Holding != 1 || stats.Waiting != 1 || stats.Wounded != 1 || stats.Waited != 1 || stats.Oldest < 100*time.Millisecond {
					t.Errorf("stats %+v", stats)
				}
				l.end(young, outcome)
				l.prepared(old)
				l.end(old, messages.Committed)
				if stats := p.KeyStats(); stats.Holding != 0 || stats.Waiting != 0 || stats.Oldest != 0 {
					t.Errorf("stats at the end: %+v", stats)
				}
			})
		})
	}
}

// While its handler is at it, it is not voted yes at all; one that would rather never gives way waits for the outcome.
func TestWoundWhilePreparing(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		slow := make(chan struct{})
		l.h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			<-slow
			return participant.Yes, nil
		}
		l.join()
		young, old := newID(), newID()
		l.desk.prepare("p", keyed(young, 2, time.Minute, "a"))
		l.desk.prepare("p", keyed(old, 1, time.Minute, "a"))
		<-time.After(200 * time.Millisecond) // the bubble's: the grace, and a look
		close(slow)
		receive(w, l.h.prepared, "a prepare")
		l.conflict(young)
		l.end(young, messages.Aborted)
		l.prepared(old)
	})
}

func TestWoundNever(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		w.joinWith(participant.Config{Name: "p", Handler: l.h, Wound: -1})
		l.begin(2, "a")
		old := newID()
		l.desk.prepare("p", keyed(old, 1, 3*time.Second, "a"))
		l.conflict(old) // it has waited until it was about to expire
	})
}

// What the store held prepared at the start holds its keys, or all that there are, before any prepare is taken.
func TestKeysOfWhatIsInDoubt(t *testing.T) {
	for name, prepared := range map[string]participant.Prepared{
		"keys": {Keys: []participant.Key{{Name: "a"}}}, "all": {AllKeys: true}, "none": {},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				l, s := w.openLocker(), newStore()
				l.h = s.handler
				prepared.Tx = newID()
				s.recalled = []participant.Prepared{prepared}
				other := newID()
				w.join("p", newHandler()).end() // so that there is a consumer
				l.desk.prepare("p", keyed(other, 1, time.Minute, "a"))
				w.join("p", s)
				l.vote(prepared.Tx, messages.VoteYes)
				if name != "none" {
					l.conflict(prepared.Tx) // nobody knows how old it is, so it gives way
					l.quiet()
					l.end(prepared.Tx, messages.Committed)
				}
				l.prepared(other)
			})
		})
	}
}

// An instance that ends gives back what waits; a new one begins with the keys of what is prepared.
func TestKeysAcrossRestart(t *testing.T) {
	inBubble(t, func(w *world) {
		l, s := w.openLocker(), newStore()
		l.h = s.handler
		r := w.join("p", s)
		first := l.begin(1, "a")
		second := l.waits(2, time.Minute, "a")
		r.end()
		s.recalled = []participant.Prepared{{Tx: first, Keys: []participant.Key{{Name: "a"}}}}
		w.join("p", s)
		l.vote(first, messages.VoteYes)
		l.conflict(first)
		l.quiet()
		l.end(first, messages.Committed)
		l.prepared(second)
		l.end(second, messages.Committed)
		l.acknowledged("p")
	})
}

// A handler that cannot say what it holds gets no branch with keys.
func TestKeysNeedInDoubt(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		w.join("p", bare{l.h})
		for range 2 {
			tx := newID()
			l.desk.prepare("p", keyed(tx, 1, time.Minute, "a"))
			if vote := l.vote(tx, messages.VoteNo); vote.Held || vote.Conflict || !strings.Contains(vote.Reason, "does not implement InDoubt") {
				t.Errorf("vote %+v", vote)
			}
		}
		l.begin(2)
	})
}

// Keys that must be held until the outcome cannot be let go of by a read-only vote; those of a transaction's only branch can.
func TestReadOnlyOfIsolated(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		l.h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) { return participant.ReadOnly, nil }
		l.join()
		tx := newID()
		l.desk.prepare("p", keyed(tx, 1, time.Minute, "?a"))
		if vote := l.vote(tx, messages.VoteNo); vote.Held || !strings.Contains(vote.Reason, "ReadOnly") {
			t.Errorf("vote %+v", vote)
		}
		for range 2 {
			tx := newID()
			sole := strings.Replace(keyed(tx, 1, time.Minute, "a"), `"p","q"`, `"p"`, 1)
			l.desk.prepare("p", sole)
			l.vote(tx, messages.VoteReadOnly)
		}
	})
}

// A store that finds another transaction in its way says so, and the client may try again; nothing is held.
func TestConflictVote(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		l.h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			return 0, participant.Conflict(errors.New("lock timeout"))
		}
		l.join()
		for range 2 {
			tx := newID()
			l.desk.prepare("p", keyed(tx, 1, time.Minute, "a"))
			if vote := l.vote(tx, messages.VoteNo); vote.Held || !vote.Conflict || vote.Reason != "lock timeout" {
				t.Errorf("vote %+v", vote)
			}
		}
	})
}

// A node claims the keys that it owns when it has locked them, and not while it waits: what waits can be handed over.
func TestKeysBeforeClaims(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		s := owned(o)
		w.joinWith(participant.Config{Name: "p", Handler: s, Ownership: o})
		first, second := newID(), newID()
		lock := func(line string) string { return strings.ReplaceAll(line, `"payload"`, `"keys":["a"],"payload"`) }
		d.prepare("p", lock(routed(first, "p", time.Minute, "alice")))
		d.vote(first, messages.VoteYes)
		d.prepare("p", lock(routed(second, "p", time.Minute, "alice")))
		<-time.After(20 * time.Millisecond) // the bubble's
		calls := []string{"expect", "recall 0", "claim tx1 alice", "prepare tx1"}
		o.expect(t, calls...)
		d.outcome(subjects.Commit(0, "p"), first, 2)
		d.vote(second, messages.VoteYes)
		o.expect(t, append(calls, "commit tx1", "settle tx1", "claim tx2 alice", "prepare tx2")...)
	})
}

// The branches of a batch that have to wait do so; the others are prepared, and each as its keys are free.
func TestBatchKeys(t *testing.T) {
	inBubble(t, func(w *world) {
		d := w.openDesk()
		w.joinWith(participant.Config{Name: "p", Batch: &doubtful{}})
		const each, keys = 30, 3
		var lines []string
		at := map[messages.ID]int{}
		for i := range each * keys {
			tx := newID()
			at[tx] = i
			lines = append(lines, keyed(tx, int64(i+1), time.Minute, fmt.Sprint("key", i%keys)))
		}
		d.prepare("p", lines...)
		next := [keys]int{0, 1, 2}
		for range each * keys {
			vote := receive(w, d.votes, "a vote")
			i := at[vote.Tx]
			if vote.Vote != messages.VoteYes || next[i%keys] != i {
				t.Fatalf("vote %+v of the %dth, want that of the %dth", vote, i, next[i%keys])
			}
			next[i%keys] += keys
			d.outcome(subjects.Commit(0, "p"), vote.Tx, 1000)
		}
		d.acknowledged("p")
	})
}

// Ten thousand branches that wait, in thousands of messages, hold back neither others nor outcomes.
func TestManyWait(t *testing.T) {
	many, each := 10_000, 4
	if testing.Short() {
		many = 2_000
	}
	inBubble(t, func(w *world) {
		l := w.openLocker()
		p, r := w.start(w.connect(), participant.Config{Name: "p", Handler: l.h, Concurrency: 1})
		r.ready(p.Ready())
		first := l.begin(1, "hot")
		for i := range many / each {
			var lines []string
			for j := range each {
				lines = append(lines, keyed(newID(), int64(each*i+j+2), 10*time.Hour, "hot"))
			}
			_, err := l.js.PublishAsync(subjects.Prepare(0, "p"), []byte(strings.Join(lines, "\n")))
			must(t, err)
		}
		eventually(t, "all wait", func() bool { return p.KeyStats().Waiting == many })
		other := newID() // what votes there are is no matter: the first repeats its own when this takes long
		l.desk.prepare("p", keyed(other, 1_000_000, time.Minute, "cold"))
		if got := receive(w, l.h.prepared, "one that waits for nobody is prepared"); got != other {
			t.Errorf("%s is prepared", got)
		}
		l.end(other, messages.Committed)
		l.end(first, messages.Committed)
		for range 3 {
			l.end(receive(w, l.h.prepared, "one after the other is prepared"), messages.Committed)
		}
	})
}
