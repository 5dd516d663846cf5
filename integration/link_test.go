// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net"
	"sync"
	"testing"
)

// link is the network between one process and the server: a TCP proxy that can fail. The server may come back at another
// address; the link's own never changes.
type link struct {
	listener net.Listener
	target   func() string
	pumping  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	// deaf: what the server says is lost on the way. A stream that has lost bytes is of no use any more: mend resets.
	deaf bool
	down bool
}

func newLink(t testing.TB, target func() string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, target: target, conns: make(map[net.Conn]struct{})}
	l.pumping.Go(l.accept)
	return l
}

func (l *link) close() {
	_ = l.listener.Close()
	l.cut()
	l.pumping.Wait()
}

func (l *link) url() string { return "nats://" + l.listener.Addr().String() }

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target())
		if err != nil || !l.add(near, far) {
			_ = near.Close()
			if err == nil {
				_ = far.Close()
			}
			continue
		}
		l.pumping.Go(func() { l.pump(far, near, false) })
		l.pumping.Go(func() { l.pump(near, far, true) })
	}
}

func (l *link) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.conns[c] = struct{}{}
	}
	return !l.down
}

// pump brings bytes to one side until either side ends.
func (l *link) pump(to, from net.Conn, replies bool) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, c := range []net.Conn{to, from} {
			_ = c.Close()
			delete(l.conns, c)
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && (!replies || !l.loses()) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) loses() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf
}

// goDeaf loses everything that the server says from now on; the server still hears.
func (l *link) goDeaf() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = true
}

// goDown breaks the connections and refuses new ones.
func (l *link) goDown() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.cut()
}

// mend makes a whole network of it: connections that have lost something are broken, new ones work.
func (l *link) mend() {
	l.mu.Lock()
	broken := l.deaf
	l.deaf, l.down = false, false
	l.mu.Unlock()
	if broken {
		l.cut()
	}
}

// cut breaks all connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}
