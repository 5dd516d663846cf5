// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
)

// Of three NATS servers the one that leads everything is killed with kill -9 while transactions over key-value buckets and the outbox run.
// A server that is shut down hands its leaderships over; one that is killed says nothing, also not to those connected to it, who are some of
// everybody here: what they had sent may be stored or not. Each transaction is decided, and commits in the end; no money comes or goes; and each
// message of a committed one is there once, and no other.
func TestStoresOnThreeReplicasLoseTheirLeaderToKill(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers of their own share nothing with the test: -short was given")
	}
	t.Parallel()
	const enough = 40
	members, urls := startMembers(t)
	r := startReplicated(t, urls)
	stop := r.transfers(8)
	r.more(enough)
	r.gather("n0")
	r.more(enough / 4)
	members[0].kill(t)
	r.more(enough)
	stop()
	r.check()
	for id, tx := range foldLog(t, r.nc).txs {
		if tx.outcome == assent.Undecided {
			t.Errorf("%s: undecided in the log", id)
		}
	}
}

// startMembers starts three NATS servers, n0, n1 and n2, each a process, and waits until they are a cluster.
func startMembers(t *testing.T) (members []*process, urls string) {
	t.Helper()
	dir := t.TempDir()
	var routes, listening []string
	ports := freePorts(t, 3)
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i, port := range ports {
		name := fmt.Sprint("n", i)
		p, err := launch(name, filepath.Join(dir, name+".log"), nil, "member", "-name", name, "-dir", filepath.Join(dir, name),
			"-cluster", fmt.Sprint("127.0.0.1:", port), "-routes", strings.Join(routes, ","))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.kill(t) })
		members = append(members, p)
	}
	for _, p := range members {
		url, err := p.hear("listening")
		if err != nil {
			t.Fatal(err)
		}
		listening = append(listening, url)
	}
	urls = strings.Join(listening, ",")
	js, err := jetstream.New(connectTo(t, urls))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the three hold a stream together", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "FIRST", Replicas: 3})
		return err
	})
	return members, urls
}
