// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"time"

	"github.com/assent-tx/assent/messages"
)

// ages gives transactions that name keys or locks their age, by which participants decide who waits for whom. Those of one
// leader grow strictly, so that the participants of a shard see transactions in the order of their ages: who comes later is
// younger, unless a client tries again, and two that want the same keys cannot wait for each other.
type ages struct {
	last int64
}

// since is the age of a transaction that is admitted at a time of the leader's, in Unix milliseconds; 0 for one that names
// neither keys nor locks, which nobody waits for. A submission that is tried again keeps the age that it claims, unless that
// would make it younger than it is.
func (a *ages) since(sub *messages.Submission, now int64) int64 {
	if !sub.Keyed() {
		return 0
	}
	a.last = max(time.Now().UnixMicro(), now*int64(time.Millisecond/time.Microsecond), a.last+1)
	if sub.Since > 0 && sub.Since <= a.last {
		return sub.Since
	}
	return a.last
}
