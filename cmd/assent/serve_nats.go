// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/embedded"
)

// syncWarning is for an external JetStream. Its fsync policy is a setting of each server's configuration file; the client
// protocol has no question for it.
const syncWarning = `
WARNING: whether %s syncs every write is not known: NATS cannot be asked over the client protocol.
  By default JetStream acknowledges writes up to two minutes before they are on disk. A power loss, or a crash of the
  operating system, can then undo outcomes that clients were told, and break atomicity.
  Set this in the configuration of every NATS server, and restart it:

    jetstream {
      sync_interval: always
    }

  When that is done, start with --assume-sync to say so.

`

// check refuses combinations of flags that make no sense; changed tells which were given.
func (s *serving) check(changed func(string) bool) error {
	for _, f := range []struct {
		name, want string
		zero       bool
	}{ // which a coordinator's Config takes for its default
		{"shards", "1 to 256", s.shards == 0},
		{"history", "more than 0", s.history == 0},
		{"history-bytes", "more than 0", s.historyBytes == 0},
		{"drain", "more than 0", s.drain == 0},
		{"lease", "1s to 1h", s.lease == 0},
	} {
		if f.zero {
			return usagef("--%s 0: want %s", f.name, f.want)
		}
	}
	if s.replicas != 1 && s.replicas != 3 && s.replicas != 5 {
		return usagef("--replicas %d: want 1, 3 or 5", s.replicas)
	}
	if s.external {
		for _, flag := range []string{"data", "listen"} {
			if changed(flag) {
				return usagef("--%s is for the embedded NATS server; with --server, --context or --creds an existing one is used", flag)
			}
		}
		return nil
	}
	switch {
	case s.replicas != 1:
		return usagef("--replicas %d: the embedded NATS server is one server; give --server or --context of a cluster", s.replicas)
	case changed("assume-sync"):
		return usagef("--assume-sync is for an existing NATS server; the embedded one always syncs")
	case s.data == "":
		return usagef("--data is empty: name a directory")
	}
	return checkAddress("--listen", s.listen)
}

// checkAddress checks the address of a flag.
func checkAddress(flag, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("%s %q: want host:port, such as 127.0.0.1:4222: %w", flag, address, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return usagef("%s %q: want a port from 0 to 65535", flag, address)
	}
	return nil
}

// openNATS connects to the NATS server that the flags name, or to one that it starts in the process.
func (s *serving) openNATS() (nc *nats.Conn, closeAll func() error, err error) {
	if s.external {
		return s.joinNATS()
	}
	return s.embedNATS()
}

func (s *serving) joinNATS() (*nats.Conn, func() error, error) {
	nc, err := s.connect(nats.Name("assent coordinator"))
	if err != nil {
		return nil, nil, err
	}
	s.report.URL = redact(nc.ConnectedUrl())
	s.report.Sync = "assumed"
	if !s.assumeSync {
		s.report.Sync = "unknown"
		fmt.Fprintf(s.errOut, syncWarning, s.report.URL)
	}
	return nc, func() error { nc.Close(); return nil }, nil
}

func (s *serving) embedNATS() (*nats.Conn, func() error, error) {
	if err := s.readToken(); err != nil {
		return nil, nil, err
	}
	server, err := embedded.Start(embedded.Config{Dir: s.data, Listen: s.listen, Token: s.Token, Log: s.log})
	if err != nil {
		return nil, nil, s.explainEmbedded(err)
	}
	options := append(connectionLog(s.log), nats.Name("assent coordinator"), nats.MaxReconnects(-1))
	nc, err := server.Connect(options...)
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	s.report.URL, s.report.Embedded, s.report.Sync = server.URL(), true, "always"
	if s.report.Data, err = filepath.Abs(s.data); err != nil {
		s.report.Data = s.data
	}
	return nc, func() error { nc.Close(); return server.Close() }, nil
}

// explainEmbedded puts an error of the embedded server into the words of the flags.
func (s *serving) explainEmbedded(err error) error {
	switch {
	case errors.Is(err, embedded.ErrTokenRequired):
		return usagef("--listen %s: refusing to listen beyond this machine without a token: give --token-file, or listen on 127.0.0.1", s.listen)
	case errors.Is(err, embedded.ErrLocked):
		return &codedError{"locked", fmt.Errorf("--data %s: %w", s.data, err)}
	case errors.Is(err, syscall.EADDRINUSE):
		return &codedError{"port_in_use", fmt.Errorf("--listen %s: %w", s.listen, err)}
	default:
		return err
	}
}
