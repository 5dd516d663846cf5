// SPDX-License-Identifier: Apache-2.0

// Package link is the network between one process and a server, for who injects faults: a TCP proxy that can lose what the server
// says, break, and refuse.
package link

import (
	"net"
	"sync"
)

// Link is one proxy, on loopback. Its own address never changes. It is safe for concurrent use.
type Link struct {
	listener net.Listener
	target   func() string
	pumping  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	deaf  bool // what the server says is lost on the way
	down  bool
}

// New gives a link to an address (host and port) that is asked for with each connection, as the server may come back at another one.
func New(target func() string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{listener: listener, target: target, conns: make(map[net.Conn]struct{})}
	l.pumping.Go(l.accept)
	return l, nil
}

// URL is where the process finds the server, as NATS wants it.
func (l *Link) URL() string { return "nats://" + l.listener.Addr().String() }

// Close ends the link, and its connections.
func (l *Link) Close() {
	_ = l.listener.Close()
	l.GoDown()
	l.pumping.Wait()
}

// GoDeaf loses everything that the server says from now on; the server still hears.
func (l *Link) GoDeaf() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = true
}

// GoDown breaks the connections and refuses new ones.
func (l *Link) GoDown() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.Cut()
}

// Mend makes a whole network of it. A connection that has lost something is of no use any more, and breaks.
func (l *Link) Mend() {
	l.mu.Lock()
	lossy := l.deaf
	l.deaf, l.down = false, false
	l.mu.Unlock()
	if lossy {
		l.Cut()
	}
}

// Cut breaks all connections; new ones work.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target())
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

// add tells whether the two may be connected.
func (l *Link) add(near, far net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return false
	}
	l.conns[near], l.conns[far] = struct{}{}, struct{}{}
	return true
}

// pump brings bytes to one side until either ends.
func (l *Link) pump(to, from net.Conn, replies bool) {
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

func (l *Link) loses() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf
}
