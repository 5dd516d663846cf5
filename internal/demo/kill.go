// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/internal/children"
)

// kill is the kill and the restart of one process, at a part of the load's way.
type kill struct {
	of      *cluster
	victim  *children.Process
	percent int
	// leads: the coordinator that leads is killed, whichever that is then; it is started again when another one leads, if there
	// is another one.
	leads  bool
	killed time.Time
}

// kills are one of a bank, one of the coordinator, and one of another bank.
func (c *cluster) kills(first, last *children.Process) *script {
	var kills [3]kill
	s := newScript(false, &kills[0], &kills[1], &kills[2])
	for i, victim := range []*children.Process{first, c.serves[0], last} {
		kills[i] = kill{of: c, victim: victim, leads: victim == c.serves[0], percent: s.percent(i)}
	}
	return s
}

// happen kills the victim and starts it again.
func (k *kill) happen(ctx context.Context) (said string, err error) {
	leader, changed := k.of.lead.now()
	taken := k.leads && len(k.of.serves) > 1
	if taken {
		for _, p := range k.of.serves {
			if p.Name == leader {
				k.victim = p
			}
		}
	}
	k.killed = time.Now()
	if err := k.victim.Kill(); err != nil {
		return "", err
	}
	if taken {
		select {
		case <-changed:
		case <-time.After(takeoverPatience):
			return "", fmt.Errorf("nobody took over from %s within %v of its death", leader, takeoverPatience)
		case <-ctx.Done():
			return "", nil
		}
	}
	if err := k.victim.Start(); err != nil {
		return "", err
	}
	return fmt.Sprintf("kill -9 of %s at %d %%; started again as process %d", k.victim.Name, k.percent, k.victim.Pid()), nil
}

// takeoverPatience is how long a standby may take on a busy machine; its lease is 3 s.
const takeoverPatience = 30 * time.Second

// recovery is the time from the kill to the first commit of a transfer that began after it, and to the end of the last of
// those that were under way; 0 when there was none.
func (k *kill) recovery(transfers []transfer) (again, settled time.Duration) {
	for i := range transfers {
		t := &transfers[i]
		after := t.ended.Sub(k.killed)
		switch {
		case t.began.After(k.killed) && t.outcome == assent.Committed && (again == 0 || after < again):
			again = after
		case t.began.Before(k.killed) && after > settled:
			settled = after
		}
	}
	return again, settled
}
