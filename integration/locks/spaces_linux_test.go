// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// spaces is the network as Linux has it: each host has a network namespace of its own, and a cable to a switch. A partition
// plugs cables into another switch: packets are lost, and no proxy in between answers for anybody.
//
// The test process is in a namespace of its own then (see inSpaces), so that nothing of the machine's network is touched, and
// everything is gone with it.
type spaces struct {
	t     testing.TB
	all   []*space
	apart []*space
}

// space is the network namespace of one host: that of one thread, which runs what is asked of it.
type space struct {
	*host
	cable string
	ask   chan func() error
	done  chan error
}

// inSpacesEnv is set in the process that runs in a namespace of its own.
const inSpacesEnv = "LOCKS_NAMESPACE"

func inNamespace() bool { return os.Getenv(inSpacesEnv) != "" }

// inSpaces runs the calling test again, by itself, in a process with network namespaces, if this machine lets us have them.
// Root needs no namespace of users.
func inSpaces(t *testing.T) {
	t.Helper()
	for _, attributes := range []*syscall.SysProcAttr{
		{Cloneflags: syscall.CLONE_NEWNET},
		{
			Cloneflags:  syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		},
	} {
		attributes.Pdeathsig = syscall.SIGKILL
		probe := exec.CommandContext(t.Context(), "ip", "link", "add", "probe", "type", "bridge")
		probe.SysProcAttr = attributes
		if out, err := probe.CombinedOutput(); err != nil {
			t.Logf("no network namespaces with flags %x: %v %s", attributes.Cloneflags, err, out)
			continue
		}
		runtime.LockOSThread() // the child dies with the thread that started it
		defer runtime.UnlockOSThread()
		args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.count=1", fmt.Sprintf("-locks.seed=%d", *seedFlag),
			fmt.Sprintf("-locks.all=%t", *allFlag), fmt.Sprintf("-locks.duration=%v", *duration)}
		again := exec.CommandContext(t.Context(), os.Args[0], args...)
		again.SysProcAttr = attributes
		again.Env = append(programs(), inSpacesEnv+"=1")
		out, err := again.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("in a network namespace: %v\n%s", err, out)
		} else {
			t.Logf("in a network namespace:\n%s", out)
		}
		return
	}
	t.Log("this machine gives us no network namespaces: only the proxies (TestPartition) make partitions here")
}

func newSpaces(t testing.TB) network {
	t.Helper()
	for _, command := range []string{
		"link set lo up",
		"link add joined type bridge", "link set joined up", "addr add 10.77.0.1/24 dev joined",
		"link add apart type bridge", "link set apart up",
	} {
		must(t, ip(command))
	}
	return &spaces{t: t}
}

func ip(command string) error {
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", command, err, out)
	}
	return nil
}

// of makes a host's namespace and gives its address.
func (n *spaces) of(h *host) string {
	s := &space{host: h, cable: fmt.Sprintf("cable%d", len(n.all)), ask: make(chan func() error), done: make(chan error)}
	n.all = append(n.all, s)
	address := fmt.Sprintf("10.77.0.%d", 10+len(n.all))
	thread := make(chan int, 1)
	go s.run(thread)
	must(n.t, ip(fmt.Sprintf("link add %s type veth peer name eth0 netns %d", s.cable, <-thread)))
	must(n.t, errors.Join(ip(fmt.Sprintf("link set %s master joined", s.cable)), ip("link set "+s.cable+" up")))
	must(n.t, s.do(func() error {
		return errors.Join(ip("link set lo up"), ip("addr add "+address+"/24 dev eth0"), ip("link set eth0 up"))
	}))
	return address
}

// run leaves the thread locked: it ends with the goroutine, and nothing else runs in its namespace.
func (s *space) run(thread chan<- int) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		panic(err) // the probe has shown that we may
	}
	thread <- unix.Gettid()
	for f := range s.ask {
		s.done <- f()
	}
}

func (s *space) do(f func() error) error {
	s.ask <- f
	return <-s.done
}

func (n *spaces) find(h *host) *space {
	return n.all[slices.IndexFunc(n.all, func(s *space) bool { return s.host == h })]
}

func (n *spaces) between(_, to *host, port int, _ bool) string {
	return fmt.Sprintf("%s:%d", to.address, port)
}

func (n *spaces) launch(h *host, log string, args []string) (p *process, err error) {
	err = n.find(h).do(func() (err error) {
		p, err = launch(h.name, log, h.binary, args...)
		return err
	})
	return p, err
}

func (n *spaces) part(group ...*host) {
	for _, h := range group {
		s := n.find(h)
		must(n.t, ip("link set "+s.cable+" master apart"))
		n.apart = append(n.apart, s)
	}
}

func (n *spaces) heal() {
	for _, s := range n.apart {
		must(n.t, ip("link set "+s.cable+" master joined"))
	}
	n.apart = nil
}

func (n *spaces) close() {
	for _, s := range n.all {
		close(s.ask)
	}
	_ = errors.Join(ip("link del joined"), ip("link del apart"))
	for _, s := range n.all {
		_ = ip("link del " + s.cable)
	}
}
