// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// turnedAway delivers a branch, which is voted no at once.
func (l *locker) turnedAway(since int64, by messages.ID, keys ...string) messages.ID {
	l.w.Helper()
	tx, began := newID(), time.Now()
	l.desk.prepare("p", keyed(tx, since, time.Minute, keys...))
	if reason := l.conflict(tx); !strings.Contains(reason, by.String()) {
		l.w.Errorf("the reason %q does not name %s, which holds the key", reason, by)
	}
	if took := time.Since(began); took != 0 { // the bubble's: nothing has waited for anything
		l.w.Errorf("it was turned away after %v", took)
	}
	return tx
}

// Without waiting, who meets a held key is turned away, be it older or younger than the holder; it makes nobody wait, and wounds nobody.
func TestNoWait(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		p, r := w.start(w.connect(), participant.Config{Name: "p", Handler: l.h, NoWait: true})
		r.ready(p.Ready())
		holder := l.begin(5, "a", "?b")
		older, younger := l.turnedAway(1, holder, "a"), l.turnedAway(6, holder, "c", "b")
		sharer := l.begin(7, "?b") // nobody who wants it for itself waits before it
		c := l.begin(8, "c")       // nor does who was turned away have any
		l.quiet()
		if stats := p.KeyStats(); stats.Holding != 3 || stats.Waiting != 0 || stats.Waited != 0 || stats.Wounded != 0 || stats.TurnedAway != 2 {
			t.Errorf("stats %+v", stats)
		}
		l.end(older, messages.Aborted) // the rollback that is owed for a held no
		l.end(younger, messages.Aborted)
		l.end(holder, messages.Committed)
		again := l.begin(1, "a")
		for _, tx := range []messages.ID{sharer, c, again} {
			l.end(tx, messages.Committed)
		}
		l.acknowledged("p")
		if stats := p.KeyStats(); stats.Holding != 0 {
			t.Errorf("stats at the end: %+v", stats)
		}
	})
}

// What the store held prepared at the start keeps its keys: whoever meets them is turned away, and it is not wounded.
func TestNoWaitAcrossRestart(t *testing.T) {
	inBubble(t, func(w *world) {
		l, s := w.openLocker(), newStore()
		l.h = s.handler
		recalled := newID()
		s.recalled = []participant.Prepared{{Tx: recalled, Keys: []participant.Key{{Name: "a"}}}}
		w.joinWith(participant.Config{Name: "p", Handler: s, NoWait: true})
		l.vote(recalled, messages.VoteYes)
		l.turnedAway(1, recalled, "a")
		<-time.After(time.Second) // the bubble's: longer than the grace
		l.quiet()
		l.end(recalled, messages.Committed)
		l.begin(1, "a")
	})
}

// A client whose transaction meets a held key hears of a conflict while the other one still holds it, and gets through when it has tried often enough.
func TestNoWaitIsAConflict(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		w.joinWith(participant.Config{Name: "p", Handler: newHandler(), NoWait: true})
		slow, going, release := newHandler(), make(chan struct{}, 1), make(chan struct{})
		slow.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			going <- struct{}{}
			<-release
			return participant.Yes, nil
		}
		w.join("q", slow)
		client, first := w.client(), make(chan error, 1)
		transaction := func() *assent.Tx {
			tx := client.Begin(assent.WithID(newID()), assent.WithTimeout(time.Minute))
			tx.Enlist("p", nil, assent.Keys("a"))
			return tx
		}
		go func() {
			tx := transaction()
			tx.Enlist("q", nil)
			first <- tx.Commit(w.Context())
		}()
		receive(t, going, "the first is prepared")
		<-time.After(time.Millisecond) // the bubble's: also at p
		began, attempts := time.Now(), 0
		err := transaction().Commit(w.Context())
		var aborted *assent.AbortedError
		if !errors.Is(err, assent.ErrConflict) || !errors.As(err, &aborted) || aborted.Participant != "p" || !strings.Contains(aborted.Reason, `"a"`) {
			t.Fatalf("got %v, want a conflict at p that names the key", err)
		}
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		must(t, persist(w, client, func() (at map[string]string) {
			if attempts++; attempts == 5 {
				close(release)
			}
			return map[string]string{"p": "a"}
		}))
		if attempts < 5 {
			t.Errorf("it got through in %d attempts, and in less than 5 the key was held", attempts)
		}
		must(t, receive(t, first, "the first ends"))
	})
}
