// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/assent-tx/assent"
)

// The log is full: transactions are open, for a participant is dead, and nothing can be trimmed. New transactions are
// refused with an error that says so; those that are open get the tenth that is held back; when they have ended there is
// room again, without an operator.
func TestLogIsFull(t *testing.T) {
	t.Parallel()
	c := start(t, setup{
		banks:       []string{"bank-a", "bank-b", "bank-c"},
		coordinator: []string{"-max-bytes", fmt.Sprint(256 << 10), "-history", "1ms", "-history-bytes", "1"},
		env:         []string{"ASSENT_WINDOW=500"},
	})
	c.transfers(20)
	c.banks["bank-a"].kill()
	filler := make([]byte, 8<<10)
	for i := range filler {
		filler[i] = ' '
	}
	var refused error
	for i := 0; refused == nil && i < 1000; i++ {
		o := order{from: "bank-a", to: "bank-b", cents: 1, timeout: 6 * time.Second, giveUp: 50 * time.Millisecond, trouble: string(filler)}
		if e := c.do(o); errors.Is(e.err, assent.ErrOverloaded) && !errors.Is(e.err, assent.ErrUnknown) {
			refused = e.err
		}
	}
	if refused == nil {
		t.Fatal("the log was never full")
	}
	t.Logf("refused with: %v", refused)
	c.banks["bank-a"].restart()
	eventually(t, "there is room again", func() error {
		e := c.do(order{from: "bank-b", to: "bank-c", cents: 1, timeout: patience})
		if used := c.logState().Bytes; e.err == nil && used > 128<<10 {
			return fmt.Errorf("%d bytes are still there", used)
		}
		return e.err
	})
	c.transfers(20)
	c.checkTrimmed()
}
