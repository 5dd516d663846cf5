// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/coordinator"
)

// With the permissions of docs/stores.md the participant and its client can do their work, with a lease and without.
func TestPermissions(t *testing.T) {
	w := guarded(t)
	fail := nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { t.Errorf("%s: %v", nc.Opts.User, err) })
	connect := func(user string) *nats.Conn {
		nc, err := nats.Connect(w.url, nats.UserInfo(user, "secret"), nats.CustomInboxPrefix("_INBOX."+user), fail)
		must(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	_, client := w.newClient(connect("kv-client"))
	nc := connect("kv")
	for _, lease := range []time.Duration{0, time.Hour} {
		_, instance := w.participate(nc, Config{Buckets: []string{"stock"}, Lease: lease})
		for range 300 { // so often that it trims its journal
			must(t, client.Txn(w.ctx(), func(tx *Tx) error {
				_, err := number(w.ctx(), tx, "stock", "x")
				if err != nil {
					return err
				}
				return tx.Put("stock", "x", []byte("1"))
			}))
		}
		instance.end()
		must(t, instance.wait())
	}
}

// guarded is a server with those permissions, and a coordinator and a bucket on it.
func guarded(t *testing.T) *world {
	t.Helper()
	data, err := os.ReadFile("../../docs/stores.md")
	must(t, err)
	_, rest, found := strings.Cut(string(data), "<!-- kv-permissions:begin -->\n```text\n")
	block, _, ended := strings.Cut(rest, "```\n<!-- kv-permissions:end -->")
	if !found || !ended {
		t.Fatal("docs/stores.md lacks the permissions")
	}
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}
	must(t, options.ProcessConfigString("authorization {\n"+block+`
		users: [
			{user: admin, password: secret}
			{user: kv, password: secret, permissions: $KV}
			{user: kv-client, password: secret, permissions: $KV_CLIENT}
		]
	}`))
	s, err := server.NewServer(options)
	must(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(testPatience) {
		t.Fatal("the server does not start")
	}
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("admin", "secret"))
	must(t, err)
	t.Cleanup(nc.Close)
	w := &world{fixture: newFixture(t, nc)}
	w.url = s.ClientURL()
	w.bucket(jetstream.KeyValueConfig{Bucket: "stock"})
	c, err := coordinator.New(nc, coordinator.Config{})
	must(t, err)
	run(t, c.Run, c.Ready())
	return w
}
