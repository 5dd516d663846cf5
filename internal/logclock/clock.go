// SPDX-License-Identifier: Apache-2.0

// Package logclock tells the time as the server of a log does.
package logclock

import (
	"math"
	"sync"
	"time"
)

// Clock tells the time as the log's server does, for expiries are in its terms: a participant whose own clock is wrong by
// an hour must not refuse everything as expired, nor a coordinator's let everything wait. Its methods may be called by many
// goroutines at once.
//
// Every message of the log bears the server's time. How much later it arrives here, by this clock, is the clocks'
// difference and the time that it was under way; the least of that lately is the difference, or a little more. Too much
// makes this clock slow, and a prepare is then asked for that is expired already: the log decides, so that is harmless.
type Clock struct {
	mu sync.Mutex
	// least is of this period and before of the last one, in milliseconds; MaxInt64 when no message has come.
	least, before int64
	since         time.Time
}

// period is how long a difference is believed: one to two of it.
const period = 5 * time.Minute

// New gives a clock that has seen no message: it tells this machine's time.
func New() *Clock {
	return &Clock{least: math.MaxInt64, before: math.MaxInt64, since: time.Now()}
}

// Saw takes the server's time of a message that arrives now.
func (c *Clock) Saw(stored, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= period {
		c.before, c.least, c.since = c.least, math.MaxInt64, now
	}
	c.least = min(c.least, now.UnixMilli()-stored.UnixMilli())
}

// Ahead is how far this machine's clock is ahead of the server's, in milliseconds.
func (c *Clock) Ahead() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if least := min(c.least, c.before); least != math.MaxInt64 {
		return least
	}
	return 0
}

// Now is the server's time, in Unix milliseconds.
func (c *Clock) Now() int64 { return time.Now().UnixMilli() - c.Ahead() }

// Local is a time of the server's, by this machine's clock.
func (c *Clock) Local(unixMilli int64) time.Time { return time.UnixMilli(unixMilli + c.Ahead()) }
