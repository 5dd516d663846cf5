// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/assent-tx/assent/locks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// token is a token; the greater n is, the later.
func token(n int) locks.Token { return locks.Token{Incarnation: 7, Sequence: uint64(n)} }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantStale checks that an error says that a token was refused, and which one it met.
func wantStale(t testing.TB, err error, key string, refused, newest locks.Token) {
	t.Helper()
	var stale *StaleError
	if !errors.Is(err, ErrStale) || !errors.As(err, &stale) || *stale != (StaleError{key, refused, newest}) {
		t.Fatalf("got %v, want %v refused at %q for %v", err, refused, key, newest)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}
