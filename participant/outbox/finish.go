// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"

	"github.com/assent-tx/assent/participant"
)

// FinishBatch implements participant.BatchHandler: it publishes what is committed, and settles that and what is rolled back in
// the journal, in one append.
//
// A crash before a message is stored leaves an open entry, of which the next instance publishes all; after it, an open entry,
// of which the next instance finds that message. After the append nothing is left to do.
//
// Nothing is said to be done without the journal's word that this instance is its only writer still: an outcome of a transaction that
// is not open here may be about one that another instance, which took over, has open.
func (h *handler) FinishBatch(ctx context.Context, outcomes []participant.Outcome) []error {
	errs := make([]error, len(outcomes))
	var publish []*intent
	var at []int // of publish, in outcomes
	for i, o := range outcomes {
		if !o.Commit {
			continue
		}
		in, err := h.load(o.Tx)
		if errs[i] = err; in != nil {
			publish, at = append(publish, in), append(at, i)
		}
	}
	for i, err := range h.publisher.publish(ctx, publish) {
		errs[at[i]] = err
	}
	var settle []participant.Outcome
	for i, o := range outcomes {
		if errs[i] == nil {
			settle = append(settle, o)
		}
	}
	if len(settle) == 0 {
		return errs
	}
	err := h.wrap(h.journal.Settle(ctx, settle...))
	if err == nil {
		h.drop(settle)
		return errs
	}
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}
