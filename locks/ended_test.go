// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/locks"
)

// ended waits for the end of a session in the background.
func ended(ctx context.Context, s *locks.Session, id string) <-chan error {
	over := make(chan error, 1)
	go func() { over <- s.Ended(ctx, id) }()
	return over
}

func wantEnded(t *testing.T, over <-chan error, want error) {
	t.Helper()
	select {
	case err := <-over:
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	case <-time.After(patience):
		t.Fatal("it waits for ever")
	}
}

func wantPresent(t *testing.T, judge *locks.Session, id string, want bool) {
	t.Helper()
	if got, err := judge.Present(t.Context(), id); got != want || err != nil {
		t.Fatalf("session %s: present %v, %v; want %v", id, got, err, want)
	}
}

func TestEndedWhenItWasClosed(t *testing.T) {
	c := start(t)
	judge, other := c.open(locks.Config{Streams: 1}), c.open(locks.Config{TTL: 4 * time.Second})
	mustLock(t, other, "k")
	wantPresent(t, judge, other.ID(), true)
	wantPresent(t, judge, "0123456789abcdef", false)
	over := ended(t.Context(), judge, other.ID())
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnded(t, over, nil)
	wantPresent(t, judge, other.ID(), false)
	if err := judge.Ended(t.Context(), other.ID()); err != nil { // it may be asked again
		t.Fatal(err)
	}
}

// Whoever is not renewed is ended, and knows it by then; who is renewed lives on, also when the judge hears nothing of it.
func TestEndedWhenItWasNotRenewed(t *testing.T) {
	c := start(t)
	judge := c.open(locks.Config{Streams: 1, TTL: 10 * time.Second})
	locks.Deafen(judge)
	dying, kill := c.crash(locks.Config{TTL: time.Second})
	living := c.open(locks.Config{TTL: time.Second})
	alive := ended(t.Context(), judge, living.ID())
	over := ended(t.Context(), judge, dying.ID())
	if dying.Err() != nil {
		t.Fatal("lost too early")
	}
	kill()
	wantEnded(t, over, nil)
	if err := dying.Err(); !errors.Is(err, locks.ErrLost) {
		t.Fatalf("it was said to have ended, and believes that it lives: %v", err)
	}
	wantEnded(t, ended(t.Context(), judge, dying.ID()), nil)
	select {
	case err := <-alive:
		t.Fatalf("a session that is renewed was said to have ended: %v", err)
	default:
	}
	if err := living.Err(); err != nil {
		t.Fatal(err)
	}
}

// The TTL that counts is that of the session that is judged.
func TestEndedKeepsTheOthersTTL(t *testing.T) {
	c := start(t)
	judge := c.open(locks.Config{Streams: 1, TTL: time.Second})
	dying, kill := c.crash(locks.Config{TTL: 3 * time.Second})
	kill()
	wantEnded(t, ended(t.Context(), judge, dying.ID()), nil)
	if dying.Err() == nil {
		t.Fatal("it was ended too early")
	}
}

func TestEndedOfASessionThatNeverWas(t *testing.T) {
	c := start(t)
	judge := c.open(locks.Config{Streams: 1, TTL: time.Second})
	wantEnded(t, ended(t.Context(), judge, "0123456789abcdef"), nil)
}

func TestEndedOfWhatIsNoOtherSession(t *testing.T) {
	c := start(t)
	judge := c.open(locks.Config{})
	for _, id := range []string{"", "x", "0123456789ABCDEF", "0123456789abcdef.>", judge.ID()} {
		if err := judge.Ended(t.Context(), id); !errors.Is(err, locks.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := judge.Present(t.Context(), id); !errors.Is(err, locks.ErrInvalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestEndedGivesUpWithItsContext(t *testing.T) {
	c := start(t)
	judge, other := c.open(locks.Config{}), c.open(locks.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	over := ended(ctx, judge, other.ID())
	cancel()
	wantEnded(t, over, context.Canceled)
}

func TestEndedEndsWithTheSessionThatJudges(t *testing.T) {
	c := start(t)
	other := c.open(locks.Config{})
	closed := c.open(locks.Config{})
	over := ended(t.Context(), closed, other.ID())
	if err := closed.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnded(t, over, locks.ErrClosed)
	lost, kill := c.crash(locks.Config{TTL: time.Second})
	over = ended(t.Context(), lost, other.ID())
	kill()
	wantEnded(t, over, locks.ErrLost)
	wantEnded(t, ended(t.Context(), lost, other.ID()), locks.ErrLost)
	if _, err := lost.Present(t.Context(), other.ID()); !errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
}

// A server that is away for a while is no reason to end anybody who is renewed when it is back.
func TestEndedAcrossARestartOfTheServer(t *testing.T) {
	dir := t.TempDir()
	srv, err := embedded.Start(embedded.Config{Dir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t, srv}
	judge, other := c.open(locks.Config{TTL: 8 * time.Second}), c.open(locks.Config{TTL: 8 * time.Second})
	over := ended(t.Context(), judge, other.ID())
	address := strings.TrimPrefix(srv.URL(), "nats://")
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	if c.srv, err = embedded.Start(embedded.Config{Dir: dir, Listen: address}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.srv.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, s := range []*locks.Session{other, judge} { // before the server goes
		if err := s.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if s == other {
			wantEnded(t, over, nil)
		}
	}
}

// What judges does not mind what a session's record has become: it waits for its own TTL, and the session knows.
func TestEndedOfASessionWhoseRecordIsGarbage(t *testing.T) {
	c := start(t)
	judge := c.open(locks.Config{Streams: 1, TTL: time.Second})
	other, _ := c.crash(locks.Config{TTL: time.Second})
	if _, err := c.js().PublishMsg(t.Context(), &nats.Msg{Subject: "$KV.assent-locks-0.session." + other.ID(), Data: []byte("garbage")}); err != nil {
		t.Fatal(err)
	}
	wantEnded(t, ended(t.Context(), judge, other.ID()), nil)
	if err := other.Err(); !errors.Is(err, locks.ErrLost) {
		t.Fatal(err)
	}
}
