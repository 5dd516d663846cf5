// SPDX-License-Identifier: Apache-2.0

package messages

import "fmt"

// Lock is a lock that the client held when it submitted the transaction: the key and its fencing token, by which a
// resource refuses whoever held the lock before. A coordinator passes locks on and decides nothing by them.
//
//	{"key":"stock/7","token":"187b2c4f9a3d1e00-000000000000002a"}
type Lock struct {
	// Key is 1 to MaxKey bytes. Locks have a namespace of their own: an operation's key of that name is another one.
	Key string
	// Token is 1 to MaxToken of [A-Za-z0-9_.:-]. Tokens of one key sort bytewise in the order in which they were granted.
	Token string
}

const (
	bitLockKey = iota
	bitLockToken
)

// locks reads the list of locks, each of another key; nil for the empty list.
func (d *Decoder) locks(s *scanner) (locks []Lock) {
	for first := true; s.list('[', ']', first); first = false {
		s.index, s.sub = len(locks), ""
		if len(locks) == MaxLocks {
			s.fail(fmt.Sprintf("more than %d locks", MaxLocks))
			return nil
		}
		locks = append(locks, s.lock(locks))
	}
	s.index, s.sub = -1, ""
	return locks
}

// lock reads one lock; before are those that the list has already.
func (s *scanner) lock(before []Lock) (lock Lock) {
	record := s.seen
	s.seen = 0
	defer func() { s.seen = record }()
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "key":
			s.onceIn("key", bitLockKey)
			lock.Key = s.someText(MaxKey)
		case "token":
			s.onceIn("token", bitLockToken)
			lock.Token = s.token()
		default:
			s.unknown(key)
		}
	}
	s.requireIn("key", bitLockKey)
	s.requireIn("token", bitLockToken)
	for i := range before {
		if s.fault == nil && before[i].Key == lock.Key {
			s.sub = "key"
			s.fail("locked twice")
		}
	}
	return lock
}

func (s *scanner) token() string {
	raw := s.rawString()
	if s.fault != nil {
		return ""
	}
	token := string(raw)
	if !ValidToken(token) {
		s.fail(fmt.Sprintf("token %.65q is not 1 to %d of [A-Za-z0-9_.:-]", token, MaxToken))
		return ""
	}
	return token
}

// appendLocks appends the field, and nothing when there are no locks.
func appendLocks(b []byte, locks []Lock) []byte {
	if len(locks) == 0 {
		return b
	}
	b = append(b, `,"locks":[`...)
	for i := range locks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendEscaped(append(b, `{"key":"`...), locks[i].Key), '"')
		b = append(append(append(b, `,"token":"`...), locks[i].Token...), `"}`...)
	}
	return append(b, ']')
}
