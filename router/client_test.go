// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/router/ring"
)

func (c *cluster) client() *Client {
	c.t.Helper()
	client, err := NewClient(c.connect(), Config{})
	must(c.t, err)
	c.t.Cleanup(client.Close)
	return client
}

func TestRoutes(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 3, Settings{Partitions: 64})
	c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "other", Subject: "some.where"})
	shown, err := g.Show(t.Context(), "g")
	must(t, err)
	keys := make([]string, 200)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
	}
	routes, err := client.Routes(t.Context(), "g", keys)
	must(t, err)
	for i, route := range routes {
		one, err := client.Route(t.Context(), "g", keys[i])
		must(t, err)
		node := shown.Nodes[shown.Owners[route.Partition]].Node
		subject := "assent.node.g." + node
		if node == "other" {
			subject = "some.where"
		}
		want := Route{"g", keys[i], ring.PartitionOf(ring.Hash(keys[i]), 64), node, subject, shown.Incarnation, shown.Epoch, false}
		if route != want || one != want {
			t.Fatalf("got %+v and %+v, want %+v", route, one, want)
		}
	}
	r, incarnation, epoch, err := client.Ring(t.Context(), "g")
	must(t, err)
	if r.Owner(keys[0]) != routes[0].Node || incarnation != shown.Incarnation || epoch != shown.Epoch {
		t.Fatalf("ring %d.%d", incarnation, epoch)
	}
}

// A client follows every change within a second, if the machine lets it; here nobody repeats the hints.
func TestAClientFollows(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	_, err := client.Route(t.Context(), "g", "k")
	must(t, err)
	best := time.Hour
	for i := range 10 {
		before, err := client.Route(t.Context(), "g", "k")
		must(t, err)
		changed := c.change(g, ChangeRequest{Group: "g", Action: ActionWeight, Node: "n1", Weight: i + 2})
		begun := time.Now()
		must(t, client.After(t.Context(), "g", before.Incarnation, before.Epoch))
		route, err := client.Route(t.Context(), "g", "k")
		must(t, err)
		if best = min(best, time.Since(begun)); route.Epoch != changed.Epoch {
			t.Fatalf("epoch %d, want %d", route.Epoch, changed.Epoch)
		}
	}
	if best > time.Second {
		t.Fatalf("it took %s at best", best)
	}
}

func TestAfterWaitsAndGivesUp(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	route, err := client.Route(t.Context(), "g", "k")
	must(t, err)
	must(t, client.After(t.Context(), "g", route.Incarnation, route.Epoch-1))
	must(t, client.After(t.Context(), "g", route.Incarnation-1, 99))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	err = client.After(ctx, "g", route.Incarnation, route.Epoch)
	cancel()
	wantError(t, err, ErrNotReached)
	wantError(t, err, context.DeadlineExceeded)
	waiting := make(chan error, 1)
	go func() { waiting <- client.After(t.Context(), "g", route.Incarnation, route.Epoch) }()
	c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "n2"})
	must(t, <-waiting)
	go func() { waiting <- client.After(t.Context(), "g", route.Incarnation, 99) }()
	_, err = g.Delete(t.Context(), DeleteRequest{Group: "g", Force: true})
	must(t, err)
	wantError(t, <-waiting, ErrNoGroup)
	_, err = client.Route(t.Context(), "g", "k")
	wantError(t, err, ErrNoGroup)
	c.static(g, "g", 1, Settings{Partitions: 64})
	must(t, afterGone(t.Context(), client, route))
	_, incarnation, _, err := client.Ring(t.Context(), "g")
	must(t, err)
	if incarnation <= route.Incarnation {
		t.Fatalf("incarnation %d after %d", incarnation, route.Incarnation)
	}
}

// afterGone is After for a group that is made anew.
func afterGone(ctx context.Context, client *Client, route Route) error {
	ctx, cancel := context.WithTimeout(ctx, testPatience)
	defer cancel()
	for {
		if err := client.After(ctx, route.Group, route.Incarnation, route.Epoch); !errors.Is(err, ErrNoGroup) {
			return err
		}
	}
}

