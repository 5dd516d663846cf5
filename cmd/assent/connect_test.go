// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// Where there is a NATS server that does not let somebody in, or does not let him ask, the error says which it is, and does not
// say that there is none, or that nobody answers.
func TestNotLetIn(t *testing.T) {
	page := httptest.NewTLSServer(nil) // for its certificate
	defer page.Close()
	secret := "s3cret"
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	contexts := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "nats", "context")
	if err := os.MkdirAll(contexts, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(contexts, "lost.json"), []byte(`{"ca":"`+filepath.Join(contexts, "ca.pem")+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	users := []*server.User{
		{Username: "mute", Password: secret, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{">"}}}},
		{Username: "deaf", Password: secret, Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.deaf.>"}}}},
	}
	guarded := natsServer(t, &server.Options{Users: users})
	secure := natsServer(t, &server.Options{TLSConfig: &tls.Config{Certificates: page.TLS.Certificates}})
	for name, c := range map[string]struct {
		url, code string
		says      []string
	}{
		"may not ask":               {"nats://mute:" + secret + "@" + guarded, "unauthorized", []string{"assent.api.participants", "does not allow"}},
		"may not hear the answer":   {"nats://deaf:" + secret + "@" + guarded, "unauthorized", []string{"_INBOX", "does not allow"}},
		"is not known":              {"nats://somebody:" + secret + "@" + guarded, "unauthorized", []string{"refuses the credentials"}},
		"does not trust it":         {"nats://" + secure, "tls", []string{"certificate", "--context"}},
		"wants TLS, which is none":  {"tls://mute:" + secret + "@" + guarded, "tls", []string{"secure connection not available"}},
		"context without its files": {"tls://" + secure, "usage", []string{"ca.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			args, want := []string{"participants", "--json", "--server", c.url}, exitFailure
			if c.code == "usage" {
				args, want = append(args, "--context", "lost"), exitUsage
			}
			code := run(t.Context(), args, nil, &out, &errOut)
			var got struct {
				Error errorReport `json:"error"`
			}
			if err := json.Unmarshal(out.Bytes(), &got); err != nil || code != want || got.Error.Code != c.code {
				t.Errorf("exit code %d, %s, %v; want the code %q", code, &out, err, c.code)
			}
			for _, text := range c.says {
				if !strings.Contains(got.Error.Message, text) {
					t.Errorf("%q does not say %q", got.Error.Message, text)
				}
			}
			if strings.Contains(out.String()+errOut.String(), secret) {
				t.Errorf("the password is told: %s%s", &out, &errOut)
			}
		})
	}
}

// natsServer runs a NATS server without JetStream on a free port, and gives its address.
func natsServer(t *testing.T, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return s.Addr().String()
}
