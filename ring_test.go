// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"errors"
	"testing"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/router"
)

// The router of the package itself: no group, no nodes, two nodes, a key that is given to the other one, and no group again.
func TestRoutedByAGroup(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	client, ctx := newClient(t, nc), patient(t)
	groups, err := router.Open(ctx, nc, router.Config{})
	must(t, err)
	want := func(cause error) {
		t.Helper()
		tx := client.Begin()
		tx.EnlistKey("g", "k1", "nothing")
		var unroutable *assent.UnroutableError
		err := tx.Commit(ctx)
		if !errors.As(err, &unroutable) || !errors.Is(err, cause) || errors.Is(err, assent.ErrUnknown) || unroutable.Key != "k1" {
			t.Errorf("got %v, want that k1 cannot be routed: %v", err, cause)
		}
	}
	want(router.ErrNoGroup)
	_, err = groups.Create(ctx, "g", router.Settings{Partitions: 16})
	must(t, err)
	eventually(t, "the group is known", func() bool {
		tx := client.Begin()
		tx.EnlistKey("g", "k1", "nothing")
		return errors.Is(tx.Commit(ctx), router.ErrNoNodes)
	})
	want(router.ErrNoNodes)
	change := func(r router.ChangeRequest) {
		t.Helper()
		r.Group = "g"
		_, err := groups.Change(ctx, r)
		must(t, err)
	}
	change(router.ChangeRequest{Action: router.ActionAdd, Node: "n1"})
	n := newNodes(t, nc, map[string]string{"k1": "n1", "k2": "n1"}, "n1", "n2")
	var tx *assent.Tx
	eventually(t, "the node is known", func() bool {
		tx = begin(client)
		err := tx.Commit(ctx)
		if err != nil && !errors.Is(err, router.ErrNoNodes) {
			t.Fatal(err)
		}
		return err == nil
	})
	n.wantExecuted(`"one"`, 1)
	if tx.Last() != tx.ID() {
		t.Errorf("the last attempt is %s, want the first, %s", tx.Last(), tx.ID())
	}

	// The node refuses k1 by a ring that the client has not seen, and then sees.
	n.move("k1", "n2")
	n.hooked(func(assent.ID, string) {
		n.hooked(nil)
		change(router.ChangeRequest{Action: router.ActionAdd, Node: "n2"})
		key := "k1"
		change(router.ChangeRequest{Action: router.ActionPin, Node: "n2", Key: &key})
		n.mu.Lock()
		defer n.mu.Unlock()
		n.epoch = 100
	})
	tx = client.Begin()
	tx.EnlistKey("g", "k1", "moved")
	must(t, tx.Commit(ctx))
	n.wantExecuted(`"moved"`, 1)
	if tx.Last() == tx.ID() {
		t.Error("the first attempt was not refused")
	}

	_, err = groups.Delete(ctx, router.DeleteRequest{Group: "g", Force: true})
	must(t, err)
	eventually(t, "the group is gone", func() bool {
		tx := client.Begin()
		tx.EnlistKey("g", "k1", "late") // by the ring as it was, perhaps
		return errors.Is(tx.Commit(ctx), router.ErrNoGroup)
	})
	want(router.ErrNoGroup)
	n.wantExecuted(`"nothing"`, 0)
}
