// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/locks"
)

// service runs a routing service until the test ends, or stop is called.
func (c *cluster) service(cfg ServiceConfig) (s *Service, stop func()) {
	c.t.Helper()
	made, err := NewService(c.connect(), cfg)
	must(c.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- made.Run(ctx) }()
	stop = func() {
		if cancel == nil {
			return
		}
		cancel()
		cancel = nil
		if err := <-ended; err != nil {
			c.t.Errorf("the service ended with %v", err)
		}
	}
	c.t.Cleanup(stop)
	select {
	case <-made.Ready():
	case err := <-ended:
		c.t.Fatal(err)
	}
	// A server that is shut down while it makes a stream leaves a goroutine behind, so it is to be there before the test ends.
	eventually(c.t, "there is a steward", func() bool { return c.stewardSession() != "" })
	return made, stop
}

// stewardSession is the session of the steward; "" when there is none.
func (c *cluster) stewardSession() string {
	c.t.Helper()
	held, err := locks.List(c.t.Context(), c.lister(), "assent-nodes")
	if err != nil {
		return ""
	}
	for _, info := range held {
		if info.Key == stewardLock && len(info.Holders) > 0 {
			return info.Holders[0].Session
		}
	}
	return ""
}

// lister is a connection that is kept for looking at things.
func (c *cluster) lister() *nats.Conn {
	if c.looking == nil {
		c.looking = c.connect()
	}
	return c.looking
}

// ask asks the service, and gives the answer's body and the code of its error.
func (c *cluster) ask(nc *nats.Conn, subject, request string) (body, number, code string) {
	c.t.Helper()
	msg, err := nc.Request(subject, []byte(request), testPatience)
	must(c.t, err)
	number = msg.Header.Get(micro.ErrorCodeHeader)
	if number == "" {
		return string(msg.Data), "", ""
	}
	var p Problem
	must(c.t, json.Unmarshal(msg.Data, &p))
	if p.Error == "" || p.Error != msg.Header.Get(micro.ErrorHeader) {
		c.t.Fatalf("the error says %q, the header %q", p.Error, msg.Header.Get(micro.ErrorHeader))
	}
	return p.Error, number, p.Code
}

