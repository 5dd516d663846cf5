// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"fmt"
	"strings"

	"github.com/assent-tx/assent/participant"
)

// fence refuses a transaction whose client held a lock (assent.Tx.Lock) that others have held since: it compares the lock's token with the
// greatest that came here, and keeps that in the journal before the branch is answered. The lock's key is locked by the SDK
// meanwhile, so no other token of it is compared at the same time. Tokens sort bytewise. What is kept for a lock's key is kept for ever.
func (s *store) fence(ctx context.Context, b *participant.Branch) error {
	for _, l := range b.Locks {
		if strings.ContainsAny(l.Key, " \r\n") {
			return participant.Refuse(fmt.Errorf("lock %.80q: no lock has such a key", l.Key))
		}
		name := "lock/" + l.Key // no stream has a slash in its name
		seen, _, err := s.Watermark(ctx, name)
		switch {
		case err != nil:
			return err
		case l.Token < seen:
			return participant.Conflict(fmt.Errorf("lock %s: its token %s is older than %s, which was seen here", l.Key, l.Token, seen))
		case l.Token > seen:
			if err := s.SetWatermark(ctx, name, l.Token, 0); err != nil {
				return err
			}
		}
	}
	return nil
}
