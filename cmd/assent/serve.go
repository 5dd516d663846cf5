// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/participant/kv"
)

// serveOptions are the flags of `assent serve`.
type serveOptions struct {
	data       string
	listen     string
	assumeSync bool

	shards       int
	replicas     int
	history      time.Duration
	historyBytes size
	maxBytes     size
	drain        time.Duration
	name         string
	lease        time.Duration

	kv kvOptions

	http          string
	httpTokenFile string
}

// serveReport is the JSON object of `assent serve`, printed when it is ready.
type serveReport struct {
	// URL is where clients and participants connect to NATS.
	URL string `json:"url"`
	// Embedded: the NATS server runs in this process. Data is its directory, as an absolute path; "" otherwise.
	Embedded bool   `json:"embedded"`
	Data     string `json:"data"`
	// Sync is "always", "assumed" (--assume-sync) or "unknown": whether a write is on disk before it is acknowledged.
	Sync     string `json:"sync"`
	Prefix   string `json:"prefix"`
	Shards   int    `json:"shards"`
	Replicas int    `json:"replicas"`
	// HTTP is the base URL of /healthz, /readyz and /metrics; "" when it is off.
	HTTP string `json:"http"`
	// KV is the name of the participant of key-value buckets that runs here; left out without --kv.
	KV  string `json:"kv,omitempty"`
	PID int    `json:"pid"`
}

func newServeCommand(g *globals) *cobra.Command {
	o := &serveOptions{historyBytes: 1 << 30}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a coordinator, with a NATS server in the process or on an existing one",
		Long: `Run a coordinator. By default a NATS server runs in the process, with its data in --data, every write synced before it is
acknowledged, listening on 127.0.0.1:4222. With --server, --context or --creds the coordinator joins an existing NATS instead, whose
JetStream should run with "sync_interval: always"; the environment alone ($NATS_URL and so on) does not choose that.

To listen beyond this machine give --token-file: clients, participants and the other commands then present the token.

Several coordinators on one NATS, with the same --prefix and --shards, share the shards: each leads its part, by leases, and stands by
for the rest. When one dies, the others lead its shards within --lease and a second. Give each a --name of its own, and the same one
again after a restart: then it need not wait for leases that it held itself.

SIGTERM or SIGINT hands over to another coordinator, if there is one, without clients noticing. If not, it drains: no more submissions
are taken, open transactions get --drain to be decided. What is not decided then is taken up by the next start. The exit code is 0. A
second signal ends at once, which loses nothing either.

With --kv the participant of transactions over JetStream's key-value buckets runs in the process as well (package participant/kv; see
docs/stores.md). Of several coordinators with --kv one does that work and the others stand by. Whoever may submit transactions reads and
writes buckets by it, with this process's permissions: --kv-buckets says which.

With --http there are /healthz (200 while the process lives), /readyz (200 while it can do its work, leading or standing by, and which
of the two; 503 with the reason when it cannot) and /metrics for Prometheus.`,
		Example: `  assent serve
  assent serve --data /var/lib/assent --listen 0.0.0.0:4222 --token-file /etc/assent/token --http 127.0.0.1:8222
  assent serve --context production --replicas 3 --shards 4
  assent serve --kv --kv-buckets accounts,stock
  assent serve --server nats://db1:4222 --name coordinator-1 &
  assent serve --server nats://db1:4222 --name coordinator-2 &`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := &serving{globals: g, serveOptions: o, external: g.Server != "" || g.Context != "" || g.Creds != ""}
			if err := s.check(cmd.Flags().Changed); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	o.addFlags(cmd)
	return cmd
}

func (o *serveOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.data, "data", "assent-data", "`directory` of the embedded server's data, made if it is not there")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:4222", "`address` on which the embedded server listens; port 0 picks a free one")
	flags.BoolVar(&o.assumeSync, "assume-sync", false, "an existing NATS server is known to run with sync_interval: always; do not warn")
	flags.IntVar(&o.shards, "shards", 1, "how many logs, 1 to 256; fixed at the first start")
	flags.IntVar(&o.replicas, "replicas", 1, "how many servers of an existing NATS hold each log: 1, 3 or 5")
	flags.DurationVar(&o.history, "history", time.Hour, "how long finished transactions are kept for tx show and tx list --history")
	flags.Var(&o.historyBytes, "history-bytes", "how much of a shard's log is kept for the same, as 64MiB or 1GiB")
	flags.Var(&o.maxBytes, "max-bytes", "size of a shard's log at which new transactions are refused; 0: only the disk bounds it")
	flags.DurationVar(&o.drain, "drain", 5*time.Second, "how long open transactions have to be decided when it is told to end")
	flags.StringVar(&o.name, "name", "", "what this coordinator is called, and its leases; each needs a name of its own (default one made of the host's name and --data, or with an existing NATS a random one)")
	flags.DurationVar(&o.lease, "lease", 3*time.Second, "how long a shard may be without a leader, and a second more, when its leader dies; 1s to 1h")
	flags.BoolVar(&o.kv.on, "kv", false, "run the participant of transactions over key-value buckets, too")
	flags.StringVar(&o.kv.name, "kv-name", kv.DefaultName, "what that participant is called")
	flags.StringSliceVar(&o.kv.buckets, "kv-buckets", nil, "the `buckets` that it may use, separated by commas (default all but Assent's own)")
	flags.StringVar(&o.http, "http", "", "`address` of /healthz, /readyz and /metrics; off by default")
	flags.StringVar(&o.httpTokenFile, "http-token-file", "", "`file` with the bearer token that /metrics asks for; needed for --http beyond this machine")
}

