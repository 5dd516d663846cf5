// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A client works with what the package's documentation says that it must be permitted, and no more.
func TestWhatAClientMustBePermitted(t *testing.T) {
	srv, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{
			{Username: "operator", Password: "o"},
			{Username: "node", Password: "n"},
			{Username: "client", Password: "c", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.MSG.GET.KV_assent-rings", "assent.node.>"}},
				Subscribe: &server.SubjectPermission{Allow: []string{"assent.ring.*", "_INBOX.>"}},
			}},
		},
	})
	must(t, err)
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(testPatience) {
		t.Fatal("the server does not start")
	}
	c := &cluster{t: t}
	refused := make(chan error, 10)
	connect := func(user, password string) *nats.Conn {
		nc, err := nats.Connect(srv.ClientURL(), nats.UserInfo(user, password), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case refused <- err:
			default:
			}
		}))
		must(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	g, err := Open(t.Context(), connect("operator", "o"), Config{})
	must(t, err)
	c.static(g, "g", 1, Settings{Partitions: 8})
	node := connect("node", "n")
	_, err = node.Subscribe("assent.node.g.n1", func(msg *nats.Msg) { _ = msg.Respond([]byte("yes")) })
	must(t, err)
	must(t, node.Flush())
	client, err := NewClient(connect("client", "c"), Config{})
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	route, err := client.Route(ctx, "g", "k")
	must(t, err)
	_, err = client.Request(ctx, "g", "k", nil)
	must(t, err)
	c.change(g, ChangeRequest{Group: "g", Action: ActionWeight, Node: "n1", Weight: 2})
	begun := time.Now()
	must(t, client.After(ctx, "g", route.Incarnation, route.Epoch))
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it heard of the change after %s", took)
	}
	select {
	case err := <-refused:
		t.Fatal(err)
	default:
	}
}
