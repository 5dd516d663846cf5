// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Who was told that the session is lost may have given up its locks: an acknowledgement that comes too late does not bring them back.
func TestALateAcknowledgementBringsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Session{cfg: Config{TTL: 10 * time.Second}, begun: time.Now(), begins: true}
		s.renewal.sent = time.Now()
		s.renewed(1)
		s.begins = false
		renewal := time.Now().Add(4 * time.Second)
		<-time.After(9 * time.Second)
		s.renewal.sent = renewal
		s.renewed(2)
		if err := s.Err(); err != nil || s.remaining() != 5*time.Second {
			t.Fatalf("renewed in time: %v, for %s", err, s.remaining())
		}
		<-time.After(5 * time.Second)
		s.renewal.sent = renewal.Add(9 * time.Second)
		s.renewed(3)
		if err := s.Err(); !errors.Is(err, ErrLost) {
			t.Errorf("renewed too late: %v", err)
		}
	})
}
