// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys" //nolint:depguard // a key for this test alone
)

// applied is what a context's options make of a connection.
func applied(t *testing.T, text string, otherCredentials bool) (nats.Options, error) {
	t.Helper()
	c := &natsContext{name: "test"}
	if err := json.Unmarshal([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	options, err := c.options(otherCredentials)
	if err != nil {
		return nats.Options{}, err
	}
	o := nats.GetDefaultOptions()
	for _, apply := range options {
		if err := apply(&o); err != nil {
			return o, err
		}
	}
	return o, nil
}

func TestContextCredentials(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"seed", "x.creds"} {
		if err := os.WriteFile(filepath.Join(home, name), seed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, check := range map[string]func(o nats.Options) bool{
		`{}`: func(o nats.Options) bool {
			return o.User == "" && o.Token == "" && o.UserJWT == nil && o.Nkey == "" && !o.TLSHandshakeFirst
		},
		`{"user":"u","password":"p","token":"t"}`: func(o nats.Options) bool { return o.User == "u" && o.Password == "p" && o.Token == "" },
		`{"token":"t"}`:                         func(o nats.Options) bool { return o.Token == "t" },
		`{"creds":"~/x.creds","token":"t"}`:     func(o nats.Options) bool { return o.UserJWT != nil && o.Token == "" },
		`{"nkey":"~/seed"}`:                     func(o nats.Options) bool { return strings.HasPrefix(o.Nkey, "U") },
		`{"user_jwt":"j","user_seed":"s"}`:      func(o nats.Options) bool { return o.UserJWT != nil },
		`{"tls_first":true}`:                    func(o nats.Options) bool { return o.TLSHandshakeFirst },
		`{"inbox_prefix":"_INBOX_mine"}`:        func(o nats.Options) bool { return o.InboxPrefix == "_INBOX_mine" },
		`{"socks_proxy":"","future_field":"x"}`: func(o nats.Options) bool { return o.User == "" },
	} {
		o, err := applied(t, text, false)
		if err != nil || !check(o) {
			t.Errorf("%s: %v: got user %q, token %q, nkey %q", text, err, o.User, o.Token, o.Nkey)
		}
	}
	o, err := applied(t, `{"user":"u","password":"p","inbox_prefix":"_INBOX_mine"}`, true)
	if err != nil || o.User != "" || o.InboxPrefix != "_INBOX_mine" {
		t.Errorf("flags gave credentials, and the context still gives user %q: %v", o.User, err)
	}
}

func TestContextFilesThatAreMissing(t *testing.T) {
	for text, want := range map[string]string{
		`{"cert":"/nowhere/cert.pem","key":"/nowhere/key.pem"}`: "/nowhere/",
		`{"ca":"/nowhere/ca.pem"}`:                              "/nowhere/ca.pem",
		`{"nkey":"/nowhere/seed"}`:                              "/nowhere/seed",
	} {
		o, err := applied(t, text, false)
		if err == nil { // files of TLS are read when it connects
			if o.RootCAsCB != nil {
				_, err = o.RootCAsCB()
			} else if o.TLSCertCB != nil {
				_, err = o.TLSCertCB()
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that names %s", text, err, want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "17": 17, "1KiB": 1 << 10, "64MiB": 64 << 20, "3GiB": 3 << 30, "2TiB": 2 << 40} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want || s.String() != text {
			t.Errorf("%s: got %d, written as %s, %v", text, s, s.String(), err)
		}
	}
	for _, text := range []string{"", "-1", "1GB", "1.5GiB", "GiB", "9223372036854775807KiB", "1 GiB"} {
		s := size(5)
		if err := s.Set(text); err == nil || s != 5 {
			t.Errorf("%q gave %d, %v; want an error", text, s, err)
		}
	}
}

func TestRedact(t *testing.T) {
	for servers, want := range map[string]string{
		"nats://a:1":                      "nats://a:1",
		"nats://me:secret@a:1":            "nats://a:1",
		"nats://secret@a:1,nats://b:2":    "nats://a:1,nats://b:2",
		"nats://a:1, tls://x:secret@b:2":  "nats://a:1,tls://b:2",
		"nats://x:sec%zzret@a:1":          "(a URL that cannot be read)",
		"127.0.0.1:4222":                  "nats://127.0.0.1:4222",
		"me:secret@127.0.0.1:4222":        "nats://127.0.0.1:4222",
		"nats://[::1]:4222,nats://u@h:99": "nats://[::1]:4222,nats://h:99",
	} {
		if got := redact(servers); got != want {
			t.Errorf("redact(%s) = %s, want %s", servers, got, want)
		}
	}
}

func TestPlainLeavesNoControl(t *testing.T) {
	if got, want := plain("a\x1b[31mb\nc\u0085\tü"), "a·[31mb\nc·\tü"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
