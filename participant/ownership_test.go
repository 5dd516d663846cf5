// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// owner is an Ownership of a function, which tells of its calls in their order.
type owner struct {
	claim func(tx messages.ID, routes []messages.Route) (uint64, error)
	mu    sync.Mutex
	calls []string
	names map[messages.ID]string

	takesPart atomic.Int32
}

func newOwner() *owner { return &owner{names: make(map[messages.ID]string)} }

func (o *owner) tell(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range args {
		if tx, ok := args[i].(messages.ID); ok {
			args[i] = o.name(tx)
		}
	}
	o.calls = append(o.calls, fmt.Sprintf(format, args...))
}

// name numbers the transactions in the order in which they appear.
func (o *owner) name(tx messages.ID) string {
	if o.names[tx] == "" {
		o.names[tx] = fmt.Sprint("tx", len(o.names)+1)
	}
	return o.names[tx]
}

func (o *owner) told() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.calls)
}

func (o *owner) Expect() { o.tell("expect") }

// TakesPart is told apart from the other calls: prepares may be claimed at the same moment.
func (o *owner) TakesPart() { o.takesPart.Add(1) }

func (o *owner) Recall(txs []messages.ID) {
	o.tell("recall %d", len(txs))
	for _, tx := range txs {
		o.tell("recall %v", tx)
	}
}

func (o *owner) Claim(tx messages.ID, routes []messages.Route) (uint64, error) {
	keys := make([]string, len(routes))
	for i := range routes {
		keys[i] = routes[i].Key
	}
	o.tell("claim %v %s", tx, strings.Join(keys, ","))
	if o.claim != nil {
		return o.claim(tx, routes)
	}
	return 0, nil
}

func (o *owner) Settle(tx messages.ID) { o.tell("settle %v", tx) }

// expect waits until exactly these calls were made.
func (o *owner) expect(t testing.TB, calls ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d calls; there were %q", len(calls), o.told()), func() bool { return len(o.told()) >= len(calls) })
	if got := o.told(); !slices.Equal(got, calls) {
		t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(calls, "\n"))
	}
}

// owned is a store that tells the owner of its handler's calls, too.
func owned(o *owner) *store {
	s := newStore()
	s.prepare = func(_ context.Context, b *participant.Branch) (participant.Vote, error) {
		o.tell("prepare %v", b.Tx)
		return participant.Yes, nil
	}
	s.commit = func(_ context.Context, tx messages.ID) error { o.tell("commit %v", tx); return nil }
	s.rollback = func(_ context.Context, tx messages.ID) error { o.tell("rollback %v", tx); return nil }
	return s
}

// routed is a prepare's line with an operation for each key.
func routed(tx messages.ID, name string, expires time.Duration, keys ...string) string {
	p := &messages.Prepare{Tx: tx, Participants: []string{name}, Expires: time.Now().Add(expires).UnixMilli()}
	for _, key := range keys {
		p.Operations = append(p.Operations, messages.Operation{
			Payload: []byte(`1`), Route: &messages.Route{Group: "accounts", Key: key, Incarnation: 5, Epoch: 17},
		})
	}
	return string(messages.AppendPrepare(nil, p))
}

// outcome sends an outcome for the yes, or the no, at a sequence.
func (d *desk) outcome(subject string, tx messages.ID, vote uint64) {
	d.w.Helper()
	must(d.w, d.w.nc.PublishRequest(subject, "reply", messages.AppendEffect(nil, &messages.Effect{Tx: tx, Vote: vote})))
}

// bare is a Handler that does not know what its store holds.
type bare struct{ participant.Handler }

func TestOwnershipNeedsInDoubt(t *testing.T) {
	o := newOwner()
	for name, cfg := range map[string]participant.Config{
		"handler": {Name: "p", Handler: bare{newStore()}, Ownership: o}, "batch": {Name: "p", Batch: &batchHandler{}, Ownership: o},
	} {
		if _, err := participant.New(nil, cfg); err == nil || !strings.Contains(err.Error(), "must implement InDoubt") || !strings.Contains(err.Error(), "restart") {
			t.Errorf("%s: got %v, want an error that asks for InDoubt and says why", name, err)
		}
	}
	if calls := o.told(); len(calls) != 0 {
		t.Errorf("an owner waits for a participant that there is not: %q", calls)
	}
}

