// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"testing"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// The search for a transaction once stopped at the first message of any other.
func TestATransactionBehindOthersIsShown(t *testing.T) {
	nc := server(t)
	start(t, nc, coordinator.Config{})
	register(t, nc, "a")
	for range 3 {
		tx := messages.NewID()
		if err := nc.Publish(messages.Subjects{}.Submit(0), []byte(submission(tx, "a"))); err != nil {
			t.Fatal(err)
		}
		untilKnown(t, nc, tx)
		var outcome coordinator.OutcomeResponse
		if err := ask(t, nc, "tx.abort", coordinator.TxRequest{Tx: tx}, &outcome); err != nil {
			t.Fatal(err)
		}
		var timeline coordinator.Timeline
		if err := ask(t, nc, "tx.show", coordinator.TxRequest{Tx: tx}, &timeline); err != nil {
			t.Fatal(err)
		}
		if len(timeline.Records) != 2 || timeline.Records[0].Kind != "prepare" || timeline.Records[1].Kind != "abort" {
			t.Errorf("the timeline has %+v, want a prepare and an abort", timeline.Records)
		}
	}
}
