// SPDX-License-Identifier: Apache-2.0

// Command client is a client of the lock tests: a process with one session at a time. It either runs a seeded random workload and
// writes its history, or (-one) takes one lock and keeps it.
//
// It says on standard output, a line each, what it reached; it ends in order when its standard input says "stop", and at once when
// that ends, so that no process outlives the test.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/integration/locks/history"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/locks/fence"
)

type options struct {
	url, history, resource, one string
	keys, workers               int
	seed                        uint64
	cfg                         locks.Config
}

func main() {
	o := &options{}
	flag.StringVar(&o.url, "url", "", "servers, comma-separated")
	flag.StringVar(&o.cfg.Bucket, "bucket", "", "bucket of the locks")
	flag.IntVar(&o.cfg.Replicas, "replicas", 1, "replicas of the bucket")
	flag.IntVar(&o.cfg.Streams, "streams", 0, "streams of the bucket")
	flag.DurationVar(&o.cfg.TTL, "ttl", time.Second, "TTL of the session")
	flag.StringVar(&o.cfg.Owner, "name", "", "who this is")
	flag.StringVar(&o.resource, "resource", "", "bucket of what the locks protect")
	flag.StringVar(&o.history, "history", "", "file to write the history to")
	flag.StringVar(&o.one, "one", "", "take this key and keep it, instead of the workload")
	flag.IntVar(&o.keys, "keys", 3, "keys of the workload")
	flag.IntVar(&o.workers, "workers", 3, "goroutines of the workload")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of the workload")
	flag.Parse()
	o.cfg.Log = logrus.New()
	o.cfg.Log.SetLevel(logrus.DebugLevel)
	o.cfg.Log.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: "15:04:05.000"})
	if err := o.run(); err != nil {
		o.cfg.Log.WithError(err).Error("ended")
		os.Exit(1)
	}
}

func (o *options) run() error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	nc, err := o.connect(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	if o.one != "" {
		return o.keep(ctx, nc)
	}
	go obey(stop)
	return o.work(ctx, nc)
}

// obey stops when it is told to.
func obey(stop func()) {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		if input.Text() == "stop" {
			stop()
		}
	}
	os.Exit(3)
}

// connect waits for a server: a process is started when its time comes, not when the server's has.
func (o *options) connect(ctx context.Context) (*nats.Conn, error) {
	return again(ctx, func() (*nats.Conn, error) {
		return nats.Connect(o.url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectJitter(0, 0),
			nats.Timeout(time.Second), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), nats.IgnoreDiscoveredServers())
	})
}

// again tries until it succeeds or the context ends.
func again[T any](ctx context.Context, try func() (T, error)) (T, error) {
	for {
		v, err := try()
		if err == nil {
			return v, nil
		}
		select {
		case <-ctx.Done():
			return v, errors.Join(err, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (o *options) open(ctx context.Context, nc *nats.Conn) (*locks.Session, error) {
	return again(ctx, func() (*locks.Session, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return locks.Open(ctx, nc, o.cfg)
	})
}

// work runs the workload until the context ends, and then ends the session in order if it can.
func (o *options) work(ctx context.Context, nc *nats.Conn) error {
	w := &workload{options: o, nc: nc}
	var err error
	if w.history, err = history.Create(o.history); err != nil {
		return err
	}
	w.resource, err = again(ctx, func() (*fence.KV, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return fence.OpenKV(ctx, nc, o.resource)
	})
	if err != nil {
		return err
	}
	if w.session, err = o.open(ctx, nc); err != nil {
		return err
	}
	fmt.Println("ready")
	w.run(ctx)
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := w.session.Close(patience); err != nil {
		o.cfg.Log.WithError(err).Warn("the session did not end in order")
	}
	return w.history.Close()
}

// keep takes one key, and does with it what standard input says.
func (o *options) keep(ctx context.Context, nc *nats.Conn) error {
	session, err := o.open(ctx, nc)
	if err != nil {
		return err
	}
	lock, err := session.Lock(ctx, o.one, locks.OnQueue(func(p locks.Position) { fmt.Println("waits", p.Ahead) }))
	if err != nil {
		return err
	}
	fmt.Println("held", history.Now(), lock.Token())
	go func() {
		<-lock.Done()
		fmt.Println("over", history.Now(), lock.Err())
	}()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		switch command, _, _ := strings.Cut(input.Text(), " "); command {
		case "err":
			fmt.Println("err", history.Now(), lock.Err())
		case "unlock":
			fmt.Println("unlock", lock.Unlock(ctx))
		case "info": // the connection answers
			_, err := js.AccountInfo(ctx)
			fmt.Println("info", err)
		case "stop":
			return session.Close(ctx)
		default:
			return fmt.Errorf("what is %q?", command)
		}
	}
	os.Exit(3)
	return nil
}