func TestTheServiceRoutes(t *testing.T) {
	c := start(t)
	c.service(ServiceConfig{})
	g, client, nc := c.groups(), c.client(), c.connect()
	c.static(g, "g", 3, Settings{Partitions: 64})
	c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "odd", Subject: `a."b\`})
	var keys []string
	for i := range 300 {
		keys = append(keys, fmt.Sprintf("key %d \"é", i))
	}
	request, err := json.Marshal(&RouteRequest{Group: "g", Keys: keys, MinEpoch: 5})
	must(t, err)
	body, _, code := c.ask(nc, "assent.route", string(request))
	var many RoutesResponse
	if err := json.Unmarshal([]byte(body), &many); err != nil || code != "" {
		t.Fatal(body, err)
	}
	if again, _ := json.Marshal(&many); string(again) != body {
		t.Errorf("written by hand %.200s, by encoding/json %.200s", body, again)
	}
	must(t, client.After(t.Context(), "g", many.Incarnation, many.Epoch-1))
	routes, err := client.Routes(t.Context(), "g", keys)
	must(t, err)
	for i, route := range routes {
		if want := (KeyRoute{route.Partition, route.Node, route.Subject, route.Moving}); many.Routes[i] != want {
			t.Fatalf("got %+v, want %+v", many.Routes[i], want)
		}
		if i > 20 {
			continue
		}
		request, err := json.Marshal(&RouteRequest{Group: "g", Key: &keys[i]})
		must(t, err)
		body, _, _ := c.ask(nc, "assent.route", string(request))
		var one RouteResponse
		must(t, json.Unmarshal([]byte(body), &one))
		if one != (RouteResponse{"g", many.Incarnation, many.Epoch, many.Routes[i]}) {
			t.Fatalf("got %+v, want %+v", one, many.Routes[i])
		}
		if again, _ := json.Marshal(&one); string(again) != body {
			t.Errorf("written by hand %s, by encoding/json %s", body, again)
		}
	}
	body, _, code = c.ask(nc, "assent.route", `{"group":"g","keys":[]}`)
	if code != "" || !strings.Contains(body, `"routes":[]`) {
		t.Error(body, code)
	}
}

func TestTheServicesErrors(t *testing.T) {
	c := start(t)
	s, _ := c.service(ServiceConfig{})
	g, nc := c.groups(), c.connect()
	c.static(g, "g", 1, Settings{Partitions: 8})
	c.static(g, "empty", 0, Settings{Partitions: 8})
	c.write(g.s.names.recordSubject("bad"), "garbage", nil)
	c.write(g.s.names.recordSubject("newer"), `{"v":99}`, nil)
	var many []string
	for range maxRouteKeys + 1 {
		many = append(many, `"k"`)
	}
	for _, test := range []struct{ subject, request, number, code, says string }{
		{"route", `{"group":"h","key":"k"}`, "404", "no_group", "h"},
		{"route", `{"group":"empty","key":"k"}`, "409", "no_nodes", "empty"},
		{"route", `{"group":"empty","keys":["k"]}`, "409", "no_nodes", "empty"},
		{"route", `{"group":"bad","key":"k"}`, "500", "record", "bad"},
		{"route", `{"group":"newer","key":"k"}`, "500", "newer_record", "newer"},
		{"route", ``, "400", "invalid", ""},
		{"route", `{`, "400", "invalid", ""},
		{"route", `{"group":"g","key":"k"}}`, "400", "invalid", "bytes after"},
		{"route", `{"group":"g","key":"k","epoch":1}`, "400", "invalid", "epoch"},
		{"route", `{"group":"g"}`, "400", "invalid", "key"},
		{"route", `{"group":"g","key":"k","keys":["k"]}`, "400", "invalid", "one of them"},
		{"route", `{"group":"g","key":""}`, "400", "invalid", "empty"},
		{"route", `{"group":"g","keys":["k",""]}`, "400", "invalid", "empty"},
		{"route", `{"group":"a.b","key":"k"}`, "400", "invalid", "a.b"},
		{"route", `{"group":"g","key":"` + strings.Repeat("k", 1025) + `"}`, "400", "invalid", "at most 1024"},
		{"route", "{\"group\":\"g\",\"key\":\"\xff\"}", "400", "invalid", "UTF-8"},
		{"route", `{"group":"g","keys":[` + strings.Join(many, ",") + `]}`, "400", "invalid", "at most 4096"},
		{"route", `{"group":"g","key":"k","min_epoch":-1}`, "400", "invalid", "min_epoch"},
		{"api.ring.show", `{"group":"h"}`, "404", "no_group", "there is"},
		{"api.ring.show", `{"group":"bad"}`, "500", "record", "bad"},
		{"api.ring.show", `{"group":"g","all":true}`, "400", "invalid", "all"},
		{"api.ring.change", `{"group":"g","action":"drain","node":"x"}`, "404", "no_node", "n1"},
		{"api.ring.change", `{"group":"g","action":"drain","node":"n1"}`, "409", "needs_force", "force"},
		{"api.ring.change", `{"group":"g","action":"create"}`, "409", "exists", "g"},
		{"api.ring.change", `{"group":"g","action":"bend"}`, "400", "invalid", "bend"},
		{"api.ring.delete", `{"group":"g"}`, "409", "needs_force", "force"},
		{"api.nodes", `{"group":"h"}`, "404", "no_group", "h"},
	} {
		says, number, code := c.ask(nc, "assent."+test.subject, test.request)
		if number != test.number || code != test.code || !strings.Contains(says, test.says) || strings.HasPrefix(says, "router: ") {
			t.Errorf("%s %.80s: got %s %s %.300q; want %s %s and %q", test.subject, test.request, number, code, says, test.number, test.code, test.says)
		}
	}
	for range maxWaiting {
		s.waiting <- struct{}{}
	}
	_, number, code := c.ask(nc, "assent.route", `{"group":"g","key":"k","min_epoch":99}`)
	if number != "503" || code != "busy" {
		t.Errorf("got %s %s", number, code)
	}
	for range maxWaiting {
		<-s.waiting
	}
}

func TestMinEpoch(t *testing.T) {
	c := start(t)
	c.service(ServiceConfig{})
	g, nc := c.groups(), c.connect()
	c.static(g, "g", 1, Settings{Partitions: 8})
	_, number, code := c.ask(nc, "assent.route", `{"group":"g","key":"k","min_epoch":3}`)
	if number != "408" || code != "epoch_not_reached" {
		t.Fatal(number, code)
	}
	inbox := nats.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	must(t, err)
	must(t, nc.PublishRequest("assent.route", inbox, []byte(`{"group":"g","keys":["k"],"min_epoch":3}`)))
	must(t, nc.Flush())
	c.change(g, ChangeRequest{Group: "g", Action: ActionAdd, Node: "n2"})
	msg, err := answers.NextMsg(testPatience)
	must(t, err)
	if msg.Header.Get(micro.ErrorCodeHeader) != "" || !strings.Contains(string(msg.Data), `"epoch":3,`) {
		t.Fatal(msg.Header, string(msg.Data))
	}
}

// A request that is not for an answer, such as a publish by mistake, is harmless.
func TestTheServiceIsPublishedTo(t *testing.T) {
	c := start(t)
	c.service(ServiceConfig{})
	nc := c.connect()
	for _, subject := range []string{"assent.route", "assent.api.ring.list"} {
		must(t, nc.Publish(subject, []byte("x")))
	}
	c.ask(nc, "assent.route", "")
}

func TestTheServicesAPI(t *testing.T) {
	c := start(t)
	c.service(ServiceConfig{})
	nc := c.connect()
	for _, request := range []string{
		`{"group":"g","action":"create","partitions":8,"kind":"handoff","grace_ms":0}`,
		`{"group":"g","action":"add","node":"n1"}`, `{"group":"g","action":"add","node":"n2","weight":3}`,
	} {
		if body, _, code := c.ask(nc, "assent.api.ring.change", request); code != "" {
			t.Fatal(body)
		}
	}
	body, _, _ := c.ask(nc, "assent.api.ring.change", `{"group":"g","action":"drain","node":"n2","dry_run":true}`)
	var would ChangeResponse
	must(t, json.Unmarshal([]byte(body), &would))
	if !would.DryRun || would.Epoch != 4 || would.Moves != 6 || len(would.Flows) != 1 {
		t.Errorf("it would be %s", body)
	}
	show := func(request string) (group Group) {
		body, _, code := c.ask(nc, "assent.api.ring.show", request)
		if code != "" {
			t.Fatal(body)
		}
		must(t, json.Unmarshal([]byte(body), &group))
		return group
	}
	if group := show(`{"group":"g"}`); group.Epoch != 3 || group.Owners != nil || group.Nodes[1].Partitions != 6 || group.GraceMS != 0 {
		t.Errorf("shown %+v", group)
	}
	if group := show(`{"group":"g","owners":true}`); len(group.Owners) != 8 {
		t.Errorf("shown %+v", group)
	}
	body, _, _ = c.ask(nc, "assent.api.ring.list", ``)
	var list ListResponse
	must(t, json.Unmarshal([]byte(body), &list))
	if len(list.Groups) != 1 || list.Groups[0].Group != "g" || list.Groups[0].Owners != nil {
		t.Errorf("listed %s", body)
	}
	body, _, _ = c.ask(nc, "assent.api.nodes", `{}`)
	var nodes NodesResponse
	must(t, json.Unmarshal([]byte(body), &nodes))
	if len(nodes.Nodes) != 2 || nodes.Nodes[1].Node != "n2" || nodes.Nodes[1].State != StateStatic {
		t.Errorf("nodes %s", body)
	}
	body, _, code := c.ask(nc, "assent.api.ring.delete", `{"group":"g","force":true}`)
	if code != "" || !strings.Contains(body, `"nodes":2`) {
		t.Error(body)
	}
	body, _, _ = c.ask(nc, "assent.api.ring.list", ``)
	if body != `{"groups":[]}` {
		t.Error(body)
	}
}

func TestAServiceConfigOutOfItsBounds(t *testing.T) {
	for _, cfg := range []ServiceConfig{{TTL: time.Millisecond}, {TTL: 2 * time.Hour}, {Name: strings.Repeat("n", 65)}, {Config: Config{Replicas: 2}}} {
		_, err := NewService(nil, cfg)
		wantError(t, err, ErrInvalid)
	}
}

func TestAServiceDoesNotRunOnAnUnsafeBucket(t *testing.T) {
	c := start(t)
	cfg := bucketSettings(names{"assent"}, 1)
	cfg.AllowDirect = true
	_, err := c.js().CreateStream(t.Context(), cfg)
	must(t, err)
	s, err := NewService(c.connect(), ServiceConfig{})
	must(t, err)
	wantError(t, s.Run(t.Context()), ErrSettings)
}

// A service ends soon, also when there is no server.
func TestAServiceEndsWithoutAServer(t *testing.T) {
	c := start(t)
	_, stop := c.service(ServiceConfig{})
	c.down()
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 10*time.Second {
		t.Fatalf("it took %s", took)
	}
}

// One key costs little more than any request. Both are measured in turn, so that what else the machine does counts for both.
func BenchmarkServiceRoute(b *testing.B) {
	c, nc := benchService(b)
	_, err := c.connect().Subscribe("echo", func(msg *nats.Msg) { _ = msg.Respond(msg.Data) })
	must(b, err)
	request := []byte(`{"group":"g","key":"customer/4711"}`)
	eventually(b, "it answers", func() bool { _, err := nc.Request("echo", request, time.Second); return err == nil })
	var route, bare []time.Duration
	for b.Loop() {
		begun := time.Now()
		benchAsk(b, nc, "assent.route", request)
		between := time.Now()
		benchAsk(b, nc, "echo", request)
		route, bare = append(route, between.Sub(begun)), append(bare, time.Since(between))
	}
	slices.Sort(route)
	slices.Sort(bare)
	r, e := route[len(route)/2], bare[len(bare)/2]
	b.ReportMetric(float64(r.Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(e.Nanoseconds()), "bare-p50-ns")
	b.ReportMetric(float64(r)/float64(e), "x-bare")
}

func BenchmarkServiceRoutes(b *testing.B) {
	for _, keys := range []int{100, 1000, maxRouteKeys} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			_, nc := benchService(b)
			var many []string
			for i := range keys {
				many = append(many, fmt.Sprint("customer/", i))
			}
			request, err := json.Marshal(&RouteRequest{Group: "g", Keys: many})
			must(b, err)
			b.ReportAllocs()
			for b.Loop() {
				benchAsk(b, nc, "assent.route", request)
			}
			b.ReportMetric(float64(keys)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

func benchService(b *testing.B) (*cluster, *nats.Conn) {
	c := start(b)
	c.service(ServiceConfig{})
	c.static(c.groups(), "g", 10, Settings{})
	nc := c.connect()
	benchAsk(b, nc, "assent.route", []byte(`{"group":"g","key":"k","min_epoch":11}`))
	return c, nc
}

func benchAsk(b *testing.B, nc *nats.Conn, subject string, request []byte) {
	msg, err := nc.Request(subject, request, testPatience)
	if err == nil && msg.Header.Get(micro.ErrorCodeHeader) != "" {
		err = errors.New(msg.Header.Get(micro.ErrorHeader))
	}
	if err != nil {
		b.Fatal(err)
	}
}
