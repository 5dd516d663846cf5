// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
)

// Ages grow strictly with every transaction that is admitted, whatever the clock does, and a submission's own is taken unless
// it is younger than that.
func TestAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keyed := messages.Submission{Operations: []messages.Operation{{}, {Shared: []string{"k"}}}}
		var a ages
		millis := func() int64 { return time.Now().UnixMilli() }
		start := time.Now().UnixMicro()
		first, second := a.since(&keyed, millis()), a.since(&keyed, millis())
		if first != start || second != start+1 {
			t.Errorf("the first two of a microsecond are %d and %d; want %d and the next", first, second, start)
		}
		ahead := a.since(&keyed, millis()+5000) // the log's time is ahead of this clock
		if ahead != start/1000*1000+5_000_000 {
			t.Errorf("by the log's time: %d", ahead)
		}
		if back := a.since(&keyed, millis()-60_000); back != ahead+1 {
			t.Errorf("after the time went back: %d; want %d", back, ahead+1)
		}
		for own, want := range map[int64]int64{1: 1, start: start, ahead + 1: ahead + 1} {
			keyed.Since = own
			if got := a.since(&keyed, millis()); got != want {
				t.Errorf("its own age %d: %d", own, got)
			}
		}
		keyed.Since = 1 << 52
		if got := a.since(&keyed, millis()); got != a.last || got > ahead+100 {
			t.Errorf("an age from the future gives %d; want %d", got, a.last)
		}
		plain := messages.Submission{Since: 7, Operations: []messages.Operation{{Participant: "a", Payload: []byte("1")}}}
		if got := a.since(&plain, millis()); got != 0 {
			t.Errorf("without keys: %d", got)
		}
		locked := messages.Submission{Since: 7, Operations: plain.Operations, Locks: []messages.Lock{{Key: "k", Token: "t"}}}
		if got := a.since(&locked, millis()); got != 7 {
			t.Errorf("with locks alone: %d", got)
		}
	})
}

// TestPreparesHaveAnAge: all prepares of a transaction that names keys have one age and all of its locks, the next
// transaction's is greater, and what names no keys has neither.
func TestPreparesHaveAnAge(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "a")
	w.register(c, "b")
	prepares := w.prepares()
	keyed := messages.Submission{
		Tx: messages.NewID(), Locks: []messages.Lock{{Key: "l", Token: "7"}},
		Operations: []messages.Operation{{Participant: "a", Keys: []string{"k"}, Shared: []string{"s"}}, {Participant: "b"}},
	}
	first := w.submitted(prepares, &keyed, 2)
	if first[0].Since == 0 || first[1].Since != first[0].Since {
		t.Errorf("the ages are %d and %d", first[0].Since, first[1].Since)
	}
	for _, p := range first {
		if !slices.Equal(p.Locks, keyed.Locks) {
			t.Errorf("the locks are %v", p.Locks)
		}
	}
	if op := first[0].Operations[0]; !slices.Equal(op.Keys, []string{"k"}) || !slices.Equal(op.Shared, []string{"s"}) {
		t.Errorf("the operation is %+v", op)
	}
	keyed.Tx = messages.NewID()
	second := w.submitted(prepares, &keyed, 2)
	if second[0].Since <= first[0].Since {
		t.Errorf("the next age is %d, after %d", second[0].Since, first[0].Since)
	}
	keyed.Tx, keyed.Since = messages.NewID(), first[0].Since
	if again := w.submitted(prepares, &keyed, 2); again[0].Since != first[0].Since || again[1].Since != first[0].Since {
		t.Errorf("tried again, its ages are %d and %d; want %d", again[0].Since, again[1].Since, first[0].Since)
	}
	plain := messages.Submission{Tx: messages.NewID(), Since: 5, Operations: []messages.Operation{{Participant: "a"}}}
	if p := w.submitted(prepares, &plain, 1); p[0].Since != 0 || p[0].Locks != nil {
		t.Errorf("without keys: %+v", p[0])
	}
}

// TestMissingPreparesHaveTheAgeOfTheFirst: the leader died between two prepares. What its successor writes has the age that is
// in the log: otherwise each of two participants could think another one of two transactions the older.
func TestMissingPreparesHaveTheAgeOfTheFirst(t *testing.T) {
	w := newWorld(t)
	c, _ := w.coordinate(Config{Name: "first"})
	w.until("it leads", func() bool { return c.leadsShard(0) })
	w.register(c, "a")
	w.register(c, "b")
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	sub := messages.Submission{Tx: messages.NewID(), Operations: []messages.Operation{
		{Participant: "a", Keys: []string{"k"}}, {Participant: "b", Keys: []string{"k"}},
	}}
	begun := messages.AppendPrepare(nil, &messages.Prepare{
		Tx: sub.Tx, Participants: []string{"a", "b"}, Expires: time.Now().Add(time.Hour).UnixMilli(), Since: 4711,
		Operations: []messages.Operation{{Keys: []string{"k"}}},
	})
	if _, err := js.Publish(t.Context(), messages.Subjects{}.Prepare(0, "a"), begun); err != nil {
		t.Fatal(err)
	}
	w.until("it is read", func() bool { return w.knows(c, sub.Tx) })
	prepares := w.prepares()
	sub.Since = 12
	if missing := w.submitted(prepares, &sub, 1); missing[0].Since != 4711 {
		t.Errorf("the missing prepare has the age %d", missing[0].Since)
	}
}

// prepares hears all prepares that are written from now on.
func (w *world) prepares() *nats.Subscription {
	w.t.Helper()
	prepares, err := w.nc.SubscribeSync(messages.Subjects{}.Prepare(0, "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.nc.Flush(); err != nil {
		w.t.Fatal(err)
	}
	return prepares
}

// submitted submits a transaction and gives its prepares, by participant.
func (w *world) submitted(heard *nats.Subscription, sub *messages.Submission, count int) []messages.Prepare {
	w.t.Helper()
	if err := w.nc.Publish(messages.Subjects{}.Submit(0), messages.AppendSubmission(nil, sub)); err != nil {
		w.t.Fatal(err)
	}
	type entry struct {
		subject string
		prepare messages.Prepare
	}
	var entries []entry
	for len(entries) < count {
		msg, err := heard.NextMsg(patience)
		if err != nil {
			w.t.Fatal(err)
		}
		for line := range messages.Lines(msg.Data) {
			e := entry{subject: msg.Subject}
			if err := new(messages.Decoder).Prepare(line, &e.prepare); err != nil || e.prepare.Tx != sub.Tx {
				w.t.Fatalf("%s: %v", line, err)
			}
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.subject, b.subject) })
	prepares := make([]messages.Prepare, len(entries))
	for i := range entries {
		prepares[i] = entries[i].prepare
	}
	return prepares
}