// serving is one run of `assent serve`.
type serving struct {
	*globals
	*serveOptions
	external bool
	log      *logrus.Logger
	registry *prometheus.Registry
	report   serveReport
}

// run serves until ctx ends.
func (s *serving) run(ctx context.Context) (err error) {
	if s.log, err = s.logger(); err != nil {
		return err
	}
	s.registry = prometheus.NewRegistry()
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.report = serveReport{Prefix: s.Prefix, Shards: s.shards, Replicas: s.replicas, PID: os.Getpid()}
	page, err := s.openHTTP()
	if err != nil {
		return err
	}
	defer page.close(ctx)
	nc, closeNATS, err := s.openNATS()
	if err != nil {
		return err
	}
	err = s.coordinate(ctx, nc, page)
	return errors.Join(err, closeNATS())
}

// coordinate runs the coordinator. Once it is ready its one object of output is written, and a later error is told on
// standard error.
func (s *serving) coordinate(ctx context.Context, nc *nats.Conn, page *httpPage) error {
	c, err := coordinator.New(nc, coordinator.Config{
		Prefix: s.Prefix, Shards: s.shards, Replicas: s.replicas, History: s.history, HistoryBytes: int64(s.historyBytes),
		MaxBytes: int64(s.maxBytes), DrainTimeout: s.drain, Name: s.coordinatorName(), Lease: s.lease, Log: s.log, Registerer: s.registry,
	})
	if err != nil {
		return usageError(err)
	}
	buckets, err := s.openKV(nc)
	if err != nil {
		return err
	}
	page.watch(c)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	select {
	case err := <-ended:
		return s.explain(err)
	case <-c.Ready():
	}
	buckets.start(ctx)
	defer buckets.stop()
	if err := s.announce(); err != nil {
		s.log.WithError(err).Warn("standard output")
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		s.log.WithField("at_most", s.drain).Info("draining: handing over, or deciding what is open; a second signal ends at once")
		err = <-ended
	}
	if err != nil {
		s.log.WithError(s.explain(err)).Error("the coordinator cannot go on")
		return &exitError{exitFailure, nil}
	}
	s.log.Info("drained")
	return nil
}

// coordinatorName is the same one again after a restart where that can be known: a data directory has one server.
func (s *serving) coordinatorName() string {
	if s.name != "" || s.external {
		return s.name
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return bounded(host+"-"+filepath.Base(s.report.Data), maxCoordinatorName)
}

// maxCoordinatorName is coordinator.Config's bound of a name, in bytes. Names of hosts and directories alone have up to 64 and 255.
const maxCoordinatorName = 64

// bounded is a name as it is, if it is UTF-8 and not too long, and else one that is as different from others.
func bounded(name string, limit int) string {
	if len(name) <= limit && utf8.ValidString(name) {
		return name
	}
	hash := sha256.Sum256([]byte(name))
	plain := strings.ToValidUTF8(name, "")
	end := min(len(plain), limit-1-2*4)
	for !utf8.ValidString(plain[:end]) {
		end--
	}
	return plain[:end] + "-" + hex.EncodeToString(hash[:4])
}

// explain says what to do about a coordinator that cannot run.
func (s *serving) explain(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return &codedError{"no_jetstream", fmt.Errorf(
			"JetStream does not answer at %s: enable it in the server's configuration (jetstream { store_dir: …, sync_interval: always }), and for the account: %w",
			s.report.URL, err)}
	case errors.Is(err, coordinator.ErrStreamSettings), errors.Is(err, locks.ErrSettings):
		return &codedError{"stream_settings", err}
	case errors.Is(err, coordinator.ErrLogLost):
		return &codedError{"log_lost", err}
	default:
		return err
	}
}

// announce says what runs where, and how to connect.
func (s *serving) announce() error {
	if s.JSON {
		return s.printJSON(&s.report)
	}
	r := &s.report
	fmt.Fprintln(s.out, "assent is ready")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(s.out, "  %-12s%s\n", name, fmt.Sprintf(format, args...))
	}
	if r.Embedded {
		line("NATS", "%s (in this process; every write is synced before it is acknowledged)", r.URL)
		line("data", "%s", r.Data)
	} else {
		line("NATS", "%s (sync always: %s)", r.URL, r.Sync)
		line("data", "in its JetStream, %s of each log", count(r.Replicas, "replica"))
	}
	line("log", "%s, prefix %s, history %v", count(r.Shards, "shard"), r.Prefix, s.history)
	if r.KV != "" {
		line("buckets", "transactions over them by participant %s", r.KV)
	}
	if r.HTTP != "" {
		line("HTTP", "%s/metrics, /healthz, /readyz", r.HTTP)
	}
	line("connect", "nats.Connect(%q)%s", r.URL, s.withToken())
	line("look", "assent tx list --server %s%s", r.URL, s.sameFlags())
	return nil
}

func (s *serving) withToken() string {
	if s.Token != "" {
		return ", with the token of " + s.TokenFile
	}
	return ""
}

// sameFlags are those that other commands need to reach this coordinator.
func (s *serving) sameFlags() string {
	flags := ""
	for _, f := range []struct{ name, value string }{
		{"context", s.Context}, {"creds", s.Creds}, {"token-file", s.TokenFile},
	} {
		if f.value != "" {
			flags += " --" + f.name + " " + f.value
		}
	}
	if s.Prefix != "assent" {
		flags += " --prefix " + s.Prefix
	}
	return flags
}
