// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/router/ring"
)

func (c *cluster) groups() *Groups {
	c.t.Helper()
	g, err := Open(c.t.Context(), c.connect(), Config{})
	must(c.t, err)
	return g
}

func (c *cluster) change(g *Groups, r ChangeRequest) *ChangeResponse {
	c.t.Helper()
	response, err := g.Change(c.t.Context(), r)
	must(c.t, err)
	return response
}

// static makes a group of static nodes n1, n2 and so on.
func (c *cluster) static(g *Groups, group string, nodes int, settings Settings) {
	c.t.Helper()
	_, err := g.Create(c.t.Context(), group, settings)
	must(c.t, err)
	for i := range nodes {
		c.change(g, ChangeRequest{Group: group, Action: ActionAdd, Node: fmt.Sprint("n", i+1)})
	}
}

func TestAGroupOfStaticNodes(t *testing.T) {
	c := start(t)
	g := c.groups()
	made, err := g.Create(t.Context(), "g", Settings{Partitions: 90, Kind: HandOff, Grace: time.Second})
	must(t, err)
	if made.Epoch != 1 || made.Kind != "handoff" || made.GraceMS != 1000 || made.Batch != 128 || made.Unowned != 90 {
		t.Fatalf("made %+v", made)
	}
	_, err = g.Create(t.Context(), "g", Settings{})
	wantError(t, err, ErrExists)
	added := c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "a"})
	if !added.Changed || added.Epoch != 2 || added.Moves != 90 || !reflect.DeepEqual(added.Flows, []ring.Flow{{From: "", To: "a", Partitions: 90}}) {
		t.Fatalf("added %+v", added)
	}
	added = c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "b", Weight: 2, Zone: "z", Subject: "somewhere.else"})
	if added.Moves != 60 {
		t.Fatalf("added %+v", added)
	}
	shown, err := g.Show(t.Context(), "g")
	must(t, err)
	if len(shown.Nodes) != 2 || shown.Unowned != 0 || shown.Moving != 0 || shown.Peak != 1 {
		t.Fatalf("shown %+v", shown)
	}
	want := GroupNode{Node: "b", Weight: 2, Zone: "z", Subject: "somewhere.else", State: StateStatic, Partitions: 60, Share: 60.0 / 90}
	if shown.Nodes[1] != want {
		t.Fatalf("shown %+v, want %+v", shown.Nodes[1], want)
	}
	partition := 3
	c.change(g, ChangeRequest{Group: "g", Action: ActionPin, Node: "a", Partition: &partition})
	key := "some key"
	c.change(g, ChangeRequest{Group: "g", Action: ActionPin, Node: "b", Key: &key})
	again := c.change(g, ChangeRequest{Group: "g", Action: ActionPin, Node: "b", Key: &key})
	if again.Changed || again.Epoch != 5 || again.Flows == nil {
		t.Fatalf("what is so already: %+v", again)
	}
	shown, err = g.Show(t.Context(), "g")
	must(t, err)
	if shown.Pins[3] != "a" || shown.Owners[3] != 0 || shown.Pins[ring.PartitionOf(ring.Hash(key), 90)] != "b" {
		t.Fatalf("pins %v", shown.Pins)
	}
	nodes, err := g.Nodes(t.Context(), "")
	must(t, err)
	if len(nodes) != 2 || nodes[0].Group != "g" || nodes[0].Node != "a" {
		t.Fatalf("nodes %+v", nodes)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	c := start(t)
	g := c.groups()
	would := c.change(g, ChangeRequest{Group: "g", Action: ActionCreate, Partitions: 8, DryRun: true})
	if !would.DryRun || would.Epoch != 1 || would.Partitions != 8 {
		t.Fatalf("it would be %+v", would)
	}
	_, err := g.Show(t.Context(), "g")
	wantError(t, err, ErrNoGroup)
	c.static(g, "g", 2, Settings{Partitions: 8})
	would = c.change(g, ChangeRequest{Group: "g", Action: ActionDrain, Node: "n1", DryRun: true})
	if would.Epoch != 4 || would.Moves != 4 || would.Flows[0] != (ring.Flow{From: "n1", To: "n2", Partitions: 4}) {
		t.Fatalf("it would be %+v", would)
	}
	if _, err := g.Delete(t.Context(), DeleteRequest{Group: "g", Force: true, DryRun: true}); err != nil {
		t.Fatal(err)
	}
	shown, err := g.Show(t.Context(), "g")
	must(t, err)
	if shown.Epoch != 3 || shown.Nodes[0].Weight != 1 {
		t.Fatalf("it was changed: %+v", shown)
	}
	did := c.change(g, ChangeRequest{Group: "g", Action: ActionDrain, Node: "n1"})
	if did.Moves != would.Moves || !reflect.DeepEqual(did.Flows, would.Flows) || did.Epoch != would.Epoch {
		t.Fatalf("it did %+v, not what the dry run said: %+v", did, would)
	}
}

