// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// locker is somebody else who uses the locks of the clients.
func locker(t *testing.T, nc *nats.Conn) *locks.Session {
	t.Helper()
	s, err := locks.Open(patient(t), nc, locks.Config{Owner: "somebody else"})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, s.Close(ctx))
	})
	return s
}

// isHeld tells whether a key cannot be had now.
func isHeld(t *testing.T, s *locks.Session, key string) bool {
	t.Helper()
	lock, err := s.TryLock(patient(t), key)
	if errors.Is(err, locks.ErrHeld) {
		return true
	}
	must(t, err)
	must(t, lock.Unlock(patient(t)))
	return false
}

// force takes a lock from whoever has it, as a pause of its holder for longer than its lease would.
func force(t *testing.T, nc *nats.Conn, key string) {
	t.Helper()
	_, err := locks.ForceRelease(patient(t), nc, locks.DefaultBucket, locks.KindLock, key)
	must(t, err)
}

func TestLocksThatCannotBe(t *testing.T) {
	client, _ := assent.Unconnected(time.Minute)
	many := make([]string, messages.MaxLocks+1)
	for i := range many {
		many[i] = fmt.Sprint("k", i)
	}
	for _, c := range []struct {
		keys           []string
		field, message string
	}{
		{[]string{"a", "a", "b c"}, "locks[1].key", `"b c"`},
		{[]string{""}, "locks[0].key", "empty"},
		{[]string{strings.Repeat("k", 513)}, "locks[0].key", "513 bytes"},
		{many, "locks", "64"},
	} {
		tx := client.Begin()
		tx.Lock(c.keys...)
		tx.Enlist("p", 1)
		wantInvalid(t, tx.Commit(t.Context()), c.field, c.message)
	}
}

// branches is a handler that gives its branches to the test, and waits at each of them until it may go on.
type branches struct {
	*recorder
	asked   chan *participant.Branch
	release chan struct{}
}

func newBranches() *branches {
	return &branches{newRecorder(), make(chan *participant.Branch, 1024), make(chan struct{})}
}

