// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

func TestConfigErrorsNameTheField(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "Config.Dir is empty"},
		{Config{Dir: dir, MaxStore: -1}, "Config.MaxStore is -1"},
		{Config{Dir: dir, Name: "my bank"}, `Config.Name "my bank"`},
		{Config{Dir: dir, Token: "s3cret\n"}, "Config.Token contains white space"},
		{Config{Dir: dir, Token: "$2a$11$s3cret"}, "Config.Token looks like a bcrypt hash"},
		{Config{Dir: dir, Listen: "4222"}, `Config.Listen "4222"`},
		{Config{Dir: dir, Listen: "127.0.0.1"}, `Config.Listen "127.0.0.1"`},
		{Config{Dir: dir, Listen: "127.0.0.1:"}, "want a port from 0 to 65535"},
		{Config{Dir: dir, Listen: "127.0.0.1:-1"}, "want a port from 0 to 65535"},
		{Config{Dir: dir, Listen: "127.0.0.1:65536"}, "want a port from 0 to 65535"},
		{Config{Dir: dir, Listen: "127.0.0.1:nats"}, "want a port from 0 to 65535"},
	} {
		_, err := Start(test.cfg)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.cfg, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error shows the token: %v", err)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a configuration that was refused has touched the disk: %v", err)
	}
}

func TestBeyondLoopbackNeedsAToken(t *testing.T) {
	for listen, refused := range map[string]bool{
		"":                      false,
		"127.0.0.1:0":           false,
		"127.9.9.9:4222":        false,
		"localhost:0":           false,
		"[::1]:0":               false,
		"[::ffff:127.0.0.1]:0":  false,
		":0":                    true,
		"0.0.0.0:0":             true,
		"[::]:0":                true,
		"192.0.2.1:4222":        true,
		"[2001:db8::1]:4222":    true,
		"[fe80::1%eth0]:4222":   true,
		"[::ffff:192.0.2.1]:0":  true,
		"bank.example:4222":     true,
		"127.0.0.1.example:0":   true,
		"localhost.example:422": true,
	} {
		_, err := Config{Dir: "data", Listen: listen}.validate()
		if errors.Is(err, ErrTokenRequired) != refused || (err != nil) != refused {
			t.Errorf("%q without a token: got %v", listen, err)
		}
		if _, err := (Config{Dir: "data", Listen: listen, Token: "s3cret"}).validate(); err != nil {
			t.Errorf("%q with a token: got %v", listen, err)
		}
	}
	if _, err := Start(Config{Dir: t.TempDir(), Listen: "0.0.0.0:0"}); !errors.Is(err, ErrTokenRequired) {
		t.Errorf("Start: got %v", err)
	}
}

// Only the client port may ever be open, and nothing may be dialled.
func TestOptionsKeepToTheProcess(t *testing.T) {
	cfg := Config{Dir: "data", Listen: "127.0.0.1:4222"}
	addr, err := cfg.validate()
	must(t, err)
	o := cfg.options("data", addr)
	if o.Host != "127.0.0.1" || o.Port != 4222 || o.DontListen {
		t.Errorf("listens on %s:%d, %v", o.Host, o.Port, o.DontListen)
	}
	for name, port := range map[string]int{
		"http": o.HTTPPort, "https": o.HTTPSPort, "profiling": o.ProfPort, "cluster": o.Cluster.Port,
		"gateway": o.Gateway.Port, "leaf node": o.LeafNode.Port, "websocket": o.Websocket.Port, "mqtt": o.MQTT.Port,
	} {
		if port != 0 {
			t.Errorf("%s listens on %d", name, port)
		}
	}
	if len(o.Routes)+len(o.LeafNode.Remotes)+len(o.Gateway.Gateways) != 0 || o.AccountResolver != nil {
		t.Error("dials out")
	}
	if !o.NoSigs || !o.SyncAlways || o.MaxPayload != server.MAX_PAYLOAD_SIZE || o.MaxPending < server.MAX_PENDING_SIZE {
		t.Errorf("unsafe: %+v", o)
	}
}

func TestClientURL(t *testing.T) {
	for want, addr := range map[string]net.Addr{
		"nats://127.0.0.1:1":        &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1},
		"nats://127.0.0.1:2":        &net.TCPAddr{IP: net.IPv4zero, Port: 2},
		"nats://127.0.0.1:3":        &net.TCPAddr{IP: net.IPv6unspecified, Port: 3},
		"nats://[::1]:4":            &net.TCPAddr{IP: net.IPv6loopback, Port: 4},
		"nats://[fe80::1%25eth0]:5": &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 5},
		"nats://192.0.2.1:6":        &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 6},
		"":                          &net.UnixAddr{},
	} {
		if got := clientURL(addr); got != want {
			t.Errorf("%v: got %q, want %q", addr, got, want)
		}
	}
}
