// SPDX-License-Identifier: Apache-2.0

package router_test

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/router"
)

// shelf is what a node does with its partitions. A store would open, send and delete data here.
type shelf struct{ name string }

func (s shelf) Acquire(context.Context, router.Move) error { return nil }

func (s shelf) Release(_ context.Context, m router.Move) error {
	if m.To != "" { // the last one that goes has nobody to hand over to
		fmt.Printf("%s hands its partition over to %s\n", s.name, m.To)
	}
	return nil
}

// A node serves the keys that it owns, and hands them over when it goes.
func ExampleNode() {
	nc, stop := exampleServer()
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	service, err := router.NewService(nc, router.ServiceConfig{}) // as `assent serve` has one
	check(err)
	ended := make(chan error, 1)
	serving, end := context.WithCancel(ctx)
	go func() { ended <- service.Run(serving) }()
	<-service.Ready()

	start := func(name string) (leave func()) {
		node, err := router.NewNode(nc, router.NodeConfig{
			Group: "greetings", Name: name, Hooks: shelf{name}, Settings: router.Settings{Kind: router.HandOff, Partitions: 1},
		})
		check(err)
		node.Serve(func(_ context.Context, key string, msg *nats.Msg) {
			_ = msg.Respond([]byte(name + " greets " + key))
		})
		running, leaving := context.WithCancel(ctx)
		left := make(chan error, 1)
		go func() { left <- node.Run(running) }()
		<-node.Ready()
		return func() {
			leaving()
			check(<-left)
		}
	}
	leaveA := start("a")
	leaveB := start("b")
	client, err := router.NewClient(nc, router.Config{})
	check(err)
	defer client.Close()
	ask := func() {
		answer, err := client.Request(ctx, "greetings", "Ada", nil)
		check(err)
		fmt.Println(string(answer.Data))
	}
	ask()
	leaveA()
	ask()
	leaveB()
	end()
	check(<-ended)
	// Output:
	// a greets Ada
	// a hands its partition over to b
	// b greets Ada
}