// A branch is claimed before its handler is asked, once, however often its prepare comes, and until its outcome is applied.
func TestClaim(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		s := owned(o)
		p, err := participant.New(w.connect(), participant.Config{Name: "p", Handler: s, Ownership: o})
		must(t, err)
		o.expect(t, "expect")
		if o.takesPart.Load() != 0 {
			t.Error("a participant takes part that does not run")
		}
		w.run(p.Run).ready(p.Ready())
		o.expect(t, "expect", "recall 0")
		if told := o.takesPart.Load(); told != 1 {
			t.Errorf("a participant that takes part has said so %d times", told)
		}
		tx := newID()
		prepare := routed(tx, "p", time.Minute, "alice", "bob")
		d.prepare("p", prepare, prepare)
		d.vote(tx, messages.VoteYes)
		d.prepare("p", prepare)
		d.acknowledged("p")
		calls := []string{"expect", "recall 0", "claim tx1 alice,bob", "prepare tx1"}
		o.expect(t, calls...)
		d.outcome(subjects.Commit(0, "p"), tx, 2)
		calls = append(calls, "commit tx1", "settle tx1")
		o.expect(t, calls...)

		other := newID() // by the participant's name alone: there is nothing to claim
		d.prepare("p", line(other, "p", time.Minute))
		d.vote(other, messages.VoteYes)
		o.expect(t, append(calls, "prepare tx2")...)
	})
}

// The handler sees by which key an operation came.
func TestHandlerSeesTheRoute(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		s := owned(o)
		s.prepare = func(_ context.Context, b *participant.Branch) (participant.Vote, error) {
			for i, key := range []string{"alice", "bob"} {
				if r := b.Operations[i].Route; r == nil || *r != (messages.Route{Group: "accounts", Key: key, Incarnation: 5, Epoch: 17}) {
					t.Errorf("operation %d has route %+v", i, r)
				}
			}
			return participant.ReadOnly, nil
		}
		w.joinWith(participant.Config{Name: "p", Handler: s, Ownership: o})
		tx := newID()
		d.prepare("p", routed(tx, "p", time.Minute, "alice", "bob"))
		d.vote(tx, messages.VoteReadOnly)
		o.expect(t, "expect", "recall 0", "claim tx1 alice,bob", "settle tx1")
	})
}

func TestWrongOwner(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		reason := errors.New(`wrong owner: p does not own key "alice" in epoch 18`)
		o.claim = func(messages.ID, []messages.Route) (uint64, error) { return 18, reason }
		w.joinWith(participant.Config{Name: "p", Handler: owned(o), Ownership: o})
		tx := newID()
		d.prepare("p", routed(tx, "p", time.Minute, "alice"))
		if vote := d.vote(tx, messages.VoteNo); !vote.Held || vote.WrongOwner != 18 || vote.Reason != reason.Error() {
			t.Errorf("vote %+v, want a held one, by the wrong owner in epoch 18, because of %q", vote, reason)
		}
		d.acknowledged("p")
		d.outcome(subjects.Rollback(0, "p"), tx, 2)
		o.expect(t, "expect", "recall 0", "claim tx1 alice", "rollback tx1", "settle tx1")
		reason = nil
		tx = newID()
		d.prepare("p", routed(tx, "p", time.Minute, "alice"))
		if vote := d.vote(tx, messages.VoteNo); vote.WrongOwner != 18 || !strings.Contains(vote.Reason, "wrong owner") {
			t.Errorf("vote %+v, want one that has a reason although the owner gave none", vote)
		}
	})
}

// Who is not ready to act is asked again, and his handler only then.
func TestNotReady(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		claims := 0
		o.claim = func(messages.ID, []messages.Route) (uint64, error) {
			if claims++; claims < 3 {
				return 0, errors.New("not ready: no session")
			}
			return 0, nil
		}
		s := owned(o)
		w.joinWith(participant.Config{Name: "p", Handler: s, Ownership: o})
		tx := newID()
		d.prepare("p", routed(tx, "p", time.Minute, "alice"))
		d.vote(tx, messages.VoteYes)
		o.expect(t, "expect", "recall 0", "claim tx1 alice", "claim tx1 alice", "claim tx1 alice", "prepare tx1")
		d.outcome(subjects.Commit(0, "p"), tx, 2)
		receive(w, s.committed, "a commit") // it would repeat its vote

		o.claim = func(messages.ID, []messages.Route) (uint64, error) { return 0, errors.New("not ready: no session") }
		tx = newID()
		d.prepare("p", routed(tx, "p", 10*time.Second, "alice"))
		if vote := d.vote(tx, messages.VoteNo); !vote.Held || vote.WrongOwner != 0 || vote.Reason != "not ready: no session" {
			t.Errorf("vote %+v, want a held one that says what it waited for in vain", vote)
		}
	})
}

