// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent"
)

// A participant misbehaves within its rights: it refuses, it is slow, it fails, it panics. (Mohan, Lindsay & Obermarck,
// "Transaction Management in the R* Distributed Database Management System", 1986, is about who then waits for whom.)

// transfer is an ordinary one of 1 cent.
func transfer(trouble string, timeout time.Duration) order {
	return order{from: "bank-a", to: "bank-b", cents: 1, trouble: trouble, timeout: timeout}
}

func TestParticipantRefuses(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	e := c.want(assent.Aborted, transfer("prepare=refuse", patience))
	var aborted *assent.AbortedError
	if !errors.As(e.err, &aborted) || aborted.Participant != "bank-a" || aborted.Reason != "told to refuse" {
		t.Errorf("got %v; want to hear who refused, and why", e.err)
	}
	c.check()
}

func TestHandlerFails(t *testing.T) {
	for trouble, outcome := range map[string]assent.Outcome{
		"prepare=error:3":  assent.Committed, // it is asked again
		"prepare=panic:3":  assent.Committed,
		"prepare=error:-1": assent.Aborted, // to the end
		"prepare=panic:-1": assent.Aborted,
		"prepare=hang:-1":  assent.Aborted,
		"commit=error:5":   assent.Committed, // a yes binds: it is told until it has done it
		"commit=panic:3":   assent.Committed,
		"commit=slow:3s":   assent.Committed,
		"prepare=slow:1s":  assent.Committed,
	} {
		t.Run(strings.NewReplacer("=", "_", ":", "_").Replace(trouble), func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{})
			timeout := patience
			if outcome == assent.Aborted {
				timeout = assentTimeout
			}
			l := c.load(2) // nobody else is disturbed
			l.more(5)
			c.want(outcome, transfer(strings.Replace(trouble, "-1", "1000000", 1), timeout))
			l.more(5)
			l.stop()
			c.check()
		})
	}
}

// A participant is dead for long after it has voted: it stays in doubt without any harm to others, and hears the outcome
// when it is back.
func TestParticipantIsDeadForLong(t *testing.T) {
	t.Parallel()
	c := start(t, setup{banks: []string{"bank-a", "bank-b", "bank-c"}, crash: map[string]string{"bank-a": "participant.vote.stored:3"}})
	l := c.load(3)
	c.banks["bank-a"].proc().await(t)
	l.stop()
	for range 10 {
		c.want(assent.Committed, order{from: "bank-b", to: "bank-c", cents: 1, timeout: patience})
		c.want(assent.Aborted, order{from: "bank-a", to: "bank-c", cents: 1, timeout: time.Second})
	}
	c.leader.kill() // and the one who knew the outcome is gone too
	c.leader.restart()
	c.banks["bank-a"].restart()
	c.transfers(10)
	c.check()
}

// Batches: what is wrong with one branch is nobody else's.
func TestBatchParticipant(t *testing.T) {
	t.Parallel()
	c := start(t, setup{bank: []string{"-batch"}, crash: map[string]string{"bank-a": "participant.outcome.applied:5"}})
	l := c.load(16)
	c.banks["bank-a"].proc().await(t)
	c.banks["bank-a"].restart()
	l.more(50)
	l.stop()
	c.check()
}
