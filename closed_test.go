// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
)

// What is added after Commit is no part of the transaction, whose id has one list of operations: it is not said to be committed,
// nor that nothing was.
func TestAddedAfterCommit(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	h := newRecorder()
	join(t, nc, "p", h)
	client, ctx := newClient(t, nc), patient(t)
	for field, add := range map[string]func(tx *assent.Tx){
		"operations[1].participant": func(tx *assent.Tx) { tx.Enlist("p", 2) },
		"operations[1].route":       func(tx *assent.Tx) { tx.EnlistKey("g", "k", 2) },
		"locks":                     func(tx *assent.Tx) { tx.Lock("k") },
	} {
		tx := client.Begin()
		tx.Enlist("p", 1)
		must(t, tx.Commit(ctx))
		must(t, tx.Commit(ctx)) // the same transaction
		add(tx)
		for range 2 {
			err := tx.Commit(ctx)
			var invalid *assent.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != field || !strings.Contains(invalid.Message, "after Commit") || !errors.Is(err, assent.ErrUnknown) {
				t.Errorf("%s added after Commit: %v, want an invalid field and an unknown outcome", field, err)
			}
		}
		if outcome, err := client.Wait(ctx, tx.ID()); outcome != assent.Committed || err != nil {
			t.Errorf("what was committed before is %v, %v", outcome, err)
		}
	}
}
