// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router"
)

// TestMain makes the test binary the programs of the scripts too, each in a process of its own.
func TestMain(m *testing.M) {
	// Scripts mostly wait: for processes that start, and for what these wait for. Two at a time they take a minute longer.
	if err := flag.Set("test.parallel", strconv.Itoa(3*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){
		"assent":      main,
		"participant": func() { exitWith(participantMain()) },
		"nats-server": func() { exitWith(natsServerMain()) },
		"router":      func() { exitWith(routerMain()) },
		"node":        func() { exitWith(nodeMain()) },
	})
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// participantMain is `participant NAME`: it votes as the payload says, and cannot commit while the file "broken" exists.
func participantMain() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var options []nats.Option
	if token := os.Getenv("TOKEN"); token != "" {
		options = append(options, nats.Token(token))
	}
	nc, err := nats.Connect(os.Getenv("NATS_URL"), options...)
	if err != nil {
		return err
	}
	defer nc.Close()
	p, err := participant.New(nc, participant.Config{Name: os.Args[1], Handler: obedient{}, Prefix: os.Getenv("PREFIX")})
	if err != nil {
		return err
	}
	go func() {
		<-p.Ready()
		fmt.Println("ready")
	}()
	return p.Run(ctx)
}

// obedient is the handler of participantMain.
type obedient struct{}

func (obedient) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	var order struct {
		Vote   string `json:"vote"`
		Reason string `json:"reason"`
		Hang   bool   `json:"hang"`
	}
	payload := b.Operations[0].Payload
	if len(payload) == 0 { // an operation need not have one
		return participant.Yes, nil
	}
	if err := json.Unmarshal(payload, &order); err != nil {
		return 0, participant.Refuse(err)
	}
	switch {
	case order.Hang:
		<-ctx.Done()
		return 0, ctx.Err()
	case order.Vote == "no":
		return 0, participant.Refuse(errors.New(order.Reason))
	case order.Vote == "conflict":
		return 0, participant.Conflict(errors.New(order.Reason))
	case order.Vote == "read-only":
		return participant.ReadOnly, nil
	default:
		return participant.Yes, nil
	}
}

// InDoubt: what it holds it forgets, for all that a test asks.
func (obedient) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

func (obedient) Commit(context.Context, messages.ID) error {
	if _, err := os.Stat("broken"); err == nil {
		return errors.New("the store is broken")
	}
	return nil
}

func (obedient) Rollback(context.Context, messages.ID) error { return nil }

// natsServerMain is `nats-server DIR`: a NATS server that somebody else runs. Without DIR it has no JetStream.
func natsServerMain() error {
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true}
	if len(os.Args) > 1 {
		options.JetStream, options.StoreDir = true, filepath.Clean(os.Args[1])
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s.Start()
	fmt.Printf("{\"url\":%q}\n", s.ClientURL())
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// routerMain is `router`: a routing service by itself.
func routerMain() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return err
	}
	defer nc.Close()
	service, err := router.NewService(nc, router.ServiceConfig{})
	if err != nil {
		return err
	}
	go func() {
		<-service.Ready()
		fmt.Println("ready")
	}()
	return service.Run(ctx)
}

// nodeMain is `node GROUP NAME`: a node of a group of 64 partitions, which cannot let go of any while the file "stuck" exists.
func nodeMain() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nc, err := nats.Connect(os.Getenv("NATS_URL"))
	if err != nil {
		return err
	}
	defer nc.Close()
	node, err := router.NewNode(nc, router.NodeConfig{
		Group: os.Args[1], Name: os.Args[2], Hooks: reluctant{}, TTL: time.Second, Settings: router.Settings{Partitions: 64},
	})
	if err != nil {
		return err
	}
	go func() {
		<-node.Ready()
		fmt.Println("ready")
	}()
	return node.Run(ctx)
}

// reluctant are the hooks of nodeMain.
type reluctant struct{}

func (reluctant) Acquire(context.Context, router.Move) error { return nil }

func (reluctant) Release(context.Context, router.Move) error {
	if _, err := os.Stat("stuck"); err == nil {
		return errors.New("it cannot let go")
	}
	return nil
}