func TestAnUnknownGroupIsLookedForNowAndThen(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	for range 50 {
		_, err := client.Route(t.Context(), "g", "k")
		wantError(t, err, ErrNoGroup)
	}
	if n := len(*client.groups.Load()); n != 0 {
		t.Fatalf("%d groups are followed", n)
	}
	c.static(g, "g", 1, Settings{Partitions: 64})
	eventually(t, "the group is found", func() bool {
		_, err := client.Route(t.Context(), "g", "k")
		return err == nil
	})
	for i := range 2 * maxUnknown {
		client.mu.Lock()
		client.forget()
		client.unknown[fmt.Sprint(i)] = failure{}
		client.mu.Unlock()
	}
	if n := len(client.unknown); n > maxUnknown {
		t.Fatalf("%d unknown groups are remembered", n)
	}
	_, err := client.Route(t.Context(), "a.b", "k")
	wantError(t, err, ErrInvalid)
}

func TestTheFirstUseIsSharedAndEndsWithItsContext(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Route(ctx, "g", "k"); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var using sync.WaitGroup
	for range 50 {
		using.Go(func() {
			if _, err := client.Route(t.Context(), "g", "k"); err != nil {
				t.Error(err)
			}
		})
	}
	using.Wait()
	if n := len(*client.groups.Load()); n != 1 {
		t.Fatalf("%d groups are followed", n)
	}
}

func TestNobodyOwnsIt(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 0, Settings{Partitions: 64})
	route, err := client.Route(t.Context(), "g", "k")
	wantError(t, err, ErrNoNodes)
	if route.Node != "" || route.Epoch != 1 {
		t.Fatalf("%+v", route)
	}
	_, err = client.Routes(t.Context(), "g", []string{"k"})
	wantError(t, err, ErrNoNodes)
	none, err := client.Routes(t.Context(), "g", nil)
	if err != nil || len(none) != 0 {
		t.Fatal(none, err)
	}
}

// A ring that cannot be read any more stays in force.
func TestAClientGoesOnWithTheLastGoodRing(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	before, err := client.Route(t.Context(), "g", "k")
	must(t, err)
	c.write(g.s.names.recordSubject("g"), "garbage", nil)
	f := (*client.groups.Load())["g"]
	wantError(t, f.refresh(t.Context()), ErrRecord)
	after, err := client.Route(t.Context(), "g", "k")
	if err != nil || after != before {
		t.Fatal(after, err)
	}
	if stats := client.Stats(); stats.Groups != 1 || stats.Unreadable == 0 || stats.Reads < 2 || stats.Stale+stats.Failed != 0 {
		t.Errorf("counted %+v", stats)
	}
	_, err = c.client().Route(t.Context(), "g", "k") // who has no other has none
	wantError(t, err, ErrRecord)
}

func TestAClientSurvivesARestartOfTheServer(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	before, err := client.Route(t.Context(), "g", "k")
	must(t, err)
	c.down()
	during, err := client.Route(t.Context(), "g", "k")
	if err != nil || during != before {
		t.Fatal(during, err)
	}
	c.up()
	c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "n2"})
	must(t, client.After(t.Context(), "g", before.Incarnation, before.Epoch))
}

func TestAClientThatIsClosed(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	route, err := client.Route(t.Context(), "g", "k")
	must(t, err)
	waiting := make(chan error, 1)
	go func() { waiting <- client.After(t.Context(), "g", route.Incarnation, route.Epoch) }()
	client.Close()
	client.Close()
	wantError(t, <-waiting, ErrClosed)
	for _, group := range []string{"g", "other"} {
		_, err = client.Route(t.Context(), group, "k")
		wantError(t, err, ErrClosed)
	}
}

func TestRouteCostsNoMemory(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 3, Settings{})
	ctx := t.Context()
	_, err := client.Route(ctx, "g", "k")
	must(t, err)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := client.Route(ctx, "g", "customer/4711"); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkRoute(b *testing.B) {
	c := start(b)
	g, client := c.groups(), c.client()
	c.static(g, "g", 10, Settings{})
	ctx := context.Background()
	_, err := client.Route(ctx, "g", "k")
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Route(ctx, "g", "customer/4711"); err != nil {
			b.Fatal(err)
		}
	}
}

// serve answers requests to a node.
func (c *cluster) serve(node string, answer func(*nats.Msg) *nats.Msg) {
	c.t.Helper()
	nc := c.connect()
	_, err := nc.Subscribe("assent.node.g."+node, func(msg *nats.Msg) {
		if reply := answer(msg); reply != nil {
			_ = msg.RespondMsg(reply)
		}
	})
	must(c.t, err)
	must(c.t, nc.Flush())
}

func says(header, value, body string) *nats.Msg {
	msg := &nats.Msg{Data: []byte(body), Header: nats.Header{}}
	if header != "" {
		msg.Header.Set(header, value)
	}
	return msg
}

