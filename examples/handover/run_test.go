// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"maps"
	"testing"

	"github.com/assent-tx/assent/router"
)

// A node was killed between the hand-over and the drop. When it is back it drops what the ring says is another's; but not what it
// holds, nor what it gave away in a move of which the ring that it sees does not know yet, nor what has come back to it.
func TestSweep(t *testing.T) {
	nc := connect(t)
	groups, err := router.Open(t.Context(), nc, router.Config{})
	if err != nil {
		t.Fatal(err)
	}
	made, err := groups.Create(t.Context(), "shop", router.Settings{Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := groups.Change(t.Context(), router.ChangeRequest{Group: "shop", Action: router.ActionAdd, Node: "shop-2"}); err != nil {
		t.Fatal(err)
	}
	client, err := router.NewClient(nc, router.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	f := newFile(t)
	given, kept := values(3, 2), values(4, 2)
	maps.Copy(kept, values(5, 2))
	f.put(given)
	f.put(kept)
	at := func(epoch uint64) Version { return Version{made.Incarnation, epoch} }
	f.must(f.Release(3, at(made.Epoch)))
	f.acquire(4, at(made.Epoch))
	f.must(f.Release(5, at(made.Epoch+9)))
	f.reopen()
	all := f.all()
	owner := &Hooks{Holdings: f.Holdings, Node: "shop-2"}
	f.must(owner.sweep(t.Context(), client))
	f.want(all)
	other := &Hooks{Holdings: f.Holdings, Node: "shop-1"}
	f.must(other.sweep(t.Context(), client))
	f.must(other.sweep(t.Context(), client))
	f.want(kept)
	f.wantPhase(3, absent)
	f.wantPhase(4, held)
	f.wantPhase(5, released)
}
