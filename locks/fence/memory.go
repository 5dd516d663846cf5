// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"sync"

	"github.com/assent-tx/assent/locks"
)

// Memory checks tokens against the greatest that this process has seen. The zero value is ready. It is safe for concurrent
// use, and must not be copied after its first use.
//
// It is for resources that live and die with the process: a device that it drives, a cache, a connection. After a restart
// it has seen nothing and would accept an old token, so what outlives the process needs SQL, KV or the like. It
// keeps a few words for each key, and never forgets one.
type Memory struct {
	mu   sync.Mutex // guards the map, not what it points to
	keys map[string]*memoryKey
}

// memoryKey is what Memory knows of a key. Its mutex is held while a function of Run is at work.
type memoryKey struct {
	mu     sync.Mutex
	newest locks.Token
}

// Check accepts a token that is equal to or greater than the greatest seen for the key, and remembers it. An older one is
// refused with a *StaleError. What the caller does then is not covered: a newer token may be seen between the
// check and the act. Use Run where the act can be a function. While a Run is at work on the key, Check waits for it.
func (m *Memory) Check(key string, token locks.Token) error {
	return m.Run(key, token, func() error { return nil })
}

// Run checks the token as Check does and, if it is accepted, calls fn, as one step: no other Check or Run of this key gets in
// between. It returns fn's error; the token stays remembered then, for the lock is the newer holder's whatever came
// of it. Other keys do not wait. fn must not call Check or Run for the same key: it would wait for itself.
func (m *Memory) Run(key string, token locks.Token, fn func() error) error {
	if err := checkToken(key, token); err != nil {
		return err
	}
	k := m.key(key)
	k.mu.Lock()
	defer k.mu.Unlock() // also when fn panics
	if token.Compare(k.newest) < 0 {
		return &StaleError{key, token, k.newest}
	}
	k.newest = token
	return fn()
}

func (m *Memory) key(key string) *memoryKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keys[key]
	if k == nil {
		if m.keys == nil {
			m.keys = make(map[string]*memoryKey)
		}
		k = new(memoryKey)
		m.keys[key] = k
	}
	return k
}
