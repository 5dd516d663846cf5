// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestOpenSettledAndTakenOver(t *testing.T) {
	f := start(t)
	j := f.take(f.js(""), Config{})
	a, b, c, d := entry(id(1), `{"n":1}`), entry(id(2), `{"n":2}`), entry(id(3), `{"n":3}`), id(4)
	must(t, j.Append(f.ctx(), a, b, c))
	must(t, j.Settle(f.ctx(), committed(a.Tx), rolledBack(c.Tx), committed(d)))
	must(t, j.SetWatermark(f.ctx(), "assent-log-0", "2026", 42))
	check := func(j *Journal) {
		t.Helper()
		wantOpen(t, j, b)
		for tx, want := range map[messages.ID]Status{a.Tx: Committed, b.Tx: Open, c.Tx: RolledBack, d: Unknown} {
			if got := j.Status(tx); got != want {
				t.Errorf("status of %s: %v, want %v", tx, got, want)
			}
		}
		if incarnation, sequence, err := j.Watermark(f.ctx(), "assent-log-0"); incarnation != "2026" || sequence != 42 || err != nil {
			t.Errorf("watermark: %v, %v, %v", incarnation, sequence, err)
		}
		if got, ok := j.Entry(b.Tx); !ok || string(got.Data) != string(b.Data) {
			t.Errorf("entry: %v, %v", got, ok)
		}
		if s := j.Stats(); s.Open != 1 || s.Remembered != 2 || !s.Oldest.Equal(b.Tx.Time()) {
			t.Errorf("stats: %+v", s)
		}
	}
	check(j)
	next := f.take(f.js(""), Config{})
	check(next)

	// The older one can do nothing any more, and says why.
	for name, call := range map[string]func() error{
		"append":    func() error { return j.Append(f.ctx(), entry(d, "{}")) },
		"settle":    func() error { return j.Settle(f.ctx(), committed(b.Tx)) },
		"prove":     func() error { return j.Prove(f.ctx()) },
		"watermark": func() error { return j.SetWatermark(f.ctx(), "assent-log-0", "2026", 1) },
	} {
		if err := call(); !errors.Is(err, ErrSuperseded) || !strings.Contains(err.Error(), next.instance) {
			t.Errorf("%s by one who was superseded: %v", name, err)
		}
	}
	<-j.Dead()
	if err := j.Err(); !errors.Is(err, ErrSuperseded) {
		t.Errorf("it is dead because of: %v", err)
	}
	check(next)
	must(t, next.Settle(f.ctx(), committed(b.Tx)))
	wantOpen(t, next)
}

// A journal is the same after the server was ended and started again, with or without a new instance.
func TestServerRestarts(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{})
	a, b := entry(id(1), "{}"), entry(id(2), "{}")
	must(t, j.Append(f.ctx(), a))
	f.down()
	waiting := make(chan error, 1)
	go func() { waiting <- j.Append(f.ctx(), b) }()
	f.up()
	// It may have been refused while nobody was there; then it is not stored, and is tried again by whoever wants it.
	for err := <-waiting; err != nil; err = j.Append(f.ctx(), b) {
		if f.ctx().Err() != nil || j.Err() != nil {
			t.Fatal(err)
		}
	}
	wantOpen(t, j, a, b)
	wantOpen(t, f.take(js, Config{}), a, b)
}

// The acknowledgement of a write is lost: it is found where it stands, and stored once.
func TestLostAcknowledgement(t *testing.T) {
	f := start(t)
	l := f.link()
	j := f.take(f.js(l.URL()), Config{patience: 100 * time.Millisecond})
	direct := f.js("")
	var want []Entry
	for i := range 3 {
		e := entry(id(i+1), "{}")
		want = append(want, e)
		before := f.stream(direct).LastSeq
		l.GoDeaf()
		appended := make(chan error, 1)
		go func() { appended <- j.Append(f.ctx(), e) }()
		f.until(func() bool { return f.stream(direct).LastSeq == before+1 })
		l.Mend()
		must(t, <-appended)
		if last := f.stream(direct).LastSeq; last != before+1 {
			t.Errorf("it was stored %d times", last-before)
		}
	}
	wantOpen(t, j, want...)
	wantOpen(t, f.take(direct, Config{}), want...)
}

