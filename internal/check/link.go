// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net"
	"sync"
)

// link is the network between one process and the server: a TCP proxy that can fail.
type link struct {
	listener net.Listener
	target   string
	pumping  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	deaf   bool // what the server says is lost
	closed bool
}

func newLink(target string) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{listener: listener, target: target, conns: make(map[net.Conn]struct{})}
	l.pumping.Go(l.accept)
	return l, nil
}

func (l *link) url() string { return "nats://" + l.listener.Addr().String() }

func (l *link) close() {
	_ = l.listener.Close()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cut()
	l.pumping.Wait()
}

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target)
		if err != nil {
			_ = near.Close() // the server is away; it is tried again
			continue
		}
		if !l.add(near, far) {
			_, _ = near.Close(), far.Close()
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
	return !l.closed
}

// pump brings bytes to one side until either ends.
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

// lose has what the server says lost, or no more: a connection that has lost something is of no use, and breaks then.
func (l *link) lose(deaf bool) {
	l.mu.Lock()
	l.deaf = deaf
	l.mu.Unlock()
	if !deaf {
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
