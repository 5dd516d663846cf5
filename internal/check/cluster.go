// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/children"
	"github.com/assent-tx/assent/internal/link"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant/kv"
)

// cluster is what is checked: the processes, and the links between them and the server.
type cluster struct {
	cfg          *Config
	dir          string
	subjects     messages.Subjects
	family       *children.Family
	nats         *embedded.Server // of several coordinators
	address      string           // of the server; "" of a running cluster
	coordinators []*member
	stores       []*member
	clients      *link.Link // nil with a running cluster
	nc           *nats.Conn
}

// member is a process and its link to the server, nil if it has none that could fail.
type member struct {
	*children.Process
	link *link.Link
}

const (
	// startPatience is how long the processes may take to begin with.
	startPatience = 30 * time.Second
	stopPatience  = 20 * time.Second
	askPatience   = 5 * time.Second
	pollPause     = 20 * time.Millisecond
	// reconnectWait is short: what breaks is on this machine, and back as soon as it can be.
	reconnectWait = 25 * time.Millisecond
)

func newCluster(cfg *Config, dir string, died func(error)) (*cluster, error) {
	c := &cluster{cfg: cfg, dir: dir, subjects: messages.Subjects{Prefix: cfg.Prefix}, family: children.New(cfg.Exe, died)}
	if err := c.cast(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// cast makes all processes and links, and starts none.
func (c *cluster) cast() (err error) {
	if c.cfg.Connect == nil {
		if err = c.castServer(); err != nil {
			return err
		}
		if c.clients, err = link.New(func() string { return c.address }); err != nil {
			return err
		}
	}
	if c.cfg.Workload == KV {
		return nil // its participant is with the coordinators
	}
	for i := range c.cfg.Participants {
		name := c.cfg.participant(i)
		m, err := c.member(name, "check-store", "--name", name, "--file", filepath.Join(c.dir, name+".db"), "--opening", fmt.Sprint(opening))
		if err != nil {
			return err
		}
		c.stores = append(c.stores, m)
	}
	return nil
}

// castServer makes the coordinators, and the server.
func (c *cluster) castServer() (err error) {
	if c.cfg.Coordinators <= 1 {
		if c.address, err = freeAddress(); err != nil {
			return err
		}
		c.coordinators = []*member{{Process: c.family.Process("assent serve", filepath.Join(c.dir, "serve.log"), c.global(c.serve(
			"--listen", c.address, "--data", filepath.Join(c.dir, "serve"))...)...)}}
		return nil
	}
	if c.nats, err = embedded.Start(embedded.Config{Dir: filepath.Join(c.dir, "nats"), Listen: "127.0.0.1:0"}); err != nil {
		return err
	}
	c.address = strings.TrimPrefix(c.nats.URL(), "nats://")
	for i := range c.cfg.Coordinators {
		name := fmt.Sprintf("coordinator-%d", i+1)
		m, err := c.member(name, c.serve("--assume-sync", "--name", name)...)
		if err != nil {
			return err
		}
		c.coordinators = append(c.coordinators, m)
	}
	return nil
}

// serve is the command that runs a coordinator.
func (c *cluster) serve(flags ...string) []string {
	args := append([]string{"serve"}, flags...)
	if c.cfg.Workload == KV {
		args = append(args, "--kv")
	}
	return args
}

// member makes a process that is a client of the server: by a link, or as the running cluster has it.
func (c *cluster) member(name string, args ...string) (*member, error) {
	m := &member{}
	flags := c.cfg.Flags
	if c.cfg.Connect == nil {
		var err error
		if m.link, err = link.New(func() string { return c.address }); err != nil {
			return nil, err
		}
		flags = []string{"--server", m.link.URL()}
	}
	m.Process = c.family.Process(name, filepath.Join(c.dir, name+".log"), c.global(append(args, flags...)...)...)
	return m, nil
}

func (c *cluster) global(args ...string) []string {
	return append(args, "--prefix", c.cfg.Prefix, "--log-level", c.cfg.LogLevel)
}

// freeAddress finds a port on loopback. It has to be known before, for it stays the same across restarts.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// start starts the processes and returns when they take transactions.
func (c *cluster) start(ctx context.Context) error {
	for _, m := range c.coordinators {
		if err := m.Start(); err != nil {
			return err
		}
	}
	var err error
	if c.nc, err = c.connect(nats.Name("assent check"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait/5, reconnectWait/5), nats.ErrorHandler(quietly)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("no coordinator answered, or the stores were not ready in time"))
	defer cancel()
	if err := until(ctx, func() bool { return c.ask(ctx, "info", &coordinator.InfoResponse{}) == nil }); err != nil {
		return err
	}
	for _, m := range c.stores {
		if err := m.Start(); err != nil {
			return err
		}
	}
	wanted := c.wanted()
	return until(ctx, func() bool { return c.takePart(ctx, wanted) == len(wanted) })
}

// quietly hears of what the library would print: that connections break is what is wanted.
func quietly(*nats.Conn, *nats.Subscription, error) {}

func (c *cluster) connect(options ...nats.Option) (*nats.Conn, error) {
	if c.cfg.Connect != nil {
		return c.cfg.Connect(options...)
	}
	return nats.Connect(c.clients.URL(), options...)
}

// wanted are the participants that the load needs.
func (c *cluster) wanted() (names []string) {
	if c.cfg.Workload == KV {
		return []string{kv.DefaultName}
	}
	for _, m := range c.stores {
		names = append(names, m.Name)
	}
	return names
}

// takePart counts the wanted participants of which there is an instance.
func (c *cluster) takePart(ctx context.Context, wanted []string) (n int) {
	var list coordinator.ParticipantsResponse
	if c.ask(ctx, "participants", &list) != nil {
		return 0
	}
	for _, p := range list.Participants {
		if slices.Contains(wanted, p.Name) {
			n += min(p.Instances, 1)
		}
	}
	return n
}

// settlePatience is how long the stores may take to apply what is decided. Longer than a transaction has to be decided.
const settlePatience = timeout + 20*time.Second

// settle waits until none of our stores is in doubt: what is left prepared when they are gone would stay open for ever.
func (c *cluster) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settlePatience, fmt.Errorf("the stores were still in doubt %v after the load had ended", settlePatience))
	defer cancel()
	return until(ctx, func() bool {
		var list coordinator.ParticipantsResponse
		if c.ask(ctx, "participants", &list) != nil {
			return false
		}
		for _, p := range list.Participants {
			if slices.Contains(c.wanted(), p.Name) && c.cfg.Workload != KV && p.InDoubt+p.PendingOutcomes > 0 {
				return false
			}
		}
		return true
	})
}

