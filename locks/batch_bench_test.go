// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkSeveralKeys compares the two ways to write several keys under the condition that none has changed: one
// compare-and-swap for each, all at once, as LockAll does it; and one atomic batch. docs/locks.md has the figures.
func BenchmarkSeveralKeys(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		nc := servers(b, replicas)
		js, err := jetstream.New(nc)
		if err != nil {
			b.Fatal(err)
		}
		stream, err := js.CreateStream(b.Context(), jetstream.StreamConfig{
			Name: "batch", Subjects: []string{"batch.>"}, Replicas: replicas, MaxMsgsPerSubject: 1, AllowAtomicPublish: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		for _, keys := range []int{2, 8} {
			w := &writer{nc: nc, js: js, stream: stream, revisions: make([]uint64, keys), keys: keys, replicas: replicas}
			b.Run(fmt.Sprintf("R%d/%d-keys/parallel", replicas, keys), func(b *testing.B) { w.run(b, w.parallel) })
			b.Run(fmt.Sprintf("R%d/%d-keys/batch", replicas, keys), func(b *testing.B) { w.run(b, w.batch) })
		}
	}
}

// servers starts one server, or a cluster of three, in this process, syncing always, and connects.
func servers(b testing.TB, n int) *nats.Conn {
	b.Helper()
	ports := make([]int, n)
	routes := ""
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		address, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			b.Fatalf("listening on %v", l.Addr())
		}
		ports[i] = address.Port
		_ = l.Close()
		routes += fmt.Sprintf("nats://127.0.0.1:%d,", ports[i])
	}
	var url string
	for i := range n {
		opts := &server.Options{
			ServerName: "s" + strconv.Itoa(i), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: b.TempDir(), SyncAlways: true,
			NoSigs: true, NoLog: true,
		}
		if n > 1 {
			opts.Cluster = server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]}
			opts.Routes = server.RoutesFromStr(routes[:len(routes)-1])
		}
		srv, err := server.NewServer(opts)
		if err != nil {
			b.Fatal(err)
		}
		go srv.Start()
		b.Cleanup(func() {
			srv.Shutdown()
			srv.WaitForShutdown()
		})
		if !srv.ReadyForConnections(10 * time.Second) {
			b.Fatal("the server does not start")
		}
		url = srv.ClientURL()
	}
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 30*time.Second; { // until there is a leader
		if _, err := js.AccountInfo(b.Context()); err == nil {
			break
		}
	}
	return nc
}

// writer writes some keys, each on its last revision.
type writer struct {
	nc             *nats.Conn
	js             jetstream.JetStream
	stream         jetstream.Stream
	revisions      []uint64
	keys, replicas int
	batches        int
}

func (w *writer) run(b *testing.B, write func(b *testing.B)) {
	for b.Loop() {
		write(b)
	}
}

func (w *writer) subject(i int) string { return fmt.Sprintf("batch.%d.%d", w.keys, i) }

func (w *writer) parallel(b *testing.B) {
	var writing sync.WaitGroup
	for i := range w.revisions {
		writing.Go(func() {
			ack, err := w.js.Publish(b.Context(), w.subject(i), make([]byte, 128), jetstream.WithExpectLastSequencePerSubject(w.revisions[i]))
			if err != nil {
				b.Error(err)
				return
			}
			w.revisions[i] = ack.Sequence
		})
	}
	writing.Wait()
}

func (w *writer) batch(b *testing.B) {
	w.batches++
	id := fmt.Sprintf("%d-%d", w.keys, w.batches)
	for i := range w.revisions {
		msg := &nats.Msg{Subject: w.subject(i), Data: make([]byte, 128), Header: nats.Header{
			"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(i + 1)},
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(w.revisions[i], 10)},
		}}
		if i < len(w.revisions)-1 {
			if err := w.nc.PublishMsg(msg); err != nil {
				b.Fatal(err)
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		reply, err := w.nc.RequestMsg(msg, 5*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		var ack struct {
			Sequence uint64          `json:"seq"`
			Error    json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(reply.Data, &ack); err != nil || ack.Error != nil {
			b.Fatalf("%v: %s", err, reply.Data)
		}
		for k := range w.revisions {
			w.revisions[k] = ack.Sequence - uint64(len(w.revisions)-1-k)
		}
	}
}
