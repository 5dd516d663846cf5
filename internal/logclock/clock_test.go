// SPDX-License-Identifier: Apache-2.0

package logclock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClockFollowsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New()
		if got := c.Ahead(); got != 0 {
			t.Errorf("before any message: ahead %d ms, want 0", got)
		}
		// This clock is an hour ahead; the message was under way for 20 ms, a later one for 5 ms, an old one for a day.
		now := time.Now()
		for _, way := range []time.Duration{20 * time.Millisecond, 5 * time.Millisecond, 24 * time.Hour} {
			c.Saw(now.Add(-time.Hour-way), now)
		}
		if got, want := c.Ahead(), (time.Hour + 5*time.Millisecond).Milliseconds(); got != want {
			t.Errorf("ahead %d ms, want %d", got, want)
		}
		if got, want := c.Local(now.Add(-time.Hour).UnixMilli()), now.Add(5*time.Millisecond); got.Sub(want).Abs() > time.Millisecond {
			t.Errorf("local %v, want %v", got, want)
		}
		// The clock is set right: the old difference is believed for two periods at the most.
		time.Sleep(period) //nolint:forbidigo // the bubble's clock
		c.Saw(time.Now(), time.Now())
		time.Sleep(period) //nolint:forbidigo // the bubble's clock
		c.Saw(time.Now().Add(-time.Millisecond), time.Now())
		if got := c.Ahead(); got != 0 {
			t.Errorf("after the clock was set: ahead %d ms, want 0", got)
		}
		// A clock that is behind makes the difference negative.
		c.Saw(time.Now().Add(time.Minute), time.Now())
		if got, want := c.Ahead(), -time.Minute.Milliseconds(); got != want {
			t.Errorf("behind: ahead %d ms, want %d", got, want)
		}
	})
}