func TestRequest(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	route, err := client.Route(t.Context(), "g", "a key")
	must(t, err)
	c.serve("n1", func(msg *nats.Msg) *nats.Msg {
		return says("", "", fmt.Sprint(msg.Header.Get(HeaderKey), " ", msg.Header.Get(HeaderRing), " ", string(msg.Data)))
	})
	answer, err := client.Request(t.Context(), "g", "a key", []byte("hello"))
	must(t, err)
	if want := fmt.Sprintf("a key %d.%d hello", route.Incarnation, route.Epoch); string(answer.Data) != want {
		t.Fatalf("got %q, want %q", answer.Data, want)
	}
	for _, key := range []string{"", " k", "k\r\nX: y", "\xff", strings.Repeat("k", 2000)} {
		_, err := client.Request(t.Context(), "g", key, nil)
		wantError(t, err, ErrInvalid)
	}
	_, err = client.Request(t.Context(), "h", "k", nil)
	wantError(t, err, ErrNoGroup)
}

// A request finds the new owner, whatever it meets on the way.
func TestARequestIsTriedAgain(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	route, err := client.Route(t.Context(), "g", "k")
	must(t, err)
	met := make(chan string, 100)
	meet := func(what string) {
		select {
		case met <- what:
		default:
		}
	}
	first := true
	c.serve("n1", func(msg *nats.Msg) *nats.Msg {
		if first { // it is not ready; then it is not the owner any more
			first = false
			meet("again")
			return says(HeaderTryAgain, "acquiring", "")
		}
		meet("wrong")
		return says(HeaderWrongOwner, formatRing(route.Incarnation, route.Epoch+2), "")
	})
	answered := make(chan error, 1)
	go func() {
		answer, err := client.Request(t.Context(), "g", "k", nil)
		if err == nil && string(answer.Data) != "n2" {
			err = fmt.Errorf("answered by %q", answer.Data)
		}
		answered <- err
	}()
	for _, want := range []string{"again", "wrong"} {
		if got := <-met; got != want {
			t.Fatalf("met %s, want %s", got, want)
		}
	}
	c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "n2"})
	c.change(g, ChangeRequest{Group: "g", Action: ActionRemove, Node: "n1"}) // nobody is there yet
	c.serve("n2", func(*nats.Msg) *nats.Msg { return says("", "", "n2") })
	must(t, <-answered)
}

func TestWhatARequestSaysThatWasNotAnswered(t *testing.T) {
	c := start(t)
	g, client := c.groups(), c.client()
	c.static(g, "g", 1, Settings{Partitions: 64})
	// The time may end while an answer is on its way. Then nobody knows, which is said, and it is asked once more here.
	request := func(want error) (err error) {
		eventually(t, fmt.Sprintf("a request that gives up says %q", want), func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err = client.Request(ctx, "g", "k", nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v", err)
			}
			return errors.Is(err, want)
		})
		return err
	}
	_ = request(ErrNotReady) // nobody is there
	var answer *nats.Msg
	var mu sync.Mutex
	set := func(msg *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		answer = msg
	}
	c.serve("n1", func(*nats.Msg) *nats.Msg {
		mu.Lock()
		defer mu.Unlock()
		return answer
	})
	set(says(HeaderTryAgain, "it acquires", ""))
	err := request(ErrNotReady)
	if !strings.Contains(err.Error(), "it acquires") {
		t.Errorf("it does not say why: %v", err)
	}
	set(says(HeaderWrongOwner, "1.1", ""))
	err = request(ErrWrongOwner)
	var wrong *WrongOwnerError
	if !errors.As(err, &wrong) || wrong.Node != "n1" || wrong.Epoch != 1 {
		t.Errorf("got %+v", wrong)
	}
	set(nil)
	_ = request(ErrUnknown)
	set(says(HeaderWrongOwner, "nonsense", ""))
	if _, err := client.Request(t.Context(), "g", "k", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestParseRing(t *testing.T) {
	for _, text := range []string{"", "1", "1.", ".1", "1.2.3", "-1.2", "a.b", "1.99999999999999999999"} {
		if _, _, err := parseRing(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
	incarnation, epoch, err := parseRing(formatRing(1<<53-1, 7))
	if err != nil || incarnation != 1<<53-1 || epoch != 7 {
		t.Fatal(incarnation, epoch, err)
	}
}
