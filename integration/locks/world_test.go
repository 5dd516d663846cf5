// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

const (
	bucket   = "faults"
	resource = "resource" // the bucket of what the locks protect
	keys     = 3          // of the workload: key0, key1, …
	longKey  = "long"     // and one that somebody holds for longer than the TTL, at any time
	// ttl is the sessions'. The least there is, so that much expires.
	ttl = time.Second
)

// world is a scenario: servers, clients, and the network between them.
type world struct {
	t        testing.TB
	dir      string
	seed     uint64
	rand     *rand.Rand // of the test's own goroutine
	replicas int
	servers  []*host
	clients  []*host
	network  network
	nc       *nats.Conn // of the test, past the network
	launched int        // clients, for their seeds and histories
}

// host is one process after another, at one place in the network.
type host struct {
	w       *world
	name    string
	address string
	port    int // for clients; of a server
	binary  string
	args    []string
	all     []*process
}

// network is what is between hosts.
type network interface {
	// between gives the address at which from finds a port of to.
	between(from, to *host, port int, frames bool) string
	launch(h *host, log string, args []string) (*process, error)
	// part keeps everything between the hosts and the rest from arriving.
	part(group ...*host)
	// heal undoes part.
	heal()
	close()
}

// newWorld starts servers, one or several that replicate everything, in a network of proxies.
func newWorld(t testing.TB, replicas int) *world {
	t.Helper()
	return newWorldIn(t, replicas, &proxies{t: t})
}

func newWorldIn(t testing.TB, replicas int, n network) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), seed: *seedFlag, replicas: replicas, network: n}
	if w.seed == 0 {
		w.seed = rand.Uint64()
	}
	w.rand = rand.New(rand.NewPCG(w.seed, 0))
	t.Cleanup(w.end)
	w.startServers()
	w.connect()
	w.create()
	return w
}

func (w *world) startServers() {
	w.t.Helper()
	cluster := make([]int, w.replicas)
	for i := range w.replicas {
		h := &host{w: w, name: fmt.Sprintf("n%d", i), binary: serverBinary}
		w.servers = append(w.servers, h)
		h.address = "127.0.0.1"
		if n, ok := w.network.(addresses); ok {
			h.address = n.of(h)
		} else if runtime.GOOS == "linux" {
			// An address that no outgoing connection of another test takes a port of.
			h.address = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(256), 1+i)
		}
		h.port, cluster[i] = freePort(w.t, h.address), freePort(w.t, h.address)
	}
	for i, h := range w.servers {
		h.args = []string{"-name", h.name, "-host", h.address, "-port", fmt.Sprint(h.port), "-dir", filepath.Join(w.dir, h.name)}
		if w.replicas == 1 {
			break
		}
		var routes []string
		for j, other := range w.servers {
			if j != i {
				routes = append(routes, "nats://"+w.network.between(h, other, cluster[j], false))
			}
		}
		h.args = append(h.args, "-cluster", fmt.Sprint(cluster[i]), "-routes", strings.Join(routes, ","))
	}
	for _, h := range w.servers {
		h.start()
	}
	for _, h := range w.servers {
		h.proc().hear(w.t, "ready")
	}
}

// addresses is a network that says which address a host has.
type addresses interface{ of(h *host) string }

// freePort is one that nobody listens at. An address that is not here yet has all of them.
func freePort(t testing.TB, address string) int {
	t.Helper()
	listener, err := net.Listen("tcp", address+":0")
	if err != nil {
		return 20_000 + rand.IntN(10_000)
	}
	defer listener.Close()
	port, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%v is no TCP address", listener.Addr())
	}
	return port.Port
}