func (b *branches) Prepare(ctx context.Context, br *participant.Branch) (participant.Vote, error) {
	b.asked <- br
	select {
	case <-b.release:
		return participant.Yes, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// The locks are held from before the submission until the outcome is known, and every participant is told their tokens.
func TestLocksAreHeldUntilTheOutcome(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	b := newBranches()
	join(t, nc, "p", b)
	client, others := newClient(t, nc), locker(t, nc)
	tx := client.Begin()
	tx.Lock("b", "a")
	tx.Lock("a")
	tx.Enlist("p", 1)
	outcome := make(chan error, 1)
	go func() { outcome <- tx.Commit(patient(t)) }()
	asked := receive(t, b.asked, "it is prepared")
	if len(asked.Locks) != 2 || asked.Locks[0].Key != "a" || asked.Locks[1].Key != "b" {
		t.Errorf("the branch has the locks %v, want a and b", asked.Locks)
	}
	for _, lock := range asked.Locks {
		if token, err := locks.ParseToken(lock.Token); err != nil || token.IsZero() {
			t.Errorf("%s: %v", lock.Token, err)
		}
		if !isHeld(t, others, lock.Key) {
			t.Errorf("%s is free while the transaction is undecided", lock.Key)
		}
	}
	close(b.release)
	must(t, receive(t, outcome, "an outcome"))
	for _, key := range []string{"a", "b"} {
		eventually(t, key+" is given back", func() bool { return !isHeld(t, others, key) })
	}
	tx = client.Begin() // in another session, when the first is lost
	must(t, client.EndSession(patient(t)))
	for i := range messages.MaxLocks {
		tx.Lock(fmt.Sprint("many-", i))
	}
	tx.Enlist("p", 1)
	must(t, tx.Commit(patient(t)))
	client.Close() // it waits until everything is given back
	all, err := locks.List(patient(t), nc, locks.DefaultBucket)
	must(t, err)
	for _, info := range all {
		if len(info.Holders) > 0 {
			t.Errorf("%s is held when the client is closed: %v", info.Key, info.Holders)
		}
	}
	if err := tx.Commit(patient(t)); !errors.Is(err, assent.ErrClosed) {
		t.Errorf("a client that is closed locks: %v", err)
	}
}

// serial is a handler that wants each transaction to come with a greater token than all before, and all before to be decided.
type serial struct {
	*recorder
	shared *sequence
}

type sequence struct {
	t      *testing.T
	client *assent.Client
	mu     sync.Mutex
	newest string
	last   assent.ID
	seen   int
}

func (s serial) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	q := s.shared
	q.mu.Lock()
	defer q.mu.Unlock()
	token := b.Locks[0].Token
	if token < q.newest {
		q.t.Errorf("the token %s comes after %s", token, q.newest)
	}
	if b.Tx != q.last && q.seen > 0 {
		if outcome, err := q.client.Outcome(ctx, q.last); outcome == assent.Undecided || err != nil {
			q.t.Errorf("%s is asked while %s is %v, %v", b.Tx, q.last, outcome, err)
		}
	}
	q.newest, q.last = token, b.Tx
	q.seen++
	return participant.Yes, nil
}

// Transactions of two clients that lock one key follow one another, whichever participants they have.
func TestLocksExclude(t *testing.T) {
	s := server(t, embedded.Config{})
	coordinate(t, s, coordinator.Config{})
	q := &sequence{t: t, client: newClient(t, connect(t, s))}
	names := []string{"a", "b", "c"}
	for _, name := range names {
		join(t, connect(t, s), name, serial{newRecorder(), q})
	}
	const each = 8
	var running sync.WaitGroup
	for n := range 2 {
		client := newClient(t, connect(t, s))
		for w := range 2 {
			running.Go(func() {
				for i := range each {
					if err := client.Do(patient(t), func(tx *assent.Tx) error {
						tx.Lock("resource", fmt.Sprint("second-", w))
						tx.Enlist(names[(n+i)%3], 1)
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	running.Wait()
	if q.seen < 4*each {
		t.Errorf("%d prepares, want %d", q.seen, 4*each)
	}
}

// lost begins a transaction whose lock is lost while its keys are looked up: before it is submitted.
func (r *routed) lost(t *testing.T, tx **assent.Tx) {
	var once sync.Once
	r.ring.asked = func(int) {
		once.Do(func() {
			held := (*tx).Held()
			force(t, r.nc, "resource")
			eventually(t, "the lock is lost", func() bool { return held.Err() != nil })
		})
	}
}

// A lock that is lost before the submission is a conflict: nothing happened. Do takes it again.
func TestALockIsLostBeforeTheSubmission(t *testing.T) {
	r := newRouted(t)
	var tx *assent.Tx
	enlist := func(options ...assent.TxOption) {
		tx = begin(r.client, options...)
		tx.Lock("resource")
	}
	r.lost(t, &tx)
	enlist()
	err := tx.Commit(patient(t))
	var lost *assent.LockLostError
	if !errors.As(err, &lost) || lost.Tx != tx.ID() || !errors.Is(err, assent.ErrConflict) || !errors.Is(err, locks.ErrLost) ||
		errors.Is(err, assent.ErrUnknown) || errors.Is(err, assent.ErrAborted) {
		t.Errorf("got %v, want that the lock was lost", err)
	}
	if _, err := r.client.Outcome(patient(t), tx.ID()); !errors.Is(err, assent.ErrNotFound) {
		t.Errorf("it was submitted: %v", err)
	}
	// An id that was minted elsewhere may have been submitted: that it met another one would be no proof.
	r.lost(t, &tx)
	enlist(assent.WithID(assent.NewID()))
	if err := tx.Commit(patient(t)); errors.Is(err, assent.ErrConflict) || !errors.Is(err, locks.ErrLost) {
		t.Errorf("got %v, want that the lock was lost, and no conflict", err)
	}
	r.lost(t, &tx)
	calls := 0
	must(t, r.client.Do(patient(t), func(fresh *assent.Tx) error {
		calls, tx = calls+1, fresh
		tx.Lock("resource")
		tx.EnlistKey("g", "k1", "one", assent.Keys("k1"))
		tx.EnlistKey("g", "k2", "two")
		return nil
	}))
	if calls != 2 {
		t.Errorf("%d attempts, want 2", calls)
	}
	r.wantOnce(t)
}

// A lock that is lost between two attempts of one chain: somebody else may go on with that, so it is unknown.
func TestALockIsLostBetweenAttempts(t *testing.T) {
	r := newRouted(t)
	tx := begin(r.client)
	tx.Lock("resource")
	r.nodes.move("k1", "n3")
	r.ring.asked = func(n int) {
		if n == 2 {
			held := tx.Held()
			force(t, r.nc, "resource")
			eventually(t, "the lock is lost", func() bool { return held.Err() != nil })
		}
	}
	err := tx.Commit(patient(t))
	if !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, assent.ErrMoved) || errors.Is(err, assent.ErrConflict) {
		t.Errorf("got %v, want an unknown outcome after a move", err)
	}
	r.ring.asked = nil
	r.ring.change(func() { r.ring.owners["k1"] = "n3" })
	must(t, tx.Commit(patient(t))) // the same Tx locks anew, and goes on
	r.wantOnce(t)
}

// While the outcome is unknown the locks are kept, and given back once it is known.
func TestLocksOfAnUnknownOutcome(t *testing.T) {
	s := server(t, embedded.Config{})
	coordinate(t, s, coordinator.Config{})
	b := newBranches()
	join(t, connect(t, s), "p", b)
	client, others := newClient(t, connect(t, s)), locker(t, connect(t, s))
	unknown := func(key string) *assent.Tx {
		tx := client.Begin()
		tx.Lock(key)
		tx.Enlist("p", 1)
		ctx, cancel := context.WithCancel(context.Background())
		outcome := make(chan error, 1)
		go func() { outcome <- tx.Commit(ctx) }()
		receive(t, b.asked, "it is prepared")
		cancel()
		if err := receive(t, outcome, "Commit returns"); !errors.Is(err, assent.ErrUnknown) {
			t.Fatalf("got %v, want an unknown outcome", err)
		}
		if !isHeld(t, others, key) {
			t.Errorf("%s is free while the outcome is unknown", key)
		}
		return tx
	}
	unknown("left")
	again := unknown("again")
	token := again.Held()[0].Token()
	outcome := make(chan error, 1)
	go func() { outcome <- again.Commit(patient(t)) }() // it takes over what the first Commit has left
	close(b.release)
	must(t, receive(t, outcome, "an outcome"))
	for _, key := range []string{"left", "again"} {
		eventually(t, key+" is given back", func() bool { return !isHeld(t, others, key) })
	}
	if lock, err := others.Lock(patient(t), "again"); err != nil || lock.Token().Compare(token) <= 0 {
		t.Errorf("the next token is %v, after %v; %v", lock.Token(), token, err)
	}
	closed := newClient(t, connect(t, s)) // and by Close, whatever is known
	b.release = make(chan struct{})
	client = closed
	unknown("closed")
	closed.Close()
	if isHeld(t, others, "closed") {
		t.Error("a client that is closed holds its locks")
	}
	close(b.release)
}

// The leases of a client that dies lapse, and the next one goes on, with a greater token.
func TestLocksOfTheDeadLapse(t *testing.T) {
	s := server(t, embedded.Config{})
	coordinate(t, s, coordinator.Config{})
	slow, quick := newBranches(), newBranches()
	join(t, connect(t, s), "slow", slow)
	join(t, connect(t, s), "quick", quick)
	close(quick.release)
	locking := func(nc *nats.Conn, name string) <-chan error {
		client, err := assent.New(nc, assent.Config{Locks: locks.Config{TTL: time.Second}})
		must(t, err)
		t.Cleanup(client.Close)
		outcome := make(chan error, 1)
		go func() {
			outcome <- client.Do(patient(t), func(tx *assent.Tx) error {
				tx.Lock("resource")
				tx.Enlist(name, 1)
				return nil
			})
		}()
		return outcome
	}
	dying := connect(t, s)
	dead := locking(dying, "slow")
	first := receive(t, slow.asked, "it is prepared")
	dying.Close()
	if err := receive(t, dead, "Commit returns"); !errors.Is(err, assent.ErrUnknown) {
		t.Errorf("got %v, want an unknown outcome", err)
	}
	must(t, receive(t, locking(connect(t, s), "quick"), "the next one's outcome"))
	if next := receive(t, quick.asked, "it is prepared"); next.Locks[0].Token <= first.Locks[0].Token {
		t.Errorf("the token %s comes after %s", next.Locks[0].Token, first.Locks[0].Token)
	}
	close(slow.release)
}
