// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/sirupsen/logrus"
)

// DefaultName is the server's name when Config.Name is empty.
const DefaultName = "assent"

// The limits of the server. They are settings of nats-server that no user of
// this package had a reason to change.
const (
	// maxPayload is nats-server's default, and what the limits of package
	// messages are measured against.
	maxPayload = 1 << 20
	// maxPending is what may wait, in bytes, to be sent to one client before
	// it is disconnected as too slow. Four times nats-server's default: a
	// participant that is paused for a moment must not lose its connection.
	maxPending = 256 << 20
	// maxMemory bounds JetStream's memory storage, in bytes. Logs are on disk;
	// only what is small and short-lived is kept in memory.
	maxMemory = 256 << 20
	// noMaxStore stands for "only the disk limits". It is not derived from
	// the space that is free now, as nats-server would do for 0: a limit that
	// shrinks from one start to the next can refuse a stream that was
	// accepted before.
	noMaxStore = 1 << 60
)

// Config says how to run a Server. Only Dir is required.
type Config struct {
	// Dir is the data directory. It is created (mode 0700) if it does not
	// exist, with its parents. One server at a time may use it. Required.
	Dir string

	// Listen is the TCP address for clients, as "host:port": an IP address or
	// a host name, and a port from 0 to 65535, where 0 picks a free one (see
	// Server.URL). Anything but a loopback address or "localhost" needs a
	// Token. Default "": do not listen at all, clients connect in process
	// (see Server.Connect).
	Listen string

	// Token is the secret that every client has to present (nats.Token), in
	// process too, where Server.Connect does it. It is compared as plain text,
	// and must not contain white space or look like a bcrypt hash. Default
	// "": no authentication, which is refused off loopback.
	Token string

	// Name is the server's name, as clients and the nats CLI see it. It must
	// not contain white space. Default DefaultName.
	Name string

	// MaxStore is the most that all file-based streams together may hold, in
	// bytes. Beyond it JetStream answers a publish with the error 10023,
	// "insufficient resources", and deletes nothing. Must not be negative.
	// Default 0: no limit but the disk's.
	MaxStore int64

	// Log receives what the server has to say: warnings and errors at those
	// levels, its notices at debug, its own debug lines at trace (if that
	// level is on when the server starts). Payloads are never logged. Default
	// nil: nothing is logged.
	Log *logrus.Logger
}

// bcryptHash matches what nats-server takes for the hash of a token instead of
// the token itself.
var bcryptHash = regexp.MustCompile(`^\$2[abxy]\$\d{2}\$`)

// validate checks what can be checked without touching anything, and returns
// the address to listen on.
func (c Config) validate() (listenAddr, error) {
	switch {
	case c.Dir == "":
		return listenAddr{}, errors.New("embedded: Config.Dir is empty: name a data directory")
	case c.MaxStore < 0:
		return listenAddr{}, fmt.Errorf("embedded: Config.MaxStore is %d: want a number of bytes, or 0 for no limit but the disk's", c.MaxStore)
	case strings.ContainsAny(c.Name, " \t\r\n"):
		return listenAddr{}, fmt.Errorf("embedded: Config.Name %q contains white space", c.Name)
	case strings.ContainsAny(c.Token, " \t\r\n"):
		return listenAddr{}, errors.New("embedded: Config.Token contains white space")
	case bcryptHash.MatchString(c.Token):
		return listenAddr{}, errors.New("embedded: Config.Token looks like a bcrypt hash: give the token itself")
	}
	addr, err := parseListen(c.Listen)
	if err != nil {
		return listenAddr{}, err
	}
	if addr.on && !addr.loopback && c.Token == "" {
		return listenAddr{}, fmt.Errorf("%w: Config.Listen is %q: set Config.Token, or listen on 127.0.0.1", ErrTokenRequired, c.Listen)
	}
	return addr, nil
}

// options translates c for nats-server. Everything that could reach out of the
// process (routes, gateways, leaf nodes, monitoring, profiling, resolvers) is
// off because it is left at zero.
func (c Config) options(dir string, addr listenAddr) *server.Options {
	o := &server.Options{
		ServerName:             c.Name,
		DontListen:             !addr.on,
		Host:                   addr.host,
		Port:                   addr.port,
		Authorization:          c.Token,
		NoSigs:                 true,
		NoLog:                  true,
		MaxPayload:             maxPayload,
		MaxPending:             maxPending,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             true,
		JetStreamMaxMemory:     maxMemory,
		JetStreamMaxStore:      c.MaxStore,
		DisableJetStreamBanner: true,
	}
	if o.ServerName == "" {
		o.ServerName = DefaultName
	}
	if o.JetStreamMaxStore == 0 {
		o.JetStreamMaxStore = noMaxStore
	}
	return o
}
