// SPDX-License-Identifier: Apache-2.0

// Command node is every process of the fault tests: a NATS server, alone or of a cluster, a coordinator, both in one, a participant, or a node of a group. The tests
// build it with -tags faults, so that it can be told by its environment where to die.
//
// It says on standard output, a line each, that it listens and that it is ready; it ends when it is told to by SIGTERM,
// or when its standard input does, so that no process outlives the test.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	accounts "github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/integration/ledger"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/kv"
)

type options struct {
	server embedded.Config
	// cluster is the address for the other servers of a cluster, and routes are theirs.
	cluster, routes string
	coordinator     coordinator.Config
	url, ledger     string
	postgres        string
	batch, noop     bool
	log             *logrus.Logger
}

func main() {
	o := &options{log: logrus.New()}
	o.log.SetLevel(logrus.DebugLevel)
	o.log.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: "15:04:05.000"})
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	flags.StringVar(&o.server.Dir, "dir", "", "data of the server")
	flags.StringVar(&o.server.Listen, "listen", "127.0.0.1:0", "address of the server")
	flags.StringVar(&o.cluster, "cluster", "", "address of the server for the others of its cluster")
	flags.StringVar(&o.routes, "routes", "", "those of all, comma-separated URLs")
	flags.StringVar(&o.url, "url", "", "server to connect to")
	flags.StringVar(&o.coordinator.Name, "name", "", "name of the coordinator or the participant")
	flags.DurationVar(&o.coordinator.History, "history", 0, "how long finished transactions are kept")
	flags.Int64Var(&o.coordinator.HistoryBytes, "history-bytes", 0, "how much of them is kept")
	flags.Int64Var(&o.coordinator.MaxBytes, "max-bytes", 0, "size of a log")
	flags.DurationVar(&o.coordinator.Lease, "lease", 0, "how long a shard may be without a leader")
	flags.IntVar(&o.coordinator.Shards, "shards", 1, "logs")
	flags.StringVar(&o.ledger, "ledger", "", "file of the participant")
	flags.StringVar(&o.postgres, "postgres", "", "DSN of the participant's database, in place of a file")
	flags.BoolVar(&o.batch, "batch", false, "use the batch handler")
	flags.BoolVar(&o.noop, "noop", false, "say yes to everything and keep nothing")
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: node nats|member|coordinator|serve|participant|accounts|kv [flags]")
		os.Exit(2)
	}
	_ = flags.Parse(os.Args[2:]) // ExitOnError

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	err := o.run(ctx, os.Args[1])
	stop()
	if err != nil {
		o.log.WithError(err).Error("ended")
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context, role string) error {
	switch role {
	case "nats":
		return o.serve(func(*embedded.Server) error {
			fmt.Println("ready")
			<-ctx.Done()
			return nil
		})
	case "member":
		return o.member(ctx)
	case "serve":
		return o.serve(func(server *embedded.Server) error {
			nc, err := server.Connect(nats.MaxReconnects(-1))
			if err != nil {
				return err
			}
			defer nc.Close()
			return o.coordinate(ctx, nc)
		})
	case "coordinator", "participant", "accounts", "kv":
		nc, err := o.connect(ctx)
		if err != nil {
			return err
		}
		defer nc.Close()
		switch role {
		case "coordinator":
			return o.coordinate(ctx, nc)
		case "kv":
			return o.buckets(ctx, nc)
		case "accounts":
			return accounts.Run(ctx, nc, accounts.Config{Name: o.coordinator.Name, File: o.ledger, Group: "accounts", Partitions: 256, Log: o.log})
		default:
			return o.takePart(ctx, nc)
		}
	default:
		return fmt.Errorf("unknown role %q", role)
	}
}

// buckets is the participant of key-value buckets. That another instance has taken over is an end in order.
func (o *options) buckets(ctx context.Context, nc *nats.Conn) error {
	p, err := kv.New(nc, kv.Config{Log: o.log})
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-p.Ready():
			fmt.Println("ready")
		case <-ctx.Done():
		}
	}()
	err = p.Run(ctx)
	if errors.Is(err, kv.ErrSuperseded) {
		o.log.WithError(err).Info("superseded")
		return nil
	}
	return err
}

func (o *options) serve(then func(*embedded.Server) error) error {
	o.server.Log = o.log
	server, err := embedded.Start(o.server)
	if err != nil {
		return err
	}
	fmt.Println("listening", server.URL())
	return errors.Join(then(server), server.Close())
}

// connect waits for the server: a process is started when its time comes, not when the server's has.
func (o *options) connect(ctx context.Context) (*nats.Conn, error) {
	for {
		nc, err := nats.Connect(o.url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
			nats.PingInterval(time.Second), nats.MaxPingsOutstanding(5))
		if err == nil {
			return nc, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (o *options) coordinate(ctx context.Context, nc *nats.Conn) error {
	o.coordinator.Log = o.log
	c, err := coordinator.New(nc, o.coordinator)
	if err != nil {
		return err
	}
	go sayReady(ctx, c.Ready())
	return c.Run(ctx)
}

func (o *options) takePart(ctx context.Context, nc *nats.Conn) error {
	cfg := participant.Config{Name: o.coordinator.Name, Log: o.log}
	switch {
	case o.noop:
		cfg.Batch = noop{}
	case o.postgres != "":
		store, end, err := openPostgres(ctx, cfg.Name, o.postgres, o.log)
		if err != nil {
			return err
		}
		defer end()
		cfg.Handler = store
	default:
		store, err := ledger.Open(o.ledger)
		if err != nil {
			return err
		}
		b := &bank{name: cfg.Name, store: store, attempts: make(map[string]int)}
		if o.batch {
			cfg.Batch = batchBank{b}
		} else {
			cfg.Handler = b
		}
	}
	p, err := participant.New(nc, cfg)
	if err != nil {
		return err
	}
	go sayReady(ctx, p.Ready())
	return p.Run(ctx)
}

func sayReady(ctx context.Context, ready <-chan struct{}) {
	select {
	case <-ready:
		fmt.Println("ready")
	case <-ctx.Done():
	}
}
