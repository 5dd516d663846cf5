// SPDX-License-Identifier: Apache-2.0

// Command server is the NATS servers of the lock tests: one alone, or one of a cluster, which flushes every write to disk before
// it acknowledges it.
//
// It says on standard output, a line each, where it listens and that it is ready. On standard input it is told, a line
// each, by how much its clock is to be set ("step -1h"), and answers "stepped" and what its clock was and is. It ends when its standard input does, so that no
// process outlives the test.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	options := &server.Options{NoSigs: true, JetStream: true, SyncAlways: true, JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30}
	var routes string
	flag.StringVar(&options.ServerName, "name", "alone", "name of the server")
	flag.StringVar(&options.StoreDir, "dir", "", "data")
	flag.StringVar(&options.Host, "host", "127.0.0.1", "address for clients and for the cluster")
	flag.IntVar(&options.Port, "port", server.RANDOM_PORT, "port for clients")
	flag.IntVar(&options.Cluster.Port, "cluster", 0, "port for the cluster; 0: none")
	flag.StringVar(&routes, "routes", "", "the others of the cluster, comma-separated")
	flag.Parse()
	if options.Cluster.Port != 0 {
		options.Cluster.Name, options.Cluster.Host = "locks", options.Host
		// Nobody learns another's own address: every way between two servers and from a client to one is a proxy of the test.
		options.Cluster.NoAdvertise, options.Cluster.Advertise = true, options.Host+":1"
		options.Routes = server.RoutesFromStr(routes)
	}
	ns, err := server.NewServer(options)
	if err != nil {
		return err
	}
	ns.SetLogger(lines{os.Stderr}, false, false)
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(time.Minute) {
		return errors.New("not ready within a minute")
	}
	fmt.Println("ready")
	return obey()
}

// obey carries out what it is told until standard input ends.
func obey() error {
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		text, ok := strings.CutPrefix(input.Text(), "step ")
		if !ok {
			return fmt.Errorf("what is %q?", input.Text())
		}
		by, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		before := time.Now().Round(0) // without the monotonic clock, which is not set
		step(by)
		after := time.Now().Round(0)
		if moved := after.Sub(before) - by; moved < 0 || moved > time.Minute {
			return fmt.Errorf("the clock went from %v to %v: is this built with the overlay?", before, after)
		}
		fmt.Println("stepped", before.UnixMilli(), after.UnixMilli())
	}
	return nil
}

// lines is the server's log.
type lines struct{ out *os.File }

func (l lines) say(level, format string, v []any) {
	fmt.Fprintf(l.out, time.Now().Format("15:04:05.000")+" "+level+" "+format+"\n", v...)
}

func (l lines) Noticef(format string, v ...any) { l.say("notice", format, v) }
func (l lines) Warnf(format string, v ...any)   { l.say("warning", format, v) }
func (l lines) Errorf(format string, v ...any)  { l.say("error", format, v) }
func (l lines) Debugf(format string, v ...any)  { l.say("debug", format, v) }
func (l lines) Tracef(format string, v ...any)  { l.say("trace", format, v) }
func (l lines) Fatalf(format string, v ...any) {
	l.say("fatal", format, v)
	os.Exit(1)
}
