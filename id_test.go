// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
)

// One id is one transaction, submitted before, during and after, by one client or several.
func TestSameID(t *testing.T) {
	s := server(t, embedded.Config{})
	coordinate(t, s, coordinator.Config{})
	g, ctx := newGatekeeper(), patient(t)
	join(t, connect(t, s), "p", g)
	one, other := newClient(t, connect(t, s)), newClient(t, connect(t, s))
	id := assent.NewID()
	outcomes := []<-chan error{submit(ctx, one, id, "p"), submit(ctx, one, id, "p"), submit(ctx, other, id, "p")}
	receive(t, g.arrived, "it is open")
	outcomes = append(outcomes, submit(ctx, one, id, "p"), submit(ctx, other, id, "p"))
	for _, client := range []*assent.Client{one, other} {
		if outcome, err := client.Outcome(ctx, id); outcome != assent.Undecided || err != nil {
			t.Errorf("outcome of an open transaction: %v, %v", outcome, err)
		}
	}
	waited := make(chan assent.Outcome, 2)
	for _, client := range []*assent.Client{one, other} {
		go func() {
			outcome, err := client.Wait(ctx, id)
			if err != nil {
				t.Error(err)
			}
			waited <- outcome
		}()
	}
	close(g.release)
	for _, outcome := range outcomes {
		must(t, receive(t, outcome, "an outcome"))
	}
	for range 2 {
		if outcome := receive(t, waited, "Wait returns"); outcome != assent.Committed {
			t.Errorf("waited for %v, want committed", outcome)
		}
	}
	must(t, receive(t, submit(ctx, other, id, "p"), "an outcome, again"))
	receive(t, g.commits, "a commit")
	if n := g.calls.Load(); n != 1 {
		t.Errorf("%d calls of Prepare, want 1", n)
	}
}

// An aborted id stays aborted, for the same reason.
func TestSameIDAborted(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	p, ctx := newRecorder(), patient(t)
	p.refuse = errors.New("no")
	join(t, nc, "p", p)
	client, id := newClient(t, nc), assent.NewID()
	for range 3 {
		var aborted *assent.AbortedError
		if err := receive(t, submit(ctx, client, id, "p"), "an outcome"); !errors.As(err, &aborted) || aborted.Participant != "p" || aborted.Reason != "no" {
			t.Errorf("got %v, want an abort by p", err)
		}
	}
	if outcome, err := client.Wait(ctx, id); outcome != assent.Aborted || err != nil {
		t.Errorf("outcome %v, %v; want aborted", outcome, err)
	}
}

func TestNotFound(t *testing.T) {
	nc := cluster(t, coordinator.Config{Shards: 3})
	client, ctx := newClient(t, nc), patient(t)
	for range 5 {
		if outcome, err := client.Outcome(ctx, assent.NewID()); !errors.Is(err, assent.ErrNotFound) || outcome != assent.Undecided {
			t.Errorf("Outcome: %v, %v", outcome, err)
		}
		if outcome, err := client.Wait(ctx, assent.NewID()); !errors.Is(err, assent.ErrNotFound) || outcome != assent.Undecided {
			t.Errorf("Wait: %v, %v", outcome, err)
		}
	}
}

// An id too old to be submitted may have run: its outcome is unknown, unless the history has it.
func TestOldID(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	join(t, nc, "p", newRecorder())
	client, ctx := newClient(t, nc), patient(t)
	id := agedID(time.Hour)
	var unknown *assent.UnknownError
	err := receive(t, submit(ctx, client, id, "p"), "an answer")
	if !errors.As(err, &unknown) || unknown.Tx != id || !errors.Is(err, assent.ErrInvalid) {
		t.Errorf("got %v, want an unknown outcome because the id is too old", err)
	}
	err = receive(t, submit(ctx, client, agedID(-time.Hour), "p"), "an answer")
	if !errors.Is(err, assent.ErrInvalid) {
		t.Errorf("an id of the future: %v", err)
	}
}

// Cancelling stops the waiting, never the transaction.
func TestCancelStopsTheWaitingOnly(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	g := newGatekeeper()
	join(t, nc, "p", g)
	client := newClient(t, nc)
	ctx, cancel := context.WithCancelCause(context.Background())
	id, reason := assent.NewID(), errors.New("the user went away")
	outcome := submit(ctx, client, id, "p")
	receive(t, g.arrived, "it is open")
	cancel(reason)
	err := receive(t, outcome, "Commit returns")
	var unknown *assent.UnknownError
	if !errors.As(err, &unknown) || unknown.Tx != id || !errors.Is(err, reason) {
		t.Errorf("got %v, want an unknown outcome because %v", err, reason)
	}
	waiting, cancel2 := context.WithCancel(context.Background())
	waited := make(chan error, 1)
	go func() {
		_, err := client.Wait(waiting, id)
		waited <- err
	}()
	cancel2()
	if err := receive(t, waited, "Wait returns"); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	close(g.release)
	if outcome, err := client.Wait(patient(t), id); outcome != assent.Committed || err != nil {
		t.Errorf("outcome %v, %v; want committed", outcome, err)
	}
	receive(t, g.commits, "a commit")
}

