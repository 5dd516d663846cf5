// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"testing"
	"time"
)

// read gives a history of a message a second, each of 100 bytes, at sequences 1, 2, 3, …
func read(h *history, seconds int) (now int64) {
	for i := range seconds {
		now = int64(1_000_000 + i*markEvery)
		h.saw(uint64(i+1), now, 100)
	}
	return now
}

func TestHistoryKeepsByTime(t *testing.T) {
	h := &history{keep: 10 * time.Second, keepBytes: 1 << 40}
	now := read(h, 30)
	if got := h.horizon(1000, now); got != 19 {
		t.Errorf("horizon %d, want 19: the message at 11 s before the last is out, all of the last 10 s stay", got)
	}
	h.trimmed = 19
	if got := h.horizon(1000, now); got != 0 {
		t.Errorf("horizon %d, want 0: nothing new", got)
	}
}

func TestHistoryKeepsByBytes(t *testing.T) {
	h := &history{keep: time.Hour, keepBytes: 500}
	now := read(h, 30)
	if got := h.horizon(1000, now); got != 26 {
		t.Errorf("horizon %d, want 26: the last five messages have 500 bytes", got)
	}
}

func TestHistoryNeverPassesTheCheckpoint(t *testing.T) {
	h := &history{keep: 10 * time.Second, keepBytes: 500}
	now := read(h, 30)
	if got := h.horizon(7, now); got != 7 {
		t.Errorf("horizon %d, want the checkpoint, 7", got)
	}
	h.trimmed = 7
	if got := h.horizon(7, now); got != 0 {
		t.Errorf("horizon %d, want 0", got)
	}
	if got := h.horizon(20, now); got != 20 {
		t.Errorf("horizon %d, want 20: the checkpoint has moved on", got)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := &history{keep: 10 * time.Second, keepBytes: 1 << 40}
	for i := range 100_000 {
		now := int64(i * 10) // a hundred messages a second, for 1000 s
		h.saw(uint64(i+1), now, 100)
		if i%100 == 0 {
			h.trimmed = max(h.trimmed, h.horizon(uint64(i+1), now))
		}
	}
	if len(h.marks) > 15 {
		t.Errorf("%d marks for 10 s of history, want about one a second", len(h.marks))
	}
}

// Who stands by trims nothing, and still lets go of the marks.
func TestHistoryOfAStandbyIsBounded(t *testing.T) {
	h := &history{keep: 10 * time.Second, keepBytes: 1 << 40}
	for i := range 100_000 {
		now := int64(i * 10)
		h.saw(uint64(i+1), now, 100)
		if i%200 == 0 && h.horizon(0, now) != 0 {
			t.Fatal("it is to trim the log")
		}
	}
	if len(h.marks) > 15 {
		t.Errorf("%d marks for 10 s of history, want about one a second", len(h.marks))
	}
}