func (f *fixture) until(condition func() bool) {
	f.t.Helper()
	for ctx := f.ctx(); !condition(); {
		if !streams.Pause(ctx, time.Millisecond) {
			f.t.Fatal("it does not happen")
		}
	}
}

// Who gives up waiting for a write does not know whether it is stored; the journal finds out before it writes anything else.
func TestGivenUp(t *testing.T) {
	f := start(t)
	l := f.link()
	j := f.take(f.js(l.URL()), Config{patience: 100 * time.Millisecond})
	direct := f.js("")
	before := f.stream(direct).LastSeq
	l.GoDeaf()
	ctx, cancel := context.WithCancel(f.ctx())
	appended := make(chan error, 1)
	a, b := entry(id(1), "{}"), entry(id(2), "{}")
	go func() { appended <- j.Append(ctx, a) }()
	f.until(func() bool { return f.stream(direct).LastSeq == before+1 })
	cancel()
	if err := <-appended; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if s := j.Status(a.Tx); s != Unknown {
		t.Errorf("what is not known is %v", s)
	}
	l.Mend()
	must(t, j.Append(f.ctx(), b))
	wantOpen(t, j, a, b)
}

// The outcome comes before it is known whether the branch was written, for which its Prepare has given up to wait: nothing stays open, what
// it came to is remembered, and it does not count as committed before it can have been applied.
func TestSettledBeforeItIsKnown(t *testing.T) {
	f := start(t)
	l := f.link()
	j := f.take(f.js(l.URL()), Config{patience: 100 * time.Millisecond})
	direct := f.js("")
	other := entry(id(7), "{}")
	must(t, j.Append(f.ctx(), other))
	for name, c := range map[string]struct {
		outcomes []participant.Outcome
		want     Status
	}{
		"rolled back": {[]participant.Outcome{rolledBack(id(1))}, RolledBack},
		"rolled back with one that is known as open": {[]participant.Outcome{rolledBack(id(2)), committed(other.Tx)}, RolledBack},
		"committed": {[]participant.Outcome{committed(id(3))}, Committed},
	} {
		tx := c.outcomes[0].Tx
		before := f.stream(direct).LastSeq
		l.GoDeaf()
		ctx, cancel := context.WithCancel(f.ctx())
		appended, settled := make(chan error, 1), make(chan error, 1)
		go func() { appended <- j.Append(ctx, entry(tx, "{}")) }()
		f.until(func() bool { return f.stream(direct).LastSeq == before+1 })
		cancel()
		if err := <-appended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: given up: %v", name, err)
		}
		waiting := &waits{Context: f.ctx(), begun: make(chan struct{})}
		go func() { settled <- j.Settle(waiting, c.outcomes...) }()
		<-waiting.begun // its write is in the queue
		l.Mend()
		err := <-settled
		if c.want == Committed {
			if e, open := j.Entry(tx); err == nil || !open || string(e.Data) != "{}" {
				t.Errorf("%s: %v, and it is open: %v", name, err, open)
			}
			err = j.Settle(f.ctx(), c.outcomes...)
		}
		must(t, err)
		if s := j.Status(tx); s != c.want {
			t.Errorf("%s: it is %v, want %v", name, s, c.want)
		}
	}
	wantOpen(t, j)
	wantOpen(t, f.take(direct, Config{}))
}

// waits is a context that tells when somebody begins to wait.
type waits struct {
	context.Context
	once  sync.Once
	begun chan struct{}
}

func (w *waits) Done() <-chan struct{} {
	w.once.Do(func() { close(w.begun) })
	return w.Context.Done()
}

