// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// ErrLocked is wrapped by Start's error when the data directory is in use by
// another server, of this or another process. Start may be retried when that
// server has ended.
var ErrLocked = errors.New("embedded: data directory is locked")

// ErrTokenRequired is wrapped by Start's error when Config.Listen is not a
// loopback address and Config.Token is empty.
var ErrTokenRequired = errors.New("embedded: refusing to listen beyond this machine without a token")

// Server is a running NATS server. Its methods may be called concurrently.
type Server struct {
	nats  *server.Server
	url   string
	token string
	lock  *os.File

	closeOnce sync.Once
	closeErr  error
}

// Start runs a server and returns when it is ready: JetStream is recovered and
// clients can connect. On an error nothing is left running or locked.
//
// Errors name the field or the directory that is at fault. They wrap ErrLocked
// if the data directory is in use, ErrTokenRequired if the configuration is
// unsafe, and the operating system's error, such as syscall.EADDRINUSE, if the
// address cannot be listened on.
func Start(cfg Config) (*Server, error) {
	addr, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	// Absolute, so that a later change of the working directory is harmless.
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("embedded: data directory %s: %w", cfg.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded: data directory %s is not usable: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	ns, err := run(cfg, dir, addr)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s := &Server{nats: ns, token: cfg.Token, lock: lock}
	if addr.on {
		s.url = clientURL(ns.Addr())
	}
	return s, nil
}

// run starts nats-server on a directory that is locked.
func run(cfg Config, dir string, addr listenAddr) (*server.Server, error) {
	ns, err := server.NewServer(cfg.options(dir, addr))
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	log := newNATSLog(cfg.Log)
	ns.SetLogger(log, log.wantsDebug(), false)
	// Start works in this goroutine up to the moment when it accepts clients,
	// so that its return, not a poll, tells that the server is ready.
	ns.Start()
	if err := log.start(); err != nil {
		stop(ns)
		return nil, explain(err, cfg.Listen, dir)
	}
	return ns, nil
}

// explain says what to do about a start that failed.
func explain(err error, listen, dir string) error {
	var network *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && errors.As(err, &network):
		return fmt.Errorf("embedded: cannot listen on %s: the port is in use: stop what uses it, or choose another (0 picks a free one): %w", listen, network)
	case errors.As(err, &network):
		return fmt.Errorf("embedded: cannot listen on %s: %w", listen, network)
	default:
		return fmt.Errorf("embedded: data directory %s is not usable: %w", dir, err)
	}
}

func stop(ns *server.Server) {
	ns.Shutdown()
	ns.WaitForShutdown()
}

// URL returns the address for clients, as "nats://host:port", with the port
// that was picked if Config.Listen said 0. It never contains the token. It is ""
// if the server does not listen.
func (s *Server) URL() string { return s.url }

// Connect connects to the server inside the process, without a socket, whether
// it listens or not. It presents the server's token; opts may set anything
// but the credentials and the server. The caller closes the connection, best
// before the server: like any connection it would otherwise go on trying to
// reconnect for a while. After Close it fails.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := make([]nats.Option, 0, len(opts)+2)
	if s.token != "" {
		all = append(all, nats.Token(s.token))
	}
	all = append(all, opts...)
	all = append(all, nats.InProcessServer(s.nats))
	// The URL names the server in errors and logs; nothing is dialled.
	nc, err := nats.Connect("nats://in-process", all...)
	if err != nil {
		return nil, fmt.Errorf("embedded: connect in process: %w", err)
	}
	return nc, nil
}

// Close disconnects all clients, stops the server, waits until it has ended,
// and then releases the data directory, which can be used again at once. What
// was acknowledged is on disk already, so that Close has nothing to save: a
// process that is killed instead loses nothing, its next start only takes a
// little longer. Calling it again waits for the first call and returns the same.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		stop(s.nats)
		s.closeErr = s.lock.Close()
	})
	return s.closeErr
}
