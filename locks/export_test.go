// SPDX-License-Identifier: Apache-2.0

package locks

// Deafen makes a session hear nothing of what other sessions say.
func Deafen(s *Session) {
	if err := s.inbox.Unsubscribe(); err != nil {
		panic(err)
	}
}