// connect is the test's own way to the servers.
func (w *world) connect() {
	w.t.Helper()
	var urls []string
	for _, h := range w.servers {
		urls = append(urls, fmt.Sprintf("nats://%s:%d", h.address, h.port))
	}
	var err error
	w.nc, err = nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.Timeout(2*time.Second), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2),
		nats.IgnoreDiscoveredServers())
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) js() jetstream.JetStream {
	w.t.Helper()
	js, err := jetstream.New(w.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}

// create creates the buckets. A cluster may take its time to form.
func (w *world) create() {
	w.t.Helper()
	w.eventually("the servers have a leader", func(context.Context) error {
		_, err := w.nc.Request("$JS.API.INFO", nil, 200*time.Millisecond)
		return err
	})
	w.eventually("the buckets are there", func(ctx context.Context) error {
		_, err := w.js().CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: resource, Replicas: w.replicas, Storage: jetstream.FileStorage})
		if err != nil {
			return err
		}
		s, err := locks.Open(ctx, w.nc, w.config())
		if err != nil {
			return err
		}
		return s.Close(ctx)
	})
}

func (w *world) config() locks.Config {
	return locks.Config{Bucket: bucket, Streams: 2, Replicas: w.replicas, TTL: ttl, Owner: "test"}
}

// add starts clients that run the workload, and waits until they are ready.
func (w *world) add(n int) {
	w.t.Helper()
	first := len(w.clients)
	for range n {
		h := w.host(fmt.Sprintf("c%d", len(w.clients)))
		h.begin()
	}
	for _, h := range w.clients[first:] {
		h.proc().hear(w.t, "ready")
	}
}

// through opens a session of the test's own process whose connection goes through links, one for each server.
func (w *world) through(name string) (*locks.Session, []*link) { return w.throughFor(name, calmTTL) }

// throughFor is through with a TTL.
func (w *world) throughFor(name string, ttl time.Duration) (*locks.Session, []*link) {
	w.t.Helper()
	nc, links := w.behind(name)
	cfg := w.config()
	cfg.Owner, cfg.TTL = name, ttl
	var s *locks.Session
	w.eventually("a session", func(ctx context.Context) (err error) { // a stream that is new may have no leader yet
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		s, err = locks.Open(ctx, nc, cfg)
		return err
	})
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // it may be lost
	})
	return s, links
}

func (w *world) behind(name string) (*nats.Conn, []*link) {
	w.t.Helper()
	h := &host{w: w, name: name}
	var urls []string
	var links []*link
	for _, server := range w.servers {
		urls = append(urls, "nats://"+w.network.between(h, server, server.port, true))
		ties := w.network.(*proxies).ties //nolint:errcheck // newWorld makes proxies
		links = append(links, ties[len(ties)-1].link)
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.IgnoreDiscoveredServers())
	must(w.t, err)
	w.t.Cleanup(nc.Close)
	return nc, links
}

// judgedBy sets the rule of several links.
func judgedBy(links []*link, rule func(*frame) fate) {
	for _, l := range links {
		l.judgedBy(rule)
	}
}

// host adds a client's place in the network.
func (w *world) host(name string) *host {
	h := &host{w: w, name: name, binary: clientBinary}
	if n, ok := w.network.(addresses); ok {
		h.address = n.of(h)
	}
	var urls []string
	for _, s := range w.servers {
		urls = append(urls, "nats://"+w.network.between(h, s, s.port, true))
	}
	h.args = []string{"-url", strings.Join(urls, ","), "-bucket", bucket, "-replicas", fmt.Sprint(w.replicas), "-streams", "2", "-name", name}
	w.clients = append(w.clients, h)
	return h
}

// begin starts a client's workload, with a seed and a history of its own.
func (h *host) begin() {
	h.w.t.Helper()
	h.w.launched++
	h.start("-ttl", ttl.String(), "-keys", fmt.Sprint(keys), "-resource", resource, "-seed", fmt.Sprint(h.w.seed+uint64(h.w.launched)),
		"-history", filepath.Join(h.w.dir, fmt.Sprintf("%s-%d.history", h.name, h.w.launched)))
}

// proc is the host's newest process.
func (h *host) proc() *process { return h.all[len(h.all)-1] }

func (h *host) log() string { return filepath.Join(h.w.dir, h.name+".log") }

func (h *host) start(args ...string) {
	h.w.t.Helper()
	p, err := h.w.network.launch(h, h.log(), append(slices.Clone(h.args), args...))
	if err != nil {
		h.w.t.Fatal(err)
	}
	h.all = append(h.all, p)
}

