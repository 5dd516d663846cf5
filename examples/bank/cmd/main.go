// SPDX-License-Identifier: Apache-2.0

// The command bank runs one bank of the example:
//
//	go run ./examples/bank/cmd -name bank-a -file bank-a.db -account alice=100000
//
// or, with -group, one of several that share the accounts of a group; an account is opened at whoever has it:
//
//	go run ./examples/bank/cmd -group accounts -name accounts-1 -file accounts-1.db -account alice=100000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/router"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bank:", err)
		os.Exit(1)
	}
}

func run() error {
	cfg := bank.Config{Log: logrus.New()}
	flag.StringVar(&cfg.Name, "name", "bank-a", "the participant's `name`")
	flag.StringVar(&cfg.File, "file", "bank-a.db", "the `file` that holds the accounts")
	server := flag.String("server", nats.DefaultURL, "the NATS server's `URL`")
	open := make(map[string]int64)
	flag.StringVar(&cfg.Group, "group", "", "the `group` whose accounts this bank shares with others (default: it has accounts of its own)")
	flag.Func("account", "open an account, as `name=cents`, unless it exists; may be repeated", func(arg string) (err error) {
		name, cents, _ := strings.Cut(arg, "=")
		open[name], err = strconv.ParseInt(cents, 10, 64)
		return err
	})
	flag.Parse()
	if cfg.Group == "" {
		if err := openAccounts(cfg.File, open); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	nc, err := nats.Connect(*server, nats.Name(cfg.Name), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	if cfg.Group == "" {
		return bank.Run(ctx, nc, cfg)
	}
	running, end := context.WithCancelCause(ctx)
	opening := make(chan error, 1)
	go func() {
		err := openShared(running, nc, cfg.Group, open)
		if err != nil {
			end(err)
		}
		opening <- err
	}()
	err = bank.Run(running, nc, cfg)
	end(nil)
	if failed := <-opening; ctx.Err() == nil {
		err = errors.Join(err, failed)
	}
	return err
}

// openShared opens accounts at whoever has them, once somebody has.
func openShared(ctx context.Context, nc *nats.Conn, group string, accounts map[string]int64) error {
	client, err := router.NewClient(nc, router.Config{})
	if err != nil {
		return err
	}
	defer client.Close()
	for name, cents := range accounts {
		for {
			_, err := bank.Ask(ctx, client, group, name, bank.Request{Open: &cents})
			if err == nil {
				break
			}
			if !errors.Is(err, router.ErrNoGroup) && !errors.Is(err, router.ErrNoNodes) {
				return err
			}
			select { // this bank is about to be the group's first
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

func openAccounts(file string, accounts map[string]int64) error {
	store, err := bank.Open(file, 0)
	if err != nil {
		return err
	}
	for name, cents := range accounts {
		err = errors.Join(err, store.OpenAccounts(cents, name))
	}
	return errors.Join(err, store.Close())
}
