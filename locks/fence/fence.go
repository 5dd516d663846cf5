// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"errors"
	"fmt"

	"github.com/assent-tx/assent/locks"
)

// What a caller branches on, with errors.Is.
var (
	// ErrStale: a newer token was seen for the key, so the caller's lock has passed to another. The error is a *StaleError.
	// Nothing took effect. Retrying cannot help: take the lock again.
	ErrStale = errors.New("stale fencing token")
	// ErrInvalid: an argument or a setting is out of its bounds; the message names it. Nothing took effect.
	ErrInvalid = errors.New("invalid")
	// ErrUnknown: a write of KV was not acknowledged, and whether it took effect could not be learnt before the
	// context ended. It may still take effect, unless a newer token comes first.
	ErrUnknown = errors.New("outcome unknown")
)

// StaleError says which token was refused, and what it met. It is an ErrStale.
type StaleError struct {
	// Key is the key that was to be written.
	Key string
	// Token is the one that was refused.
	Token locks.Token
	// Newest is the greatest that was seen for the key. Invariant: Newest is greater than Token.
	Newest locks.Token
}

// Error implements error.
func (e *StaleError) Error() string {
	return fmt.Sprintf("fence: %q: token %v is older than %v: the lock has passed to another", e.Key, e.Token, e.Newest)
}

// Is makes it an ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// checkToken refuses the zero token: it is what a caller has who holds nothing.
func checkToken(key string, token locks.Token) error {
	if token.IsZero() {
		return fmt.Errorf("fence: %q: the token is none, want that of a lock: %w", key, ErrInvalid)
	}
	return nil
}
