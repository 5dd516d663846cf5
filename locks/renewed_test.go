// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
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

// A record is believed to be gone when it was missing several times in a row, and not when it was there in between: the server that did not have
// it was deposed.
func TestMissingNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := logrus.New()
		log.SetOutput(t.Output())
		s := &Session{cfg: Config{TTL: time.Hour}, begun: time.Now(), begins: true, log: log.WithContext(t.Context()), done: make(chan struct{}), stop: func() {}}
		s.renewal.sent = time.Now()
		s.renewed(7)
		s.begins = false
		looked := func(revision uint64) (settled bool) {
			<-time.After(time.Second)
			return s.settleRenewal(&written{refused: true, asked: time.Now(), last: raw{revision: revision}})
		}
		for range 3 {
			for range lostReads - 1 {
				if looked(0) {
					t.Fatal(s.Err())
				}
			}
			if looked(7) {
				t.Fatal("settled by what was there before")
			}
		}
		for range lostReads - 1 {
			looked(0)
		}
		if settled := looked(0); !settled || !errors.Is(s.Err(), ErrLost) {
			t.Errorf("missing %d times in a row: %v, %v", lostReads, settled, s.Err())
		}
	})
}