// Another instance takes over while this one does not know what became of its write: what was stored is the new one's, and
// nothing is stored after it.
func TestSupersededWhileUnknown(t *testing.T) {
	f := start(t)
	l := f.link()
	j := f.take(f.js(l.URL()), Config{patience: 100 * time.Millisecond})
	direct := f.js("")
	before := f.stream(direct).LastSeq
	l.GoDeaf()
	stored, late := entry(id(1), "{}"), entry(id(2), "{}")
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- j.Append(f.ctx(), stored) }()
	f.until(func() bool { return f.stream(direct).LastSeq == before+1 })
	go func() { second <- j.Append(f.ctx(), late) }()
	next := f.take(direct, Config{})
	wantOpen(t, next, stored)
	l.Mend()
	must(t, <-first) // it was stored when this one was the writer
	if err := <-second; !errors.Is(err, ErrSuperseded) {
		t.Errorf("after the other took over: %v", err)
	}
	wantOpen(t, next, stored)
	wantOpen(t, f.take(direct, Config{}), stored)
}

// Two instances take the journal from each other, again and again, while both write: what was acknowledged is there, and at any
// time one of them at most can write.
func TestTwoWriters(t *testing.T) {
	f := start(t)
	var mu sync.Mutex
	acknowledged := map[messages.ID]bool{}
	var writing sync.WaitGroup
	for w := range 2 {
		js := f.js("")
		writing.Go(func() {
			for round := range 8 {
				j, err := Take(f.ctx(), js, Config{Name: "kv", span: 40, trim: 10})
				if err != nil {
					t.Error(err)
					return
				}
				for n := range 20 {
					e := entry(id(w*100_000+round*100+n+1), "{}")
					if err := j.Append(f.ctx(), e); err != nil {
						if !errors.Is(err, ErrSuperseded) {
							t.Error(err)
						}
						break
					}
					mu.Lock()
					acknowledged[e.Tx] = true
					mu.Unlock()
				}
				j.Close()
			}
		})
	}
	writing.Wait()
	open := map[messages.ID]bool{}
	for _, e := range f.take(f.js(""), Config{}).Entries() {
		open[e.Tx] = true
	}
	for tx := range acknowledged {
		if !open[tx] {
			t.Errorf("%s was acknowledged and is gone", tx)
		}
	}
	if len(acknowledged) < 20 {
		t.Errorf("only %d were ever acknowledged", len(acknowledged))
	}
}

// A message that does not stand where its writer meant it to counts for nobody, whoever let it in.
func TestAMessageThatCameTooLateDoesNotCount(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{})
	must(t, j.Append(f.ctx(), entry(id(1), "{}")))
	j.Close()
	_, err := js.PublishMsg(f.ctx(), &nats.Msg{Subject: "assent.journal.kv", Data: []byte("open " + id(2).String() + " 99999999999999 {}\n"),
		Header: nats.Header{headerName: {"1 zombie 1"}}})
	must(t, err)
	next := f.take(js, Config{})
	if open := next.Entries(); len(open) != 1 || open[0].Tx != id(1) || next.Stats().Ignored != 1 {
		t.Errorf("open: %v, stats %+v", open, next.Stats())
	}
}

func TestTrimmedAndMovedUp(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{span: 20, trim: 5})
	long := entry(id(1), `{"long":true}`)
	long.Note = "long"
	must(t, j.Append(f.ctx(), long))
	must(t, j.SetWatermark(f.ctx(), "assent-log-0", "1", 7))
	for i := range 200 {
		e := Entry{Tx: id(i + 2), Expires: time.UnixMilli(1), Data: []byte("{}")} // settled, it is not remembered
		must(t, j.Append(f.ctx(), e))
		must(t, j.Settle(f.ctx(), committed(e.Tx)))
	}
	f.until(func() bool {
		must(t, j.Prove(f.ctx()))
		return f.stream(js).Msgs < 60
	})
	wantOpen(t, j, long)
	if e, _ := j.Entry(long.Tx); e.Note != "long" || j.Entries()[0].Note != "long" {
		t.Errorf("the note is %v", e.Note)
	}
	next := f.take(js, Config{})
	wantOpen(t, next, long)
	if e, _ := next.Entry(long.Tx); e.Note != nil {
		t.Errorf("the next instance has the note %v", e.Note)
	}
	if _, sequence, _ := next.Watermark(f.ctx(), "assent-log-0"); sequence != 7 {
		t.Errorf("the watermark is %d", sequence)
	}
}

