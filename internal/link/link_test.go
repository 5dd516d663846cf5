// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// echo is a server that says back each line, and notes it.
type echo struct {
	net.Listener
	heard chan string
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{Listener: listener, heard: make(chan string, 16)}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go e.serve(conn)
		}
	}()
	return e
}

func (e *echo) serve(conn net.Conn) {
	defer conn.Close()
	for lines := bufio.NewReader(conn); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
		e.heard <- line
	}
}

// client is one connection through a link.
type client struct {
	net.Conn
	t *testing.T
}

func dial(t *testing.T, l *Link) *client {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{conn, t}
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) want(line string) {
	c.t.Helper()
	if got, err := bufio.NewReader(c).ReadString('\n'); got != line+"\n" || err != nil {
		c.t.Fatalf("heard %q, %v; want %q", got, err, line)
	}
}

// wantEnd waits until the connection breaks.
func (c *client) wantEnd() {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c); n != 0 || errors.Is(err, net.ErrClosed) {
		c.t.Fatalf("heard %d bytes more, %v; want the end", n, err)
	}
}

func newLink(t *testing.T, target func() string) *Link {
	t.Helper()
	l, err := New(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestLink(t *testing.T) {
	e := newEcho(t)
	l := newLink(t, func() string { return e.Addr().String() })
	c := dial(t, l)
	c.say("one")
	c.want("one")

	l.GoDeaf()
	c.say("two")
	_, _ = <-e.heard, <-e.heard
	l.Mend()
	c.wantEnd() // without a word of what was lost

	c = dial(t, l)
	c.say("three")
	c.want("three")
	l.Cut()
	c.wantEnd()

	c = dial(t, l)
	c.say("four")
	c.want("four")
	l.GoDown()
	c.wantEnd()
	dial(t, l).wantEnd()
	l.Mend()
	c = dial(t, l)
	c.say("five")
	c.want("five")
	l.Close()
	c.wantEnd()
}

// A server that comes back somewhere else is found there.
func TestServerMoves(t *testing.T) {
	first, second := newEcho(t), newEcho(t)
	var moved atomic.Bool
	l := newLink(t, func() string {
		if moved.Load() {
			return second.Addr().String()
		}
		return first.Addr().String()
	})
	c := dial(t, l)
	c.say("one")
	c.want("one")
	first.Close()
	moved.Store(true)
	l.Cut()
	c.wantEnd()
	c = dial(t, l)
	c.say("two")
	c.want("two")
	if got := <-second.heard; got != "two\n" {
		t.Errorf("the second server heard %q", got)
	}
}
