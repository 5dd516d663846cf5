// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// The promise of durability hangs on this setting; it is read back from the
// JetStream that runs, not from the options that were passed.
func TestSyncsAlways(t *testing.T) {
	for _, maxStore := range []int64{0, 1 << 20} {
		s := start(t, Config{Dir: t.TempDir(), MaxStore: maxStore})
		js := s.nats.JetStreamConfig()
		if !js.SyncAlways {
			t.Errorf("MaxStore %d: JetStream does not sync always", maxStore)
		}
		want := maxStore
		if want == 0 {
			want = noMaxStore
		}
		if js.MaxStore != want || js.MaxMemory != maxMemory {
			t.Errorf("MaxStore %d: JetStream's limits are %d on disk, %d in memory", maxStore, js.MaxStore, js.MaxMemory)
		}
	}
}

func TestZeroConfigIsReachableOnlyInProcess(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir()})
	if s.URL() != "" || s.nats.Addr() != nil {
		t.Errorf("listens on %q, %v", s.URL(), s.nats.Addr())
	}
	nc := connect(t, s)
	if nc.ConnectedServerName() != DefaultName || nc.MaxPayload() != 1<<20 {
		t.Errorf("server %q, max payload %d", nc.ConnectedServerName(), nc.MaxPayload())
	}
	must(t, publish(nc, []byte("a")))
}

func TestRestartKeepsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	for i, want := range [][]string{{"x"}, {"x", "x"}, {"x", "x", "x"}} {
		s := start(t, Config{Dir: dir, Name: "bank"})
		nc := connect(t, s)
		must(t, publish(nc, []byte("x")))
		if got := stored(t, nc); !reflect.DeepEqual(got, want) {
			t.Fatalf("start %d: stored %q, want %q", i, got, want)
		}
		nc.Close()
		must(t, s.Close())
	}
}

// A copy of the directory of a running server is what a power cut would leave,
// as far as a test can cut power.
func TestStartsFromWhatACrashLeaves(t *testing.T) {
	dir, crashed := t.TempDir(), filepath.Join(t.TempDir(), "crashed")
	s := start(t, Config{Dir: dir})
	nc := connect(t, s)
	var want []string
	for _, data := range []string{"a", "b", "c"} {
		must(t, publish(nc, []byte(data)))
		want = append(want, data)
	}
	must(t, os.CopyFS(crashed, os.DirFS(dir)))

	again := start(t, Config{Dir: crashed})
	if got := stored(t, connect(t, again)); !reflect.DeepEqual(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	dir := t.TempDir()

	_, err = Start(Config{Dir: dir, Listen: taken.Addr().String()})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Fatalf("got %v", err)
	}
	// The failed start must not have kept the directory, nor goroutines.
	goleak.VerifyNone(t)
	start(t, Config{Dir: dir, Listen: "127.0.0.1:0"})
}

func TestAddressOfAnotherMachine(t *testing.T) {
	_, err := Start(Config{Dir: t.TempDir(), Listen: "192.0.2.1:0", Token: "s3cret"})
	if err == nil || !strings.Contains(err.Error(), "cannot listen on 192.0.2.1:0") {
		t.Fatalf("got %v", err)
	}
}

func TestPortZeroPicksAFreeOne(t *testing.T) {
	for listen, prefix := range map[string]string{
		"127.0.0.1:0": "nats://127.0.0.1:",
		"localhost:0": "nats://127.0.0.1:",
	} {
		a := start(t, Config{Dir: t.TempDir(), Listen: listen})
		b := start(t, Config{Dir: t.TempDir(), Listen: listen})
		if a.URL() == b.URL() || !strings.HasPrefix(a.URL(), prefix) || strings.HasSuffix(a.URL(), ":0") {
			t.Errorf("%s: got %q and %q", listen, a.URL(), b.URL())
		}
		nc, err := nats.Connect(a.URL())
		must(t, err)
		if err := publish(nc, nil); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
		nc.Close()
	}
}

func TestTokenIsRequiredOfEveryClientAndSuppliedInProcess(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), Listen: "0.0.0.0:0", Token: "s3cret"})
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") || strings.Contains(s.URL(), "s3cret") {
		t.Fatalf("URL is %q", s.URL())
	}
	must(t, publish(connect(t, s), []byte("a")))
	_, wrong := nats.Connect(s.URL(), nats.Token("wrong"))
	_, none := nats.Connect(s.URL())
	for name, err := range map[string]error{"wrong token": wrong, "no token": none} {
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	nc, err := nats.Connect(s.URL(), nats.Token("s3cret"))
	must(t, err)
	nc.Close()
}

func TestConnectTakesOptions(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), Token: "s3cret"})
	nc, err := s.Connect(nats.Name("bank"))
	must(t, err)
	defer nc.Close()
	if nc.Opts.Name != "bank" {
		t.Errorf("name is %q", nc.Opts.Name)
	}
}

// A full store refuses what is new, deletes nothing that is old, and goes on
// once there is room.
func TestMaxStore(t *testing.T) {
	const limit = 1 << 20
	s := start(t, Config{Dir: t.TempDir(), MaxStore: limit})
	nc := connect(t, s)
	payload := make([]byte, limit/8)
	var err error
	n := 0
	for ; err == nil && n < 20; n++ {
		err = publish(nc, payload)
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != 10023 {
		t.Fatalf("after %d messages: got %v, want error 10023", n, err)
	}
	if got := stored(t, nc); len(got) != n-1 || n-1 < 7 {
		t.Errorf("%d messages stored, %d acknowledged, of an eighth of the limit each", len(got), n-1)
	}
	js, err := jetstream.New(nc)
	must(t, err)
	stream, err := js.Stream(t.Context(), "log")
	must(t, err)
	must(t, stream.Purge(t.Context()))
	must(t, publish(nc, payload))
}

func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	occupied := t.TempDir()
	must(t, os.WriteFile(filepath.Join(occupied, "jetstream"), nil, 0o600))
	lockIsDir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(lockIsDir, lockName), 0o700))

	for name, dir := range map[string]string{
		"a file":               file,
		"below a file":         filepath.Join(file, "data"),
		"no room for streams":  occupied,
		"no room for the lock": lockIsDir,
	} {
		_, err := Start(Config{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), "data directory "+dir+" is not usable") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	goleak.VerifyNone(t)
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	s, err := Start(Config{Dir: dir, Listen: "127.0.0.1:0", Token: "s3cret"})
	must(t, err)
	nc, err := s.Connect()
	must(t, err)
	must(t, publish(nc, []byte("a")))
	nc.Close()

	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	goleak.VerifyNone(t)
	lock, err := lockDir(dir)
	must(t, err)
	must(t, lock.Close())
	if _, err := s.Connect(); err == nil {
		t.Error("connected to a closed server")
	}
	if s.nats.Running() || s.nats.Addr() != nil {
		t.Error("a closed server runs")
	}
}

// A client that the application forgot must not keep Close from returning.
func TestCloseWithClientsConnected(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	remote, err := nats.Connect(s.URL(), nats.NoReconnect())
	must(t, err)
	defer remote.Close()
	local, err := s.Connect(nats.NoReconnect())
	must(t, err)
	defer local.Close()
	must(t, s.Close())
	for _, nc := range []*nats.Conn{remote, local} {
		if err := nc.Flush(); err == nil {
			t.Error("a client is still connected")
		}
	}
}

// The time from Start to a server that is ready, on an empty directory.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := Start(Config{Dir: b.TempDir(), Listen: "127.0.0.1:0"})
		must(b, err)
		b.StopTimer()
		must(b, s.Close())
		b.StartTimer()
	}
}