// Beyond what is remembered the floor stands for what was forgotten, also for the next instance.
func TestForgotten(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{span: 5, trim: 1})
	j.state.maxPast = 3
	for i := range 10 {
		e := entry(id(100+i), "{}")
		must(t, j.Append(f.ctx(), e))
		must(t, j.Settle(f.ctx(), committed(e.Tx)))
	}
	for range 20 {
		must(t, j.Prove(f.ctx()))
	}
	f.until(func() bool {
		must(t, j.Prove(f.ctx()))
		return f.stream(js).FirstSeq > 20
	})
	for name, j := range map[string]*Journal{"this": j, "the next": f.take(js, Config{})} {
		for ms, want := range map[int]Status{100: Forgotten, 99: Forgotten, 106: Forgotten, 109: Committed, 110: Unknown} {
			if got := j.Status(id(ms)); got != want {
				t.Errorf("%s instance: status of %d: %v, want %v", name, ms, got, want)
			}
		}
	}
}

// What does not fit in one message is written in several.
func TestLargeAndMany(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{})
	var entries []Entry
	for i := range 5 {
		entries = append(entries, entry(id(i+1), strings.Repeat("x", messages.MaxRecord)))
	}
	for i := range 1500 {
		entries = append(entries, entry(id(i+100), "{}"))
	}
	must(t, j.Append(f.ctx(), entries...))
	if n := f.stream(js).Msgs; n < 1+3+3 || n > 20 {
		t.Errorf("%d messages", n)
	}
	next := f.take(js, Config{})
	wantOpen(t, next, entries...)
	for range 10 { // and written again
		must(t, next.Prove(f.ctx()))
	}
	next.cfg.span = 1
	must(t, next.Prove(f.ctx()))
	must(t, next.Prove(f.ctx()))
	wantOpen(t, f.take(js, Config{}), entries...)

	for _, bad := range []Entry{{Tx: id(1)}, entry(id(1), "a\nb")} {
		if err := next.Append(f.ctx(), bad); err == nil || !strings.Contains(err.Error(), "Data is empty or has a newline") {
			t.Errorf("%v", err)
		}
	}
	if err := next.Append(f.ctx(), entry(id(1), strings.Repeat("x", maxBody))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if err := next.SetWatermark(f.ctx(), "a b", "1", 1); err == nil {
		t.Error("a stream's name with a space is taken")
	}
}

// A stream that is full refuses, and holds what it holds; with room it goes on.
func TestFull(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{})
	a := entry(id(1), "{}")
	must(t, j.Append(f.ctx(), a))
	s, err := js.Stream(f.ctx(), j.name)
	must(t, err)
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = 1 << 10
	_, err = js.UpdateStream(f.ctx(), cfg)
	must(t, err)
	b := entry(id(2), strings.Repeat("x", 2<<10))
	if err := j.Append(f.ctx(), b); err == nil || j.Err() != nil {
		t.Fatalf("a full stream: %v, and the journal: %v", err, j.Err())
	}
	cfg.MaxBytes = -1
	_, err = js.UpdateStream(f.ctx(), cfg)
	must(t, err)
	must(t, j.Append(f.ctx(), b))
	wantOpen(t, j, a, b)
}

