// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"slices"
	"testing"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/locks/fence"
	"github.com/assent-tx/assent/participant"
)

// fenced is a handler that holds the tokens against the greatest that its resource has seen.
type fenced struct {
	*recorder
	resource *fence.Memory
}

func (f fenced) Prepare(_ context.Context, b *participant.Branch) (participant.Vote, error) {
	for _, lock := range b.Locks {
		token, err := locks.ParseToken(lock.Token)
		if err != nil {
			return 0, participant.Refuse(err)
		}
		if err := f.resource.Check(lock.Key, token); err != nil {
			return 0, participant.Conflict(err)
		}
	}
	return participant.Yes, nil
}

// A client is paused after it has looked at its lock for the last time, and another one has used the resource when its
// transaction arrives. The lock cannot help any more; the resource refuses it. Do begins anew, under a new lock.
func TestAPausedClientIsFenced(t *testing.T) {
	s := server(t, embedded.Config{})
	stop := coordinate(t, s, coordinator.Config{})
	var resource fence.Memory
	join(t, connect(t, s), "p", fenced{newRecorder(), &resource})
	client, others := newClient(t, connect(t, s)), locker(t, connect(t, s))
	warm := client.Begin()
	warm.Enlist("p", 1)
	must(t, warm.Commit(patient(t))) // it knows how many shards there are
	stop()                           // nobody takes what is submitted now
	submitted, err := connect(t, s).SubscribeSync("assent.submit.0")
	must(t, err)
	var ids []assent.ID
	outcome := make(chan error, 1)
	go func() {
		outcome <- client.Do(patient(t), func(tx *assent.Tx) error {
			ids = append(ids, tx.ID())
			tx.Lock("resource")
			tx.Enlist("p", 1)
			return nil
		})
	}()
	_, err = submitted.NextMsg(patience)
	must(t, err)
	force(t, connect(t, s), "resource")
	lock, err := others.Lock(patient(t), "resource")
	must(t, err)
	must(t, resource.Check("resource", lock.Token()))
	must(t, lock.Unlock(patient(t)))
	coordinate(t, s, coordinator.Config{})
	must(t, receive(t, outcome, "an outcome"))
	if len(ids) != 2 {
		t.Fatalf("%d attempts, want 2", len(ids))
	}
	for i, want := range []assent.Outcome{assent.Aborted, assent.Committed} {
		if got, err := client.Wait(patient(t), ids[i]); got != want || err != nil {
			t.Errorf("attempt %d: %v, %v; want %v", i, got, err, want)
		}
	}
	if slices.Contains(ids, warm.ID()) {
		t.Error("an id was used twice")
	}
}
