// SPDX-License-Identifier: Apache-2.0

// The command bank runs one bank of the example:
//
//	go run ./examples/bank/cmd -name bank-a -file bank-a.db -account alice=100000
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

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/examples/bank"
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
	flag.Func("account", "open an account, as `name=cents`, unless it exists; may be repeated", func(arg string) (err error) {
		name, cents, _ := strings.Cut(arg, "=")
		open[name], err = strconv.ParseInt(cents, 10, 64)
		return err
	})
	flag.Parse()
	if err := openAccounts(cfg.File, open); err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	nc, err := nats.Connect(*server, nats.Name(cfg.Name), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	return bank.Run(ctx, nc, cfg)
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