func TestGarbage(t *testing.T) {
	body := "here\n"
	for name, c := range map[string]struct {
		header nats.Header
		body   string
		want   error
		text   string
	}{
		"no header":       {nil, body, ErrDamaged, "nats stream rmm assent-journal-kv 2"},
		"another header":  {nats.Header{headerName: {"x"}}, body, ErrDamaged, `"x"`},
		"an empty header": {nats.Header{headerName: {""}}, body, ErrDamaged, "no journal wrote it"},
		"no base":         {nats.Header{headerName: {"1 me"}}, body, ErrDamaged, "no journal wrote it"},
		"a newer version": {nats.Header{headerName: {"2 something else"}}, body, ErrNewer, "its format is 2"},
		"no record":       {nats.Header{headerName: {"1 me 1"}}, "hello\n", ErrDamaged, `"hello"`},
		"an empty line":   {nats.Header{headerName: {"1 me 1"}}, "\n", ErrDamaged, `""`},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			js := f.js("")
			j := f.take(js, Config{})
			publish := func() uint64 {
				ack, err := js.PublishMsg(f.ctx(), &nats.Msg{Subject: "assent.journal.kv", Data: []byte(c.body), Header: c.header})
				must(t, err)
				return ack.Sequence
			}
			sequence := publish()
			if _, err := Take(f.ctx(), js, Config{Name: "kv"}); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("taken: %v", err)
			}
			// The one who is there notices when it writes.
			if err := j.Prove(f.ctx()); err == nil || j.Err() == nil {
				t.Errorf("written behind it: %v", err)
			}
			s, err := js.Stream(f.ctx(), "assent-journal-kv")
			must(t, err)
			must(t, s.DeleteMsg(f.ctx(), sequence))
			must(t, f.take(js, Config{}).Prove(f.ctx()))
		})
	}
}

// A stream that was deleted and made anew has lost what was prepared: the instance that knows says so.
func TestLost(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{})
	must(t, j.Append(f.ctx(), entry(id(1), "{}")))
	must(t, js.DeleteStream(f.ctx(), j.name))
	if err := j.Append(f.ctx(), entry(id(2), "{}")); err == nil || j.Err() != nil {
		t.Errorf("without a stream: %v, and the journal: %v", err, j.Err())
	}
	_, err := js.CreateStream(f.ctx(), settings(&Config{Prefix: "assent", Name: "kv", Replicas: 1}))
	must(t, err)
	if err := j.Append(f.ctx(), entry(id(2), "{}")); !errors.Is(err, ErrLost) {
		t.Errorf("with another stream: %v", err)
	}
}

func TestSettings(t *testing.T) {
	f := start(t)
	js := f.js("")
	for setting, change := range map[string]func(*jetstream.StreamConfig){
		"storage":                  func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"retention":                func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"discard":                  func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"max age":                  func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max messages is":          func(c *jetstream.StreamConfig) { c.MaxMsgs = 5 },
		"max messages per subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"max message size":         func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 10 },
		"subjects":                 func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "another.subject") },
		"rollup":                   func(c *jetstream.StreamConfig) { c.AllowRollup = true },
		"deny purge":               func(c *jetstream.StreamConfig) { c.DenyPurge = true },
		"no ack":                   func(c *jetstream.StreamConfig) { c.NoAck = true },
	} {
		name := messages.NewID().String()
		cfg := settings(&Config{Prefix: "assent", Name: name, Replicas: 1})
		change(&cfg)
		_, err := js.CreateStream(f.ctx(), cfg)
		must(t, err)
		if _, err := Take(f.ctx(), js, Config{Name: name}); !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: %v", setting, err)
		}
	}
	for _, cfg := range []Config{{}, {Name: "a b"}, {Name: "kv", Prefix: "a..b"}, {Name: "kv", Replicas: -1}} {
		if _, err := Take(f.ctx(), js, cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// A closed journal says so, and closing it twice is the same as once.
func TestClosed(t *testing.T) {
	f := start(t)
	j := f.take(f.js(""), Config{})
	j.Close()
	j.Close()
	if err := j.Append(f.ctx(), entry(id(1), "{}")); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("%v", err)
	}
}

// What many write at once shares messages.
func TestGroupCommit(t *testing.T) {
	f := start(t)
	js := f.js("")
	j := f.take(js, Config{})
	var writing sync.WaitGroup
	for w := range 32 {
		writing.Go(func() {
			for n := range 20 {
				e := entry(id(1+w*100+n), fmt.Sprintf(`{"pad":%q}`, bytes.Repeat([]byte("x"), 50)))
				if err := errors.Join(j.Append(f.ctx(), e), j.Settle(f.ctx(), committed(e.Tx))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	wantOpen(t, j)
	if n := f.stream(js).LastSeq; n > 640 {
		t.Errorf("1280 writes in %d messages", n)
	}
}
