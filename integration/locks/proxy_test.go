// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// link is the network between one process and a server: a TCP proxy that can fail. The server may come back; the address that the
// process knows never changes.
type link struct {
	listener net.Listener
	target   string
	frames   bool // it reads the protocol of clients, so that it can lose single messages
	pumping  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	// thaw is closed when bytes may pass. A frozen link is a partition: nothing arrives, nothing is refused, and what was sent
	// arrives when it is over, as TCP brings it again.
	thaw chan struct{}
	// rule says what becomes of a frame; nil: it passes.
	rule func(*frame) fate
}

// fate is what becomes of a frame: it comes so often, each after a while.
type fate []time.Duration

var (
	passes = fate{0}
	isLost = fate{}
)

// frame is one message of the NATS protocol between client and server, or a line of control.
type frame struct {
	toServer bool
	verb     string // in capitals: PUB, HPUB, MSG, HMSG, …
	subject  string // of the four
	payload  []byte // of the four, with the headers
	raw      []byte
}

func newLink(t testing.TB, target string, frames bool) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, target: target, frames: frames, conns: make(map[net.Conn]struct{}), thaw: make(chan struct{})}
	close(l.thaw)
	l.pumping.Go(l.accept)
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.pumping.Go(func() { l.connect(near) })
	}
}

// connect brings one connection to the target, when the link is not frozen.
func (l *link) connect(near net.Conn) {
	if !l.add(near) || !l.passable() {
		l.drop(near)
		return
	}
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		l.drop(near)
		return
	}
	if !l.add(far) {
		l.drop(near)
		l.drop(far)
		return
	}
	l.pumping.Go(func() { l.pump(far, near, true) })
	l.pump(near, far, false)
}

func (l *link) add(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return !l.closed
}

func (l *link) drop(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// passable waits until the link is not frozen. It is false when the link is closed.
func (l *link) passable() bool {
	for {
		l.mu.Lock()
		thaw, closed := l.thaw, l.closed
		l.mu.Unlock()
		if closed {
			return false
		}
		select {
		case <-thaw:
			return true
		case <-time.After(50 * time.Millisecond): // it may be closed, or frozen anew
		}
	}
}

// pump brings bytes or frames to one side until either side ends.
func (l *link) pump(to, from net.Conn, toServer bool) {
	defer l.drop(to)
	defer l.drop(from)
	var writing sync.Mutex
	reader := bufio.NewReaderSize(from, 64<<10)
	for {
		f, err := l.read(reader, toServer)
		if err != nil || !l.passable() {
			return
		}
		for _, after := range l.judge(f) {
			if after > 0 {
				time.AfterFunc(after, func() {
					writing.Lock()
					defer writing.Unlock()
					_, _ = to.Write(f.raw)
				})
				continue
			}
			writing.Lock()
			_, err = to.Write(f.raw)
			writing.Unlock()
			if err != nil {
				return
			}
		}
	}
}

func (l *link) judge(f *frame) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rule == nil {
		return passes
	}
	return l.rule(f)
}

// read reads one frame; or what is there, if the link does not look at frames.
func (l *link) read(from *bufio.Reader, toServer bool) (*frame, error) {
	if !l.frames {
		if _, err := from.Peek(1); err != nil {
			return nil, err
		}
		raw := make([]byte, from.Buffered())
		_, err := io.ReadFull(from, raw)
		return &frame{raw: raw, toServer: toServer}, err
	}
	line, err := from.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	f := &frame{toServer: toServer, raw: line}
	fields := strings.Fields(string(line))
	if len(fields) == 0 {
		return f, nil
	}
	f.verb = strings.ToUpper(fields[0])
	switch f.verb {
	case "PUB", "HPUB", "MSG", "HMSG":
		size, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		f.subject = fields[1]
		rest := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(from, rest); err != nil {
			return nil, err
		}
		f.payload = rest[:size]
		f.raw = append(f.raw, rest...)
	}
	return f, nil
}

// freeze stops everything, thawed lets it go on.
func (l *link) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.thaw = make(chan struct{})
}

func (l *link) thawed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.thaw:
	default:
		close(l.thaw)
	}
}

// judgedBy says what becomes of frames from now on.
func (l *link) judgedBy(rule func(*frame) fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule = rule
}

// cut breaks all connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.listener.Close()
	l.cut()
	l.pumping.Wait()
}

// isPubAck tells whether a frame is the answer of a stream that stored something.
func isPubAck(f *frame) bool {
	return !f.toServer && (f.verb == "MSG" || f.verb == "HMSG") && bytes.HasPrefix(f.payload, []byte(`{"stream":`)) && bytes.Contains(f.payload, []byte(`"seq":`))
}

// isCore tells whether a frame is a message from a client to clients: neither JetStream's nor an answer.
func isCore(f *frame) bool {
	if !f.toServer || f.verb != "PUB" && f.verb != "HPUB" {
		return false
	}
	for _, prefix := range []string{"$", "_INBOX."} {
		if strings.HasPrefix(f.subject, prefix) {
			return false
		}
	}
	return true
}