// held is how many locks the clients have got up to now.
func (w *world) held() (n int) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "*.history"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		n += bytes.Count(data, []byte(`"result":"held"`))
	}
	return n
}

// more waits until the clients have got n more locks.
func (w *world) more(n int) {
	w.t.Helper()
	want := w.held() + n
	w.eventually(fmt.Sprintf("%d locks more", n), func(context.Context) error {
		if held := w.held(); held < want {
			return fmt.Errorf("they are at %d of %d", held, want)
		}
		return nil
	})
}

// outlast waits longer than a session that shows no sign of life.
func (w *world) outlast() { <-time.After(ttl + ttl*3/4) }

// eventually polls until try has no error.
func (w *world) eventually(what string, try func(context.Context) error) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		err := try(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
	}
}

// finish ends all clients in order, and checks what they did.
func (w *world) finish() {
	w.t.Helper()
	w.network.heal()
	w.stopAll()
	w.everyKeyIsFree()
	s, err := read(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	began := time.Now()
	if err := s.check(w.dir); err != nil {
		w.t.Error(err)
	}
	w.t.Logf("seed %d; checked in %v: %v", w.seed, time.Since(began).Round(time.Millisecond), s.counts())
}

// everyKeyIsFree: whoever was killed holds nothing for long, and what was unknown has settled.
func (w *world) everyKeyIsFree() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cfg := w.config()
	cfg.TTL = 10 * ttl // three replicas may be without a leader yet
	session, err := locks.Open(ctx, w.nc, cfg)
	must(w.t, err)
	for _, key := range []string{"key0", "key1", "key2", longKey} {
		lock, err := session.Lock(ctx, key, locks.Wait(20*ttl))
		if err == nil {
			err = lock.Unlock(ctx)
		}
		if err != nil {
			w.t.Errorf("%s is stuck: %v", key, err)
		}
	}
	if err := session.Close(ctx); err != nil {
		w.t.Error(err)
	}
}

// end stops what runs yet. It keeps everything when the test failed.
func (w *world) end() {
	w.network.heal()
	for _, h := range w.clients {
		if len(h.all) > 0 && h.proc().running() { // the test did not finish
			h.proc().kill(w.t)
		}
	}
	if w.nc != nil {
		w.nc.Close()
	}
	for _, h := range w.servers {
		if len(h.all) > 0 {
			h.proc().stop(w.t, "")
		}
	}
	w.network.close()
	for _, h := range slices.Concat(w.clients, w.servers) {
		data, err := os.ReadFile(h.log())
		if err == nil && (bytes.Contains(data, []byte("WARNING: DATA RACE")) || bytes.Contains(data, []byte("\ngoroutine "))) {
			w.t.Errorf("%s: a data race or a panic", h.name)
		}
	}
	if w.t.Failed() {
		w.keep()
	}
}

// keep saves the scenario's directory, and shows where and how it can be had again.
func (w *world) keep() {
	kept, err := os.MkdirTemp("", "assent-failed-") // it has to outlive the test
	if err == nil {
		err = os.CopyFS(kept, os.DirFS(w.dir))
	}
	w.t.Logf("seed %d; histories, pictures, logs and data are kept in %s (%v)", w.seed, kept, err)
}

// leader is the server that leads a stream.
func (w *world) leader(stream string) *host {
	w.t.Helper()
	var found *host
	w.eventually("a leader of "+stream, func(ctx context.Context) error {
		info, err := w.js().Stream(ctx, stream)
		if err != nil {
			return err
		}
		if w.replicas == 1 {
			found = w.servers[0]
			return nil
		}
		for _, h := range w.servers {
			if h.name == info.CachedInfo().Cluster.Leader {
				found = h
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

// streams are those of the locks.
func (w *world) streams() (names []string) {
	w.t.Helper()
	w.eventually("the names of the streams", func(ctx context.Context) error {
		names = nil
		lister := w.js().StreamNames(ctx)
		for name := range lister.Name() {
			if name != "KV_"+resource {
				names = append(names, name)
			}
		}
		return lister.Err()
	})
	return names
}