func TestWhatAChangeIsRefusedFor(t *testing.T) {
	c := start(t)
	g := c.groups()
	c.static(g, "g", 1, Settings{Partitions: 8})
	partition, key, grace := 1, "k", int64(0)
	for _, test := range []struct {
		request ChangeRequest
		want    error
		says    string
	}{
		{ChangeRequest{Group: "h", Action: ActionAdd, Node: "x"}, ErrNoGroup, "there is g"},
		{ChangeRequest{Group: "", Action: ActionAdd, Node: "x"}, ErrInvalid, "group"},
		{ChangeRequest{Group: "a.b", Action: ActionCreate}, ErrInvalid, "a.b"},
		{ChangeRequest{Group: "g", Action: "bend"}, ErrInvalid, "unpin"},
		{ChangeRequest{Group: "g", Action: ActionAdd, Node: "n1"}, ErrExists, "n1"},
		{ChangeRequest{Group: "g", Action: ActionAdd, Node: "x.y"}, ErrInvalid, "x.y"},
		{ChangeRequest{Group: "g", Action: ActionAdd, Node: "x", Subject: "a b"}, ErrInvalid, "subject"},
		{ChangeRequest{Group: "g", Action: ActionRemove, Node: "x"}, ErrNoNode, "n1"},
		{ChangeRequest{Group: "g", Action: ActionRemove, Node: "n1"}, ErrLastNode, "force"},
		{ChangeRequest{Group: "g", Action: ActionDrain, Node: "n1"}, ErrLastNode, "force"},
		{ChangeRequest{Group: "g", Action: ActionWeight, Node: "n1"}, ErrInvalid, "weight"},
		{ChangeRequest{Group: "g", Action: ActionWeight, Node: "n1", Weight: 2, Zone: "z"}, ErrInvalid, "zone"},
		{ChangeRequest{Group: "g", Action: ActionDrain, Node: "n1", Weight: 2}, ErrInvalid, "weight"},
		{ChangeRequest{Group: "g", Action: ActionPin, Node: "n1"}, ErrInvalid, "partition"},
		{ChangeRequest{Group: "g", Action: ActionPin, Node: "n1", Partition: &partition, Key: &key}, ErrInvalid, "partition"},
		{ChangeRequest{Group: "g", Action: ActionDrain, Node: "n1", Key: &key}, ErrInvalid, "pin"},
		{ChangeRequest{Group: "g", Action: ActionUnpin, Node: "n1", Key: &key}, ErrInvalid, "node"},
		{ChangeRequest{Group: "g", Action: ActionAdd, Node: "x", GraceMS: &grace}, ErrInvalid, "create"},
		{ChangeRequest{Group: "x", Action: ActionCreate, Node: "n"}, ErrInvalid, "create"},
		{ChangeRequest{Group: "x", Action: ActionCreate, Kind: "odd"}, ErrInvalid, "odd"},
		{ChangeRequest{Group: "x", Action: ActionCreate, Partitions: -1}, ErrInvalid, "-1"},
		{ChangeRequest{Group: "g", Action: ActionCreate}, ErrExists, "8 partitions"},
	} {
		_, err := g.Change(t.Context(), test.request)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.HasPrefix(err.Error(), "router: ") {
			t.Errorf("%+v: got %v; want one that is %q and says %q", test.request, err, test.want, test.says)
		}
	}
	shown, err := g.Show(t.Context(), "g")
	must(t, err)
	if shown.Epoch != 2 {
		t.Fatalf("something was done: %+v", shown)
	}
	at := c.change(g, ChangeRequest{Group: "at-once", Action: ActionCreate, GraceMS: &grace})
	shown, err = g.Show(t.Context(), at.Group)
	must(t, err)
	if shown.GraceMS != 0 {
		t.Fatalf("grace %d", shown.GraceMS)
	}
}

