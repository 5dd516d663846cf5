// SPDX-License-Identifier: Apache-2.0

package router_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/router"
)

// exampleServer starts a server for an example; a program would connect to the one that it has.
func exampleServer() (nc *nats.Conn, stop func()) {
	dir, err := os.MkdirTemp("", "router-example")
	check(err)
	srv, err := embedded.Start(embedded.Config{Dir: dir, Listen: "127.0.0.1:0"})
	check(err)
	nc, err = nats.Connect(srv.URL(), nats.MaxReconnects(-1))
	check(err)
	return nc, func() {
		nc.Close()
		_ = srv.Close()
		_ = os.RemoveAll(dir)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A group of services that know nothing of all this: an operator puts them in.
func ExampleGroups() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	groups, err := router.Open(ctx, nc, router.Config{})
	check(err)
	_, err = groups.Create(ctx, "caches", router.Settings{Kind: router.Instant, Partitions: 300})
	check(err)
	for _, node := range []string{"cache-1", "cache-2"} {
		_, err := groups.Change(ctx, router.ChangeRequest{Group: "caches", Action: router.ActionAdd, Node: node})
		check(err)
	}

	// What would a third one cost?
	would, err := groups.Change(ctx, router.ChangeRequest{Group: "caches", Action: router.ActionAdd, Node: "cache-3", DryRun: true})
	check(err)
	fmt.Printf("%d of %d partitions would move\n", would.Moves, would.Partitions)
	for _, flow := range would.Flows {
		fmt.Println(flow.Partitions, "from", flow.From, "to", flow.To)
	}

	group, err := groups.Show(ctx, "caches")
	check(err)
	for _, n := range group.Nodes {
		fmt.Println(n.Node, n.State, n.Partitions)
	}
	// Output:
	// 100 of 300 partitions would move
	// 50 from cache-1 to cache-3
	// 50 from cache-2 to cache-3
	// cache-1 static 150
	// cache-2 static 150
}

// A client keeps the ring, so a route costs no round trip, and follows its changes.
func ExampleClient_Route() {
	nc, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	groups, err := router.Open(ctx, nc, router.Config{})
	check(err)
	_, err = groups.Create(ctx, "caches", router.Settings{Kind: router.Instant})
	check(err)
	_, err = groups.Change(ctx, router.ChangeRequest{Group: "caches", Action: router.ActionAdd, Node: "cache-1"})
	check(err)

	client, err := router.NewClient(nc, router.Config{})
	check(err)
	defer client.Close()
	before, err := client.Route(ctx, "caches", "customer/4711")
	check(err)
	fmt.Println(before.Node, before.Subject)

	key := "customer/4711"
	_, err = groups.Change(ctx, router.ChangeRequest{Group: "caches", Action: router.ActionAdd, Node: "cache-2", Subject: "cache.two"})
	check(err)
	_, err = groups.Change(ctx, router.ChangeRequest{Group: "caches", Action: router.ActionPin, Node: "cache-2", Key: &key})
	check(err)
	check(client.After(ctx, "caches", before.Incarnation, before.Epoch+1))
	after, err := client.Route(ctx, "caches", key)
	check(err)
	fmt.Println(after.Node, after.Subject)
	// Output:
	// cache-1 assent.node.caches.cache-1
	// cache-2 cache.two
}

// Request finds the node that owns a key, wherever it moves.
func ExampleClient_Request() {
	nc, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	groups, err := router.Open(ctx, nc, router.Config{})
	check(err)
	_, err = groups.Create(ctx, "echo", router.Settings{Kind: router.Instant})
	check(err)
	_, err = groups.Change(ctx, router.ChangeRequest{Group: "echo", Action: router.ActionAdd, Node: "echo-1"})
	check(err)
	_, err = nc.Subscribe("assent.node.echo.echo-1", func(msg *nats.Msg) {
		_ = msg.Respond(append([]byte(msg.Header.Get(router.HeaderKey)+": "), msg.Data...))
	})
	check(err)

	client, err := router.NewClient(nc, router.Config{})
	check(err)
	defer client.Close()
	answer, err := client.Request(ctx, "echo", "customer/4711", []byte("hello"))
	check(err)
	fmt.Println(string(answer.Data))
	// Output: customer/4711: hello
}

// A program in any language asks the routing service, which is the steward too, by which nodes get into the ring.
func ExampleService() {
	nc, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	service, err := router.NewService(nc, router.ServiceConfig{})
	check(err)
	node, err := router.NewNode(nc, router.NodeConfig{Group: "echo", Name: "echo-1"})
	check(err)
	ended := make(chan error, 2)
	go func() { ended <- service.Run(ctx) }()
	<-service.Ready()
	go func() { ended <- node.Run(ctx) }()
	<-node.Ready()

	ask := func(subject, request string) *nats.Msg {
		answer, err := nc.Request(subject, []byte(request), 10*time.Second)
		check(err)
		return answer
	}
	var route router.RouteResponse
	check(json.Unmarshal(ask("assent.route", `{"group":"echo","key":"customer/4711"}`).Data, &route))
	fmt.Println(route.Node, route.Subject)
	answer := ask("assent.route", `{"group":"ecco","key":"customer/4711"}`)
	fmt.Println(answer.Header.Get("Nats-Service-Error-Code"), answer.Header.Get("Nats-Service-Error"))

	cancel()
	fmt.Println(<-ended, <-ended)
	// Output:
	// echo-1 assent.node.echo.echo-1
	// 404 no such group: ecco
	// <nil> <nil>
}
