// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
)

// listenAddr is a parsed Config.Listen. The zero value listens on nothing.
type listenAddr struct {
	on       bool
	loopback bool
	host     string
	port     int // in nats-server's terms: RANDOM_PORT picks a free one
}

func parseListen(listen string) (listenAddr, error) {
	if listen == "" {
		// nats-server would fill in "every interface" for an empty host, also
		// when it does not listen.
		return listenAddr{host: "127.0.0.1"}, nil
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listenAddr{}, fmt.Errorf("embedded: Config.Listen %q is not host:port: %w", listen, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return listenAddr{}, fmt.Errorf("embedded: Config.Listen %q: want a port from 0 to 65535", listen)
	}
	a := listenAddr{on: true, host: host, port: int(n)}
	if a.port == 0 {
		a.port = server.RANDOM_PORT
	}
	switch host {
	case "":
		a.host = "0.0.0.0"
	case "localhost":
		// Not left to the resolver, which may be told otherwise.
		a.host, a.loopback = "127.0.0.1", true
	default:
		// A host name counts as not loopback: what it resolves to may change
		// between this check and the listening.
		ip, err := netip.ParseAddr(host)
		a.loopback = err == nil && ip.IsLoopback()
	}
	return a, nil
}

// clientURL returns the URL at which clients of this machine reach addr.
func clientURL(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "127.0.0.1"
	} else if tcp.Zone != "" {
		host += "%25" + tcp.Zone
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}
