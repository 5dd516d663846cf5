// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
)

// natsContext is a context of the nats CLI: what matters to a connection.
type natsContext struct {
	name string

	URL         string `json:"url"`
	Token       string `json:"token"`
	User        string `json:"user"`
	Password    string `json:"password"`
	Creds       string `json:"creds"`
	NKey        string `json:"nkey"`
	UserJWT     string `json:"user_jwt"`
	UserSeed    string `json:"user_seed"`
	Cert        string `json:"cert"`
	Key         string `json:"key"`
	CA          string `json:"ca"`
	TLSFirst    bool   `json:"tls_first"`
	InboxPrefix string `json:"inbox_prefix"`

	// What would change where the connection goes, and is not supported: better refused than ignored.
	NSC         string `json:"nsc"`
	SocksProxy  string `json:"socks_proxy"`
	JSDomain    string `json:"jetstream_domain"`
	JSAPIPrefix string `json:"jetstream_api_prefix"`
}

// contextDir is where the nats CLI keeps its contexts.
func contextDir() (string, error) {
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("--context: %w", err)
		}
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "nats", "context"), nil
}

func readContext(name string) (*natsContext, error) {
	dir, err := contextDir()
	if err != nil {
		return nil, err
	}
	if name != filepath.Base(name) {
		return nil, usagef("--context %q: want a name, not a path", name)
	}
	path := filepath.Join(dir, name+".json")
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usagef("--context %s: there is no %s: %s", name, path, knownContexts(dir))
	case err != nil:
		return nil, usagef("--context %s: %w", name, err)
	}
	c := &natsContext{name: name}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, usagef("--context %s: %s is not what the nats CLI writes: %w", name, path, err)
	}
	return c, nil
}

func knownContexts(dir string) string {
	names := contextNames(dir)
	if len(names) == 0 {
		return "make one with `nats context add`"
	}
	return "known are " + strings.Join(names, ", ")
}

func contextNames(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // none yet
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names
}

// options are the context's. Its credentials are left out when flags give others.
func (c *natsContext) options(otherCredentials bool) ([]nats.Option, error) {
	for field, value := range map[string]string{
		"nsc": c.NSC, "socks_proxy": c.SocksProxy, "jetstream_domain": c.JSDomain, "jetstream_api_prefix": c.JSAPIPrefix,
	} {
		if value != "" {
			return nil, usagef("--context %s: it sets %s, which assent does not support: use another context, or --server and --creds", c.name, field)
		}
	}
	options := c.tls()
	if c.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	if otherCredentials {
		return options, nil
	}
	credentials, err := c.credentials()
	if err != nil {
		return nil, usagef("--context %s: %w", c.name, err)
	}
	return append(options, credentials...), nil
}

func (c *natsContext) tls() (options []nats.Option) {
	if c.Cert != "" || c.Key != "" {
		options = append(options, nats.ClientCert(expandHome(c.Cert), expandHome(c.Key)))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(expandHome(c.CA)))
	}
	if c.TLSFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options
}

// credentials are the first that the context has, in the order in which the nats CLI looks.
func (c *natsContext) credentials() ([]nats.Option, error) {
	switch {
	case c.UserJWT != "" && c.UserSeed != "":
		return []nats.Option{nats.UserJWTAndSeed(c.UserJWT, c.UserSeed)}, nil
	case c.User != "":
		return []nats.Option{nats.UserInfo(c.User, c.Password)}, nil
	case c.Creds != "":
		return []nats.Option{nats.UserCredentials(expandHome(c.Creds))}, nil
	case c.NKey != "":
		option, err := nats.NkeyOptionFromSeed(expandHome(c.NKey))
		if err != nil {
			return nil, fmt.Errorf("nkey: %w", err)
		}
		return []nats.Option{option}, nil
	case c.Token != "":
		return []nats.Option{nats.Token(c.Token)}, nil
	default:
		return nil, nil
	}
}

func expandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || (rest != "" && rest[0] != '/') {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return home + rest
}