func TestTimeout(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	a, silent := newRecorder(), newGatekeeper()
	join(t, nc, "a", a)
	join(t, nc, "silent", silent)
	client := newClient(t, nc)
	tx := client.Begin(assent.WithTimeout(time.Second))
	tx.Enlist("a", 1)
	tx.Enlist("silent", 1)
	var aborted *assent.AbortedError
	if err := tx.Commit(patient(t)); !errors.As(err, &aborted) || aborted.Tx != tx.ID() {
		t.Errorf("got %v, want an abort", err)
	}
	if got := receive(t, a.rollback, "a rollback"); got != tx.ID() {
		t.Errorf("rolled back %s, want %s", got, tx.ID())
	}
	close(silent.release)
}

// Calls outlive the coordinator: another one takes over what they wait for.
func TestCoordinatorRestarts(t *testing.T) {
	s := server(t, embedded.Config{})
	cfg := coordinator.Config{Shards: 2, DrainTimeout: 2 * time.Second}
	stop := coordinate(t, s, cfg)
	g, ctx := newGatekeeper(), patient(t)
	join(t, connect(t, s), "p", g)
	client := newClient(t, connect(t, s))
	const open = 20
	var outcomes []<-chan error
	for range open {
		outcomes = append(outcomes, submit(ctx, client, assent.NewID(), "p"))
	}
	id := receive(t, g.arrived, "one is open")
	for range open - 1 {
		receive(t, g.arrived, "all are open")
	}
	waited := make(chan error, 1)
	go func() {
		outcome, err := client.Wait(ctx, id)
		if outcome != assent.Committed {
			t.Errorf("waited for %v, want committed", outcome)
		}
		waited <- err
	}()
	stop()
	outcomes = append(outcomes, submit(ctx, client, assent.NewID(), "p")) // while nobody is there
	stop = coordinate(t, s, cfg)
	close(g.release)
	for _, outcome := range outcomes {
		must(t, receive(t, outcome, "an outcome"))
	}
	must(t, receive(t, waited, "Wait returns"))
	committed := map[assent.ID]bool{}
	for len(committed) < open+1 {
		committed[receive(t, g.commits, "every commit")] = true
	}
	if outcome, err := client.Outcome(ctx, id); outcome != assent.Committed || err != nil {
		t.Errorf("outcome %v, %v; want committed", outcome, err)
	}
	stop()
	coordinate(t, s, cfg)
	if outcome, err := client.Outcome(ctx, id); outcome != assent.Committed || err != nil {
		t.Errorf("outcome after another restart %v, %v; want committed", outcome, err)
	}
}

// A transaction that waits costs its client a few KB at the most, the goroutine that waits included.
func TestMemoryOfWaiting(t *testing.T) {
	s := server(t, embedded.Config{})
	coordinate(t, s, coordinator.Config{})
	g := newGatekeeper()
	g.arrived, g.commits = make(chan assent.ID, 100_000), make(chan assent.ID, 100_000)
	join(t, connect(t, s), "p", g)
	client := newClient(t, connect(t, s))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first := submit(ctx, client, assent.NewID(), "p")
	receive(t, g.arrived, "it is open")
	const count = 2000
	before := inUse()
	outcomes := []<-chan error{first}
	for range count {
		outcomes = append(outcomes, submit(ctx, client, assent.NewID(), "p"))
	}
	last := assent.NewID()
	outcomes = append(outcomes, submit(ctx, client, last, "p"))
	eventually(t, "the last is open", func() bool {
		_, err := client.Outcome(patient(t), last)
		return err == nil
	})
	each := (inUse() - before) / count
	t.Logf("%d bytes a waiting transaction, of client, coordinator and participant together", each)
	if each > 16<<10 {
		t.Errorf("%d bytes a waiting transaction, want less than 16 KB", each)
	}
	close(g.release)
	for _, outcome := range outcomes {
		must(t, receive(t, outcome, "an outcome"))
	}
}

// inUse is the heap and the stacks that are in use.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
