// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/assent-tx/assent/locks"
)

func TestMemoryRefusesOlderTokens(t *testing.T) {
	var m Memory
	must(t, m.Check("a", token(5)))
	must(t, m.Check("a", token(5))) // the holder writes again
	must(t, m.Check("b", token(1))) // keys have nothing to do with each other
	must(t, m.Check("a", token(6)))
	wantStale(t, m.Check("a", token(5)), "a", token(5), token(6))
	wantError(t, m.Check("a", locks.Token{}), ErrInvalid)
	wantError(t, m.Check("new", locks.Token{}), ErrInvalid)
	// A bucket that was made anew counts from 1 again; its tokens are newer all the same.
	must(t, m.Check("a", locks.Token{Incarnation: 8, Sequence: 1}))
	wantStale(t, m.Check("a", token(7)), "a", token(7), locks.Token{Incarnation: 8, Sequence: 1})
}

func TestMemoryRun(t *testing.T) {
	var m Memory
	failure := errors.New("the device is off")
	wantError(t, m.Run("a", token(2), func() error { return failure }), failure)
	// The lock is the newer holder's, whatever came of it.
	called := false
	wantStale(t, m.Run("a", token(1), func() error { called = true; return nil }), "a", token(1), token(2))
	if called {
		t.Error("the function of a stale holder was called")
	}
	func() {
		defer func() { _ = recover() }()
		_ = m.Run("a", token(3), func() error { panic("bug") })
	}()
	wantStale(t, m.Check("a", token(2)), "a", token(2), token(3)) // and does not wait for ever
}

// While a function is at work, a newer token has to wait: else the older holder's act could come after the newer one's.
func TestMemoryRunIsOneStep(t *testing.T) {
	var m Memory
	entered, release := make(chan struct{}), make(chan struct{})
	var order []int // guarded by the key's mutex alone
	var running sync.WaitGroup
	running.Go(func() {
		_ = m.Run("a", token(1), func() error {
			close(entered)
			<-release
			if m.key("a").mu.TryLock() {
				t.Error("somebody else could get in")
			}
			order = append(order, 1)
			return nil
		})
	})
	<-entered
	running.Go(func() {
		_ = m.Run("a", token(2), func() error {
			order = append(order, 2)
			return nil
		})
	})
	must(t, m.Check("b", token(1))) // other keys do not wait
	close(release)
	running.Wait()
	if len(order) != 2 || order[0] != 1 || order[1] != 2 {
		t.Errorf("they ran in the order %v", order)
	}
}

func TestMemoryConcurrently(t *testing.T) {
	var m Memory
	var accepted []int
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 500 {
				n := 1 + rand.IntN(1000)
				err := m.Run("a", token(n), func() error {
					accepted = append(accepted, n)
					return nil
				})
				if err != nil && !errors.Is(err, ErrStale) {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	wantAscending(t, accepted)
}

// wantAscending checks that what took effect came in the order of its tokens.
func wantAscending(t testing.TB, accepted []int) {
	t.Helper()
	if len(accepted) < 2 {
		t.Fatalf("%d were accepted: nothing was tested", len(accepted))
	}
	for i := 1; i < len(accepted); i++ {
		if accepted[i] < accepted[i-1] {
			t.Fatalf("token %d took effect after %d", accepted[i], accepted[i-1])
		}
	}
}
