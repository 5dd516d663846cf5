// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// member is one NATS server of a cluster, which flushes every write to disk before it acknowledges it.
func (o *options) member(ctx context.Context) error {
	host, port, err := splitAddress(o.cluster)
	if err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: o.coordinator.Name, Host: host, Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: o.server.Dir, SyncAlways: true,
		Cluster: server.ClusterOpts{Name: "assent", Host: host, Port: port}, Routes: server.RoutesFromStr(o.routes),
	})
	if err != nil {
		return err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		return errors.New("not ready within a minute")
	}
	fmt.Println("listening", s.ClientURL())
	<-ctx.Done()
	return nil
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	return host, port, err
}