func TestChangesRaceAndAllAreMade(t *testing.T) {
	c := start(t)
	c.static(c.groups(), "g", 0, Settings{Partitions: 64})
	const changing, each = 8, 5
	var running sync.WaitGroup
	for i := range changing {
		g := c.groups()
		running.Go(func() {
			for j := range each {
				if _, err := g.Change(t.Context(), ChangeRequest{Group: "g", Action: ActionAdd, Node: fmt.Sprintf("n%d-%d", i, j)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	shown, err := c.groups().Show(t.Context(), "g")
	must(t, err)
	if shown.Epoch != 1+changing*each || len(shown.Nodes) != changing*each {
		t.Fatalf("epoch %d, %d nodes", shown.Epoch, len(shown.Nodes))
	}
}

func TestCreationsRaceAndOneMakesIt(t *testing.T) {
	c := start(t)
	errs := make(chan error, 8)
	for range cap(errs) {
		g := c.groups()
		go func() {
			_, err := g.Create(t.Context(), "g", Settings{})
			errs <- err
		}()
	}
	made := 0
	for range cap(errs) {
		if err := <-errs; err == nil {
			made++
		} else if !errors.Is(err, ErrExists) {
			t.Error(err)
		}
	}
	if made != 1 {
		t.Fatalf("%d made it", made)
	}
}

func TestADeletedGroupIsMadeAnewWithAGreaterIncarnation(t *testing.T) {
	c := start(t)
	g := c.groups()
	future := uint64(time.Now().Add(time.Hour).UnixMicro()) // of a clock that has been set back since
	v := c.groupAt(g.s, "g", future, version{})
	c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "n"})
	_, err := g.Delete(t.Context(), DeleteRequest{Group: "g"})
	wantError(t, err, ErrNotEmpty)
	gone, err := g.Delete(t.Context(), DeleteRequest{Group: "g", Force: true})
	must(t, err)
	if gone.Epoch != 2 || gone.Incarnation != v.record.Incarnation || gone.Nodes != 1 || gone.Partitions != 4096 {
		t.Fatalf("deleted %+v", gone)
	}
	_, err = g.Delete(t.Context(), DeleteRequest{Group: "g"})
	wantError(t, err, ErrNoGroup)
	again, err := g.Create(t.Context(), "g", Settings{})
	must(t, err)
	if again.Incarnation <= future || again.Epoch != 1 {
		t.Fatalf("made anew %+v", again)
	}
}

func TestGroupsThatCannotBeReadAreListedAndDeleted(t *testing.T) {
	c := start(t)
	g := c.groups()
	c.static(g, "good", 1, Settings{Partitions: 8})
	c.write(g.s.names.recordSubject("bad"), "garbage", nil)
	c.write(g.s.names.recordSubject("newer"), `{"v":99}`, nil)
	c.write(g.s.names.presenceSubject("good", "n1"), "garbage", nil)
	c.write(g.s.names.recordSubject("gone"), "", nats.Header{"KV-Operation": {"DEL"}})
	groups, err := g.List(t.Context())
	must(t, err)
	if len(groups) != 3 || groups[0].Group != "bad" || groups[0].Problem == "" || groups[1].Problem != "" || groups[2].Problem == "" {
		t.Fatalf("listed %+v", groups)
	}
	_, err = g.Show(t.Context(), "newer")
	wantError(t, err, ErrNewerRecord)
	_, err = g.Change(t.Context(), ChangeRequest{Group: "bad", Action: ActionAdd, Node: "n"})
	wantError(t, err, ErrRecord)
	_, err = g.Delete(t.Context(), DeleteRequest{Group: "bad"})
	wantError(t, err, ErrRecord)
	_, err = g.Delete(t.Context(), DeleteRequest{Group: "bad", Force: true})
	must(t, err)
	_, err = g.Create(t.Context(), "bad", Settings{})
	must(t, err)
}

func TestAConfigOutOfItsBounds(t *testing.T) {
	for _, cfg := range []Config{{Prefix: "a b"}, {Prefix: "a..b"}, {Replicas: 2}, {Replicas: -1}} {
		_, err := Open(context.Background(), nil, cfg)
		wantError(t, err, ErrInvalid)
	}
}
