// SPDX-License-Identifier: Apache-2.0

// The command bank runs one bank of the example:
//
//	go run ./examples/bank/cmd -name bank-a -file bank-a.db -account alice=100000
//
// or with its accounts in PostgreSQL (package pgbank), where several banks may share a database:
//
//	go run ./examples/bank/cmd -name bank-a -postgres postgres://app@localhost/bank -account alice=100000
//
// or, with -group, one of several that share the accounts of a group. Accounts of a group are opened by -open, at whoever has
// them:
//
//	go run ./examples/bank/cmd -name accounts-1 -group accounts -file accounts-1.db
//	go run ./examples/bank/cmd -group accounts -open alice=100000
package main

import (
	"cmp"
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
	"github.com/assent-tx/assent/examples/bank/pgbank"
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
	flag.StringVar(&cfg.Group, "group", "", "the `group` whose accounts this bank shares with others (default: it has accounts of its own)")
	postgres := flag.String("postgres", "", "the `DSN` of a PostgreSQL database that holds the accounts, instead of -file")
	server := flag.String("server", cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), "the NATS server's `URL`")
	own, shared := make(accounts), make(accounts)
	flag.Func("account", "open an account of a bank of its own, as `name=cents`, unless it exists; may be repeated", own.set)
	flag.Func("open", "open an account of the group, as `name=cents`, unless it exists, and end; may be repeated", shared.set)
	flag.Parse()
	switch {
	case cfg.Group != "" && len(own) > 0:
		return errors.New("-account is for a bank of its own; accounts of a group are opened by -open")
	case cfg.Group == "" && len(shared) > 0:
		return errors.New("-open is for accounts of a group: name it by -group")
	case cfg.Group != "" && *postgres != "":
		return errors.New("-postgres is for a bank of its own: accounts of a group move from file to file")
	case cfg.Group == "" && *postgres == "":
		if err := openAccounts(cfg.File, own); err != nil {
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
	if len(shared) > 0 {
		return openShared(ctx, nc, cfg.Group, shared)
	}
	if *postgres != "" {
		return pgbank.Run(ctx, nc, pgbank.Config{Name: cfg.Name, DSN: *postgres, Log: cfg.Log}, own)
	}
	return bank.Run(ctx, nc, cfg)
}

// accounts are to be opened, each with so many cents.
type accounts map[string]int64

func (a accounts) set(arg string) (err error) {
	name, cents, _ := strings.Cut(arg, "=")
	a[name], err = strconv.ParseInt(cents, 10, 64)
	return err
}

func openAccounts(file string, accounts accounts) error {
	store, err := bank.Open(file, 0)
	if err != nil {
		return err
	}
	for name, cents := range accounts {
		err = errors.Join(err, store.OpenAccounts(cents, name))
	}
	return errors.Join(err, store.Close())
}

// openShared opens accounts at whoever has them, once somebody has.
func openShared(ctx context.Context, nc *nats.Conn, group string, accounts accounts) error {
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
			select { // the group's first bank is about to come
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}
