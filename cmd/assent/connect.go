// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
)

const defaultServer = "nats://127.0.0.1:4222"

// connectTimeout is how long one server has to accept a connection.
const connectTimeout = 2 * time.Second

// codedError is an error that this command found, with a code for programs.
type codedError struct {
	code string
	err  error
}

func (e *codedError) Error() string     { return e.err.Error() }
func (e *codedError) Unwrap() error     { return e.err }
func (e *codedError) errorCode() string { return e.code }

// connect connects to the NATS server that the flags, the context or the environment name. The connection reconnects for
// ever; the caller closes it. Options are added to those of the flags.
func (g *globals) connect(extra ...nats.Option) (*nats.Conn, error) {
	log, err := g.logger()
	if err != nil {
		return nil, err
	}
	servers, options, err := g.target()
	if err != nil {
		return nil, err
	}
	options = append(options, connectionLog(log)...)
	nc, err := nats.Connect(servers, append(options, extra...)...)
	if err != nil {
		return nil, explainConnect(servers, err)
	}
	return nc, nil
}

// target says where to connect and how. A flag counts more than the context, the context more than the environment's URL.
func (g *globals) target() (servers string, options []nats.Option, err error) {
	options = []nats.Option{nats.Name("assent"), nats.Timeout(connectTimeout), nats.MaxReconnects(-1)}
	servers = g.Server
	if name := orEnv(g.Context, "NATS_CONTEXT"); name != "" {
		c, err := readContext(name)
		if err != nil {
			return "", nil, err
		}
		if servers == "" {
			servers = c.URL
		}
		more, err := c.options(g.Creds != "" || g.TokenFile != "")
		if err != nil {
			return "", nil, err
		}
		options = append(options, more...)
	}
	if servers = orEnv(servers, "NATS_URL"); servers == "" {
		servers = defaultServer
	}
	more, err := g.credentials()
	return servers, append(options, more...), err
}

// credentials are those of the flags, or of the environment when there is no context.
func (g *globals) credentials() ([]nats.Option, error) {
	if err := g.readToken(); err != nil {
		return nil, err
	}
	creds := g.Creds
	if g.Context == "" && g.Token == "" {
		creds = orEnv(creds, "NATS_CREDS")
	}
	switch {
	case creds != "" && g.Token != "":
		return nil, usagef("--creds and --token-file: give one of them")
	case creds != "":
		if _, err := os.Stat(creds); err != nil {
			return nil, usagef("--creds: %w", err)
		}
		return []nats.Option{nats.UserCredentials(creds)}, nil
	case g.Token != "":
		return []nats.Option{nats.Token(g.Token)}, nil
	default:
		return nil, nil
	}
}

// readToken reads --token-file, if given.
func (g *globals) readToken() (err error) {
	if g.TokenFile != "" {
		g.Token, err = readSecret("--token-file", g.TokenFile)
	}
	return err
}

// readSecret reads a file that a flag names, without the white space around.
func readSecret(flag, file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", usagef("%s: %w", flag, err)
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return "", usagef("%s %s is empty: put a secret into it, for example by: openssl rand -hex 32 > %s", flag, file, file)
	}
	return secret, nil
}

func orEnv(value, name string) string {
	if value != "" {
		return value
	}
	return os.Getenv(name)
}

// connectionLog has the connection tell what an operator should know.
func connectionLog(log *logrus.Logger) []nats.Option {
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.WithError(err).Warn("disconnected from NATS")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.WithField("server", redact(nc.ConnectedUrl())).Warn("connected to NATS again")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			entry := log.WithError(err)
			if s != nil {
				entry = entry.WithField("subject", s.Subject)
			}
			entry.Warn("NATS reports an error")
		}),
	}
}

// explainConnect says what to do about a connection that failed.
func explainConnect(servers string, err error) error {
	servers = redact(servers)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return &codedError{"unauthorized", fmt.Errorf("the NATS server at %s refuses the credentials: give --creds, --token-file or --context: %w", servers, err)}
	case errors.As(err, new(*url.Error)): // its text has the URL, or parts of it, and with them a password perhaps
		return &codedError{"no_server", fmt.Errorf("no NATS server at %s: what is special in a user, a password or a host has to be percent-encoded, and a port is a number", servers)}
	case errors.Is(err, nats.ErrTLS), errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		return &codedError{"tls", fmt.Errorf("no TLS connection to the NATS server at %s: give a --context with the ca (and cert and key) that it wants: %w", servers, err)}
	case errors.As(err, new(*fs.PathError)): // of a file that the context names
		return usagef("connecting to NATS at %s: %w", servers, err)
	default:
		return &codedError{"no_server", fmt.Errorf("no NATS server at %s: start one with `assent serve`, or name one with --server: %w", servers, err)}
	}
}

// redact removes user information from URLs.
func redact(servers string) string {
	list := strings.Split(servers, ",")
	for i, server := range list {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") { // nats.go takes that for NATS too
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		if err != nil {
			list[i] = "(a URL that cannot be read)"
			continue
		}
		u.User = nil
		list[i] = u.String()
	}
	return strings.Join(list, ",")
}