// A Prepare that fails may have been durable, so its branch stays claimed until the rollback that its no asks for.
func TestFailedPrepareStaysClaimed(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		s := owned(o)
		s.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			return 0, errors.New("the disk is full")
		}
		w.joinWith(participant.Config{Name: "p", Handler: s, Ownership: o})
		tx := newID()
		d.prepare("p", routed(tx, "p", 250*time.Millisecond, "alice"))
		d.vote(tx, messages.VoteNo)
		d.acknowledged("p")
		<-time.After(time.Minute) // the bubble's
		if calls := o.told(); slices.Contains(calls, "settle tx1") {
			t.Errorf("given up before the rollback: %q", calls)
		}
		d.outcome(subjects.Rollback(0, "p"), tx, 2)
		eventually(t, "it is settled", func() bool { return slices.Contains(o.told(), "settle tx1") })
		if calls := o.told(); !slices.Equal(calls[len(calls)-2:], []string{"rollback tx1", "settle tx1"}) {
			t.Errorf("calls %q", calls)
		}
	})
}

// What the store holds prepared is recalled before anything is heard or taken, and its prepare is not claimed anew.
func TestRecalledBeforeAnythingElse(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		s := owned(o)
		tx := newID()
		s.doubt = []messages.ID{tx}
		first := w.joinWith(participant.Config{Name: "p", Handler: newHandler()}) // so that there is a consumer
		first.end()
		d.prepare("p", routed(tx, "p", time.Minute, "alice"))
		for range 2 {
			receive(w, d.asked, "the registrations of the first") // at its start, and of its connection
			if len(d.asked) == 0 {
				break
			}
		}
		d.responses <- func(*messages.RegisterResponse) { o.expect(t, "expect", "recall 1", "recall tx1") }
		w.joinWith(participant.Config{Name: "p", Handler: s, Ownership: o})
		d.vote(tx, messages.VoteYes)
		d.acknowledged("p")
		d.outcome(subjects.Commit(0, "p"), tx, 2)
		o.expect(t, "expect", "recall 1", "recall tx1", "commit tx1", "settle tx1")
	})
}

// A store that cannot say what it holds lets nothing be handed over.
func TestRecallFails(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		s := owned(o)
		s.doubtErr = errors.New("the store is broken")
		_, r := w.start(w.connect(), participant.Config{Name: "p", Handler: s, Ownership: o})
		if err := r.wait(); !errors.Is(err, s.doubtErr) {
			t.Errorf("Run with a store that does not know: %v", err)
		}
		o.expect(t, "expect")
		if len(d.asked) != 0 {
			t.Error("it registered")
		}
	})
}

// doubtful is a batchHandler that knows what is in doubt.
type doubtful struct{ batchHandler }

func (*doubtful) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

// The branches of a message that cannot be claimed are answered; the others go on.
func TestBatchClaims(t *testing.T) {
	inBubble(t, func(w *world) {
		d, o := w.openDesk(), newOwner()
		ready := make(chan struct{})
		o.claim = func(_ messages.ID, routes []messages.Route) (uint64, error) {
			switch routes[0].Key {
			case "moved":
				return 18, errors.New("wrong owner: p does not own it")
			case "later":
				select {
				case <-ready:
				default:
					return 0, errors.New("not ready")
				}
			}
			return 0, nil
		}
		h := &doubtful{}
		w.joinWith(participant.Config{Name: "p", Batch: h, Ownership: o})
		const each = 20
		want := map[messages.ID]messages.VoteRecord{}
		var lines []string
		for i := range 3 * each {
			tx, key := newID(), []string{"mine", "moved", "later"}[i%3]
			lines = append(lines, routed(tx, "p", time.Minute, key))
			want[tx] = messages.VoteRecord{Vote: messages.VoteYes}
			if key == "moved" {
				want[tx] = messages.VoteRecord{Vote: messages.VoteNo, WrongOwner: 18, Held: true}
			}
		}
		d.prepare("p", lines...)
		for i := range 3 * each {
			if i == 2*each {
				close(ready) // nobody waits for those who are not ready
			}
			vote := receive(w, d.votes, "a vote")
			if w, ok := want[vote.Tx]; !ok || vote.Vote != w.Vote || vote.WrongOwner != w.WrongOwner || vote.Held != w.Held {
				t.Errorf("vote %+v, want %+v", vote, w)
			}
			delete(want, vote.Tx)
		}
		prepares := 0
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, n := range h.prepares {
			prepares += n
		}
		if prepares != 2*each {
			t.Errorf("%d branches were prepared, want the %d that could be claimed", prepares, 2*each)
		}
	})
}
