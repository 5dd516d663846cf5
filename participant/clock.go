// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"math"
	"sync"
	"time"
)

// logClock tells the time as the log's server does: expiries are in its terms, and a service whose own clock is wrong by an
// hour must not refuse everything as expired.
//
// Every message of the log bears the server's time. How much later it arrives here, by this clock, is the clocks'
// difference and the time that it was under way; the least of that lately is the difference, or a little more. Too much
// makes this clock slow, and a prepare is then asked for that is expired already: the log decides, so that is harmless.
type logClock struct {
	mu sync.Mutex
	// least is of this period and before of the last one, in milliseconds; MaxInt64 when no message has come.
	least, before int64
	since         time.Time
}

// logClockPeriod is how long a difference is believed: one to two of it.
const logClockPeriod = 5 * time.Minute

func newLogClock() *logClock {
	return &logClock{least: math.MaxInt64, before: math.MaxInt64, since: time.Now()}
}

// saw takes the server's time of a message that arrives now.
func (c *logClock) saw(stored, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= logClockPeriod {
		c.before, c.least, c.since = c.least, math.MaxInt64, now
	}
	c.least = min(c.least, now.UnixMilli()-stored.UnixMilli())
}

// ahead is how far this machine's clock is ahead of the server's, in milliseconds.
func (c *logClock) ahead() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if least := min(c.least, c.before); least != math.MaxInt64 {
		return least
	}
	return 0
}

// now is the server's time, in Unix milliseconds.
func (c *logClock) now() int64 { return time.Now().UnixMilli() - c.ahead() }

// local is a time of the server's, by this machine's clock.
func (c *logClock) local(unixMilli int64) time.Time { return time.UnixMilli(unixMilli + c.ahead()) }
