// SPDX-License-Identifier: Apache-2.0

package demo

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
	"github.com/assent-tx/assent/messages"
)

// cluster is the processes and the connection to them.
type cluster struct {
	dir      string
	url      string
	subjects messages.Subjects
	family   *children.Family
	// serves are the coordinators; a single one is the NATS server too.
	serves []*children.Process
	// banks hold the accounts: those of the scene, in order, and later those that it adds.
	banks  []*children.Process
	scene  scene
	nats   *embedded.Server // of several coordinators; it is not to fail
	global []string         // the flags of every process
	nc     *nats.Conn
	lead   *lead
}

// serveName is what people read of the process that is coordinator and NATS server.
const serveName = "assent serve"

func newCluster(cfg *Config, dir string, died context.CancelCauseFunc) (*cluster, error) {
	c := &cluster{
		dir: dir, subjects: messages.Subjects{Prefix: cfg.Prefix}, scene: newScene(cfg),
		global: []string{"--prefix", cfg.Prefix, "--log-level", cfg.LogLevel},
	}
	if cfg.Coordinators > 1 {
		var err error
		if c.nats, err = embedded.Start(embedded.Config{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0"}); err != nil {
			return nil, err
		}
		c.url = c.nats.URL()
	} else {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		c.url = "nats://" + address
	}
	c.family = children.New(cfg.Exe, died)
	for i := range max(cfg.Coordinators, 1) {
		c.serves = append(c.serves, c.coordinator(i))
	}
	return c, c.scene.cast(c)
}

// bank makes the process of one more bank, with flags of its own.
func (c *cluster) bank(name string, flags ...string) *children.Process {
	args := []string{"bank", "--server", c.url, "--name", name, "--file", c.bankFile(name), "--remember", remember.String()}
	p := c.family.Process(name, filepath.Join(c.dir, name+".log"), slices.Concat(args, flags, c.global)...)
	c.banks = append(c.banks, p)
	return p
}

// remember is how long the log and the banks keep what the check wants to know: longer than any demo takes.
const remember = 24 * time.Hour

func (c *cluster) bankFile(name string) string { return filepath.Join(c.dir, name+".db") }

// coordinator is the i-th: one that is a server too if it is the only one.
func (c *cluster) coordinator(i int) *children.Process {
	if c.nats == nil {
		return c.family.Process(serveName, filepath.Join(c.dir, "serve.log"), append([]string{"serve", "--listen", strings.TrimPrefix(c.url, "nats://"),
			"--data", filepath.Join(c.dir, "serve"), "--history", remember.String()}, c.global...)...)
	}
	name := fmt.Sprintf("coordinator-%d", i+1)
	return c.family.Process(name, filepath.Join(c.dir, name+".log"),
		append([]string{"serve", "--server", c.url, "--assume-sync", "--name", name, "--history", remember.String()}, c.global...)...)
}

// describe tells which process is which.
func (c *cluster) describe() string {
	var text strings.Builder
	for _, p := range slices.Concat(c.serves, c.banks) {
		is := " "
		if text.Len() == 0 {
			is = " is process "
		}
		fmt.Fprintf(&text, "%s%s%d, ", p.Name, is, p.Pid())
	}
	return strings.TrimSuffix(text.String(), ", ") + "; data in " + c.dir
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
	for _, p := range c.serves {
		if err := p.Start(); err != nil {
			return err
		}
	}
	var err error
	c.nc, err = nats.Connect(c.url, nats.Name("assent demo"), nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait/5, 0))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.url, err)
	}
	if c.lead, err = followLead(c.nc, c.subjects.Prefix); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("the processes were not ready in time"))
	defer cancel()
	if err := c.until(ctx, func() bool { return c.ask(ctx, "info", nil, &coordinator.InfoResponse{}) == nil }); err != nil {
		return err
	}
	for _, b := range c.banks {
		if err := b.Start(); err != nil {
			return err
		}
	}
	if err := c.until(ctx, func() bool { return c.takePart(ctx) == len(c.banks) }); err != nil {
		return err
	}
	return c.scene.set(ctx, c)
}

// takePart counts the participants of which there is an instance.
func (c *cluster) takePart(ctx context.Context) (n int) {
	var list coordinator.ParticipantsResponse
	if c.ask(ctx, "participants", nil, &list) != nil {
		return 0
	}
	for _, p := range list.Participants {
		n += min(p.Instances, 1)
	}
	return n
}

const (
	// startPatience is how long the processes may take to begin with.
	startPatience = 30 * time.Second
	// reconnectWait is short: the server is on this machine, and back as soon as it can be.
	reconnectWait = 25 * time.Millisecond
	// pollPause is between two looks at what has to become so.
	pollPause = 20 * time.Millisecond
)

// until looks until something is so.
func (c *cluster) until(ctx context.Context, so func() bool) error {
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
func (c *cluster) ask(ctx context.Context, endpoint string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, c.subjects.API(endpoint), body)
	if err != nil {
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	if msg.Header.Get(micro.ErrorCodeHeader) != "" {
		return fmt.Errorf("%s: the coordinator reports: %s", endpoint, msg.Header.Get(micro.ErrorHeader))
	}
	return json.Unmarshal(msg.Data, response)
}

const askPatience = 10 * time.Second

// stop ends all processes in order: the banks first, they want to say good-bye.
func (c *cluster) stop() error {
	var errs []error
	for _, p := range slices.Concat(c.banks, c.serves) {
		errs = append(errs, p.Stop(stopPatience))
	}
	return errors.Join(errs...)
}

const stopPatience = 20 * time.Second

// killAll ends what is left, whatever came before.
func (c *cluster) killAll() {
	c.scene.close()
	if c.nc != nil {
		c.nc.Close()
	}
	for _, p := range slices.Concat(c.banks, c.serves) {
		_ = p.Kill() // it has ended, or cannot be ended by anybody
	}
	c.family.Close()
	if c.nats != nil {
		_ = c.nats.Close() // nobody needs it any more
	}
}