// until looks until something is so.
func until(ctx context.Context, so func() bool) error {
	ticker := time.NewTicker(pollPause)
	defer ticker.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
	return nil
}

// ask asks the coordinator's API.
func (c *cluster) ask(ctx context.Context, endpoint string, response any) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, c.subjects.API(endpoint), nil)
	if err != nil {
		return err
	}
	if msg.Header.Get(micro.ErrorCodeHeader) != "" {
		return errors.New(msg.Header.Get(micro.ErrorHeader))
	}
	return json.Unmarshal(msg.Data, response)
}

// stop ends all processes in order: the stores first, they want to say good-bye.
func (c *cluster) stop() error {
	var errs []error
	for _, m := range slices.Concat(c.stores, c.coordinators) {
		errs = append(errs, m.Stop(stopPatience))
	}
	return errors.Join(errs...)
}

// close ends what is left, whatever came before.
func (c *cluster) close() {
	if c.nc != nil {
		c.nc.Close()
	}
	for _, m := range slices.Concat(c.stores, c.coordinators) {
		_ = m.Kill() // it has ended, or cannot be ended by anybody
		if m.link != nil {
			m.link.Close()
		}
	}
	if c.clients != nil {
		c.clients.Close()
	}
	c.family.Close()
	if c.nats != nil {
		_ = c.nats.Close() // nobody needs it any more
	}
}
