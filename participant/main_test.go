// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestMain(m *testing.M) {
	// The server's clock of access times must not be born in the bubble of a test with fake time.
	ats.Register()
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// patience is how long a test waits for what must happen. In a bubble that is no time at all.
const patience = 10 * time.Minute

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// receive waits for a value.
func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a server in a bubble of fake time.
type world struct {
	*testing.T
	server *embedded.Server
	nc     *nats.Conn // the test's own
}

// inBubble runs a test on a server of its own, with fake time: it passes when everybody waits.
func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	defer emptyPools()
	synctest.Test(t, func(t *testing.T) {
		server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
		must(t, err)
		t.Cleanup(func() { must(t, server.Close()) })
		w := &world{T: t, server: server}
		w.nc = w.connect()
		test(w)
	})
}

// emptyPools makes sure that no timer of a bubble is used outside of it: nats.go keeps some in a sync.Pool, which two
// collections empty.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}

func (w *world) connect() *nats.Conn {
	w.Helper()
	nc, err := w.server.Connect()
	must(w, err)
	w.Cleanup(nc.Close)
	return nc
}

// running is a Run in the background.
type running struct {
	w    *world
	stop context.CancelFunc
	err  chan error
	once sync.Once
	last error
}

func (w *world) run(run func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{w: w, stop: cancel, err: make(chan error, 1)}
	go func() { r.err <- run(ctx) }()
	w.Cleanup(func() { cancel(); _ = r.wait() })
	return r
}

// ready waits until what runs is ready, and fails the test when it ends before.
func (r *running) ready(ready <-chan struct{}) {
	r.w.Helper()
	select {
	case <-ready:
	case err := <-r.err:
		r.err <- err
		r.w.Fatalf("Run ended before it was ready: %v", err)
	case <-time.After(patience):
		r.w.Fatal("not ready")
	}
}

// wait gives Run's error once it has returned.
func (r *running) wait() error {
	r.w.Helper()
	r.once.Do(func() { r.last = receive(r.w, r.err, "Run returns") })
	return r.last
}

// end asks Run to stop, and expects no error.
func (r *running) end() {
	r.w.Helper()
	r.stop()
	if err := r.wait(); err != nil {
		r.w.Errorf("Run: %v", err)
	}
}

func (w *world) coordinate(cfg coordinator.Config) *running {
	w.Helper()
	c, err := coordinator.New(w.connect(), cfg)
	must(w, err)
	r := w.run(c.Run)
	r.ready(c.Ready())
	return r
}

// start begins a participant, and does not wait until it is ready.
func (w *world) start(nc *nats.Conn, cfg participant.Config) (*participant.Participant, *running) {
	w.Helper()
	p, err := participant.New(nc, cfg)
	must(w, err)
	return p, w.run(p.Run)
}

func (w *world) join(name string, h participant.Handler) *running {
	w.Helper()
	return w.joinWith(participant.Config{Name: name, Handler: h})
}

func (w *world) joinWith(cfg participant.Config) *running {
	w.Helper()
	p, r := w.start(w.connect(), cfg)
	r.ready(p.Ready())
	return r
}

func (w *world) client() *assent.Client {
	w.Helper()
	client, err := assent.New(w.connect(), assent.Config{})
	must(w, err)
	w.Cleanup(client.Close)
	return client
}

// newID mints an id of the bubble's time: the library that does it elsewhere never goes back to it.
func newID() messages.ID {
	id := messages.NewID()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli())<<16)
	copy(id[:6], ms[:6])
	return id
}

// commit submits a transaction of one operation for each participant, and gives its id and error.
func commit(w *world, c *assent.Client, timeout time.Duration, names ...string) (messages.ID, error) {
	w.Helper()
	tx := c.Begin(assent.WithID(newID()), assent.WithTimeout(timeout))
	for _, name := range names {
		tx.Enlist(name, map[string]string{"for": name})
	}
	return tx.ID(), tx.Commit(w.Context())
}

// commitTraced is commit with a trace, for one participant.
func commitTraced(w *world, c *assent.Client, name, trace string) error {
	tx := c.Begin(assent.WithID(newID()), assent.WithTrace(trace))
	tx.Enlist(name, map[string]string{"for": name})
	return tx.Commit(w.Context())
}

// handler is a Handler of functions; a nil one agrees. It tells of the calls that succeed.
type handler struct {
	prepare          func(ctx context.Context, b *participant.Branch) (participant.Vote, error)
	commit, rollback func(ctx context.Context, tx messages.ID) error
	prepared         chan messages.ID
	committed        chan messages.ID
	rolledBack       chan messages.ID
}

func newHandler() *handler {
	return &handler{
		prepared: make(chan messages.ID, 4096), committed: make(chan messages.ID, 4096), rolledBack: make(chan messages.ID, 4096),
	}
}

func (h *handler) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	vote, err := participant.Yes, error(nil)
	if h.prepare != nil {
		vote, err = h.prepare(ctx, b)
	}
	if err == nil {
		h.prepared <- b.Tx
	}
	return vote, err
}

// InDoubt: it holds nothing that would outlive it.
func (h *handler) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

func (h *handler) Commit(ctx context.Context, tx messages.ID) error {
	return finish(ctx, tx, h.commit, h.committed)
}

func (h *handler) Rollback(ctx context.Context, tx messages.ID) error {
	return finish(ctx, tx, h.rollback, h.rolledBack)
}

func finish(ctx context.Context, tx messages.ID, f func(context.Context, messages.ID) error, told chan<- messages.ID) error {
	if f != nil {
		if err := f(ctx, tx); err != nil {
			return err
		}
	}
	told <- tx
	return nil
}
