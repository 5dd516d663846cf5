// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// server is a server without a coordinator.
func server(t testing.TB, cfg embedded.Config) *embedded.Server {
	t.Helper()
	cfg.Dir = t.TempDir()
	s, err := embedded.Start(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func connect(t testing.TB, s *embedded.Server) *nats.Conn {
	t.Helper()
	nc, err := s.Connect()
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// coordinate starts a coordinator that the test can stop.
func coordinate(t testing.TB, s *embedded.Server, cfg coordinator.Config) (stop func()) {
	t.Helper()
	c, err := coordinator.New(connect(t, s), cfg)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, ended, "the coordinator ends"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	receive(t, c.Ready(), "the coordinator is ready")
	return stop
}

// gatekeeper is a handler whose Prepare waits until the test lets it go.
type gatekeeper struct {
	*recorder
	arrived chan assent.ID
	release chan struct{}
	calls   atomic.Int32
}

func newGatekeeper() *gatekeeper {
	return &gatekeeper{recorder: newRecorder(), arrived: make(chan assent.ID, 1024), release: make(chan struct{})}
}

func (g *gatekeeper) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	g.calls.Add(1)
	g.arrived <- b.Tx
	select {
	case <-g.release:
		return g.recorder.Prepare(ctx, b)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func wantInvalid(t *testing.T, err error, field, message string) {
	t.Helper()
	var invalid *assent.InvalidError
	if !errors.Is(err, assent.ErrInvalid) || !errors.As(err, &invalid) || invalid.Field != field || !strings.Contains(invalid.Message, message) {
		t.Errorf("got %v, want %s invalid: %s", err, field, message)
	}
	if errors.Is(err, assent.ErrUnknown) {
		t.Errorf("%v is also ErrUnknown", err)
	}
}

// What is wrong with a transaction is told by the path of the field, whether the client or the coordinator sees it.
func TestInvalid(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	join(t, nc, "p", newRecorder())
	client, ctx := newClient(t, nc), patient(t)
	deep := json.RawMessage(strings.Repeat("[", messages.MaxDepth+1) + strings.Repeat("]", messages.MaxDepth+1))
	for _, c := range []struct {
		field, message string
		options        []assent.TxOption
		enlist         func(tx *assent.Tx)
	}{
		{"tx", "00000000", []assent.TxOption{assent.WithID(assent.ID{})}, nil},
		{"tx", "ffffffff", []assent.TxOption{assent.WithID(assent.ID{0xff, 0xff, 0xff, 0xff})}, nil},
		{"timeout_ms", "999ms", []assent.TxOption{assent.WithTimeout(999 * time.Millisecond)}, nil},
		{"timeout_ms", "24h", []assent.TxOption{assent.WithTimeout(24*time.Hour + 1)}, nil},
		{"trace", "129 bytes", []assent.TxOption{assent.WithTrace(strings.Repeat("x", 129))}, nil},
		{"operations", "no operations", nil, func(*assent.Tx) {}},
		{"operations", "1024", nil, func(tx *assent.Tx) { enlist(tx, "p", messages.MaxOperations+1) }},
		{"operations", "64 participants", nil, func(tx *assent.Tx) {
			for i := range messages.MaxParticipants + 1 {
				tx.Enlist(fmt.Sprintf("p%d", i), 1)
			}
		}},
		{"operations[1].participant", `"a.b"`, nil, func(tx *assent.Tx) { tx.Enlist("p", 1); tx.Enlist("a.b", 1); tx.Enlist("", 1) }},
		{"operations[0].participant", `""`, nil, func(tx *assent.Tx) { tx.Enlist("", 1) }},
		{"operations[0].payload", "unsupported", nil, func(tx *assent.Tx) { tx.Enlist("p", math.Inf(1)) }},
		{"operations[0].payload", "JSON", nil, func(tx *assent.Tx) { tx.Enlist("p", json.RawMessage(`{"a"`)) }},
		{"operations[0].payload", "deeper than 128", nil, func(tx *assent.Tx) { tx.Enlist("p", deep) }},
		{"operations[0].keys", "1024", nil, func(tx *assent.Tx) { tx.Enlist("p", 1, assent.Keys(make([]string, messages.MaxKeys+1)...)) }},
		{"operations[0].keys[1]", "1025 bytes", nil, func(tx *assent.Tx) { tx.Enlist("p", 1, assent.Keys("k", strings.Repeat("x", messages.MaxKey+1))) }},
		{"operations[0].keys[1]", "0 bytes", nil, func(tx *assent.Tx) { tx.Enlist("p", 1, assent.Keys("k"), assent.Keys("")) }},
		{"operations[1].shared[0]", "UTF-8", nil, func(tx *assent.Tx) { tx.Enlist("p", 1); tx.Enlist("p", 1, assent.SharedKeys("\xff")) }},
		{"operations[0].shared[1]", "1025 bytes", nil, func(tx *assent.Tx) {
			tx.EnlistKey("g", "k", 1, assent.SharedKeys("s", strings.Repeat("x", messages.MaxKey+1)))
		}},
		{"operations[0].shared[1]", `"k" is shared`, nil, func(tx *assent.Tx) { tx.Enlist("p", 1, assent.SharedKeys("s", "k"), assent.Keys("k")) }},
		{"operations[0].keys", "1024", nil, func(tx *assent.Tx) {
			tx.Enlist("p", 1, assent.Keys(make([]string, 1000)...), assent.SharedKeys(make([]string, 25)...))
		}},
	} {
		tx := client.Begin(c.options...)
		if c.enlist == nil {
			tx.Enlist("p", 1)
		} else {
			c.enlist(tx)
		}
		wantInvalid(t, tx.Commit(ctx), c.field, c.message)
	}
	for _, id := range []assent.ID{{}, {1, 2, 3}} {
		_, err := client.Outcome(ctx, id)
		wantInvalid(t, err, "tx", "id")
		_, err = client.Wait(ctx, id)
		wantInvalid(t, err, "tx", "id")
	}
}

func enlist(tx *assent.Tx, participant string, operations int) {
	for range operations {
		tx.Enlist(participant, 1)
	}
}

// At the edge of each limit a transaction is taken; beyond it, it is too large.
func TestLimits(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	join(t, nc, "p", newRecorder())
	client, ctx := newClient(t, nc), patient(t)
	size := func(payload int) (*assent.Tx, int) {
		tx := client.Begin(assent.WithTrace(strings.Repeat("t", messages.MaxTrace)))
		tx.Enlist("p", json.RawMessage(`"`+strings.Repeat("x", payload-2)+`"`), assent.Keys(strings.Repeat("k", messages.MaxKey)))
		sub := messages.Submission{Tx: tx.ID(), Trace: strings.Repeat("t", messages.MaxTrace), Operations: []messages.Operation{{
			Participant: "p", Payload: json.RawMessage(`"` + strings.Repeat("x", payload-2) + `"`), Keys: []string{strings.Repeat("k", messages.MaxKey)},
		}}}
		return tx, len(messages.AppendSubmission(nil, &sub))
	}
	_, overhead := size(2)
	overhead -= 2
	tx, n := size(messages.MaxRecord + 1 - overhead)
	if n != messages.MaxRecord+1 {
		t.Fatalf("the submission has %d bytes", n)
	}
	if err := tx.Commit(ctx); !errors.Is(err, assent.ErrTooLarge) || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("a submission of one byte too many: %v", err)
	}
	// The submission fits, its prepare, which has a longer head, does not.
	tx, _ = size(messages.MaxRecord - overhead)
	if err := tx.Commit(ctx); !errors.Is(err, assent.ErrTooLarge) || !strings.Contains(err.Error(), "prepare for p") {
		t.Errorf("a prepare of some bytes too many: %v", err)
	}
	tx, _ = size(messages.MaxRecord - overhead - 256)
	must(t, tx.Commit(ctx))

	tx = client.Begin()
	enlist(tx, "p", messages.MaxOperations)
	must(t, tx.Commit(ctx))
	keys := make([]string, messages.MaxKeys)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	tx = client.Begin(assent.WithTimeout(messages.MaxTimeout))
	tx.Enlist("p", nil, assent.Keys(keys...))
	must(t, tx.Commit(ctx))
}

func TestSixtyFourParticipants(t *testing.T) {
	nc := cluster(t, coordinator.Config{Shards: 2})
	all := make([]*recorder, messages.MaxParticipants)
	for i := range all {
		all[i] = newRecorder()
		join(t, nc, fmt.Sprintf("p%d", i), all[i])
	}
	client, ctx := newClient(t, nc), patient(t)
	tx := client.Begin()
	for i := range all {
		tx.Enlist(fmt.Sprintf("p%d", i), i)
	}
	must(t, tx.Commit(ctx))
	for i := range all {
		if got := receive(t, all[i].commits, "a commit"); got != tx.ID() {
			t.Errorf("p%d committed %s, want %s", i, got, tx.ID())
		}
	}
	all[63].refuse = errors.New("no")
	tx = client.Begin()
	for i := range all {
		tx.Enlist(fmt.Sprintf("p%d", i), i)
	}
	var aborted *assent.AbortedError
	if err := tx.Commit(ctx); !errors.As(err, &aborted) || aborted.Participant != "p63" || aborted.Reason != "no" || aborted.Tx != tx.ID() {
		t.Errorf("got %v, want an abort by p63", err)
	}
}

func TestUnknownParticipant(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	client := newClient(t, nc)
	tx := client.Begin()
	tx.Enlist("nobody", 1)
	err := tx.Commit(patient(t))
	var unknown *assent.UnknownParticipantError
	if !errors.Is(err, assent.ErrUnknownParticipant) || !errors.As(err, &unknown) || !strings.Contains(unknown.Message, `"nobody"`) || unknown.Tx != tx.ID() {
		t.Errorf("got %v, want an unknown participant, by name", err)
	}
	if errors.Is(err, assent.ErrUnknown) || errors.Is(err, assent.ErrInvalid) {
		t.Errorf("%v is also something else", err)
	}
}

func TestOverloaded(t *testing.T) {
	nc := cluster(t, coordinator.Config{MaxOpen: 1})
	g := newGatekeeper()
	join(t, nc, "p", g)
	client, ctx := newClient(t, nc), patient(t)
	first := submit(ctx, client, assent.NewID(), "p")
	receive(t, g.arrived, "the first is open")
	tx := client.Begin()
	tx.Enlist("p", 1)
	var overloaded *assent.OverloadedError
	if err := tx.Commit(ctx); !errors.Is(err, assent.ErrOverloaded) || !errors.As(err, &overloaded) || overloaded.Tx != tx.ID() || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("got %v, want an overload", err)
	}
	close(g.release)
	must(t, receive(t, first, "an outcome"))
	eventually(t, "there is room again", func() bool {
		err := tx.Commit(ctx) // the same again
		if err != nil && !errors.Is(err, assent.ErrOverloaded) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// submit commits in the background a transaction of one operation.
func submit(ctx context.Context, client *assent.Client, id assent.ID, participants ...string) <-chan error {
	outcome := make(chan error, 1)
	go func() {
		tx := client.Begin(assent.WithID(id))
		for _, name := range participants {
			tx.Enlist(name, 1)
		}
		outcome <- tx.Commit(ctx)
	}()
	return outcome
}

func TestNoCoordinator(t *testing.T) {
	s := server(t, embedded.Config{})
	client := newClient(t, connect(t, s))
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	tx := client.Begin()
	tx.Enlist("p", 1)
	if err := tx.Commit(short); !errors.Is(err, assent.ErrNoCoordinator) || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("Commit: %v, want ErrNoCoordinator and nothing unknown: nothing was submitted", err)
	} else if !strings.Contains(err.Error(), "assent.api.info") {
		t.Errorf("Commit: %v, want the subject that nobody answers on, by which a wrong Prefix is seen", err)
	}
	if _, err := client.Outcome(short, tx.ID()); err == nil || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("Outcome whose context has ended: %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tx.Commit(ended); !errors.Is(err, context.Canceled) || errors.Is(err, assent.ErrNoCoordinator) || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("Commit with a context that has ended: %v", err)
	}

	// It begins to work once there is a coordinator, and knows it when that has gone.
	outcome := submit(patient(t), client, assent.NewID(), "p")
	stop := coordinate(t, s, coordinator.Config{})
	if err := receive(t, outcome, "an outcome"); !errors.Is(err, assent.ErrUnknownParticipant) {
		t.Errorf("got %v, want the coordinator's answer", err)
	}
	stop()
	short, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	var unknown *assent.UnknownError
	err := tx.Commit(short)
	if !errors.As(err, &unknown) || unknown.Tx != tx.ID() || !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an unknown outcome with its id", err)
	}
	if !errors.Is(err, assent.ErrNoCoordinator) {
		t.Errorf("%v does not say that no coordinator answers", err)
	}
}

// A client that is closed lets everybody go.
func TestClose(t *testing.T) {
	s := server(t, embedded.Config{})
	client, err := assent.New(connect(t, s), assent.Config{})
	must(t, err)
	waiting := submit(patient(t), client, assent.NewID(), "p")
	runtime.Gosched()
	client.Close()
	client.Close()
	if err := receive(t, waiting, "Commit returns"); !errors.Is(err, assent.ErrClosed) || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("Commit without a coordinator: %v", err)
	}
	coordinate(t, s, coordinator.Config{})
	nc, g := connect(t, s), newGatekeeper()
	join(t, nc, "p", g)
	client, err = assent.New(nc, assent.Config{})
	must(t, err)
	waiting = submit(patient(t), client, assent.NewID(), "p")
	receive(t, g.arrived, "it is open")
	client.Close()
	if err := receive(t, waiting, "Commit returns"); !errors.Is(err, assent.ErrClosed) || !errors.Is(err, assent.ErrUnknown) {
		t.Errorf("Commit that had submitted: %v", err)
	}
	tx := client.Begin()
	tx.Enlist("p", 1)
	if err := tx.Commit(patient(t)); !errors.Is(err, assent.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	if _, err := client.Wait(patient(t), tx.ID()); !errors.Is(err, assent.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
	close(g.release)
	receive(t, g.commits, "it commits without its client")
}

func TestConnectionClosed(t *testing.T) {
	s := server(t, embedded.Config{})
	early := connect(t, s)
	client := newClient(t, early)
	waiting := submit(patient(t), client, assent.NewID(), "p")
	early.Close()
	if err := receive(t, waiting, "Commit returns"); !errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, assent.ErrUnknown) {
		t.Errorf("Commit without a coordinator: %v", err)
	}
	coordinate(t, s, coordinator.Config{})
	late, g := connect(t, s), newGatekeeper()
	join(t, connect(t, s), "p", g)
	client = newClient(t, late)
	id := assent.NewID()
	waiting = submit(patient(t), client, id, "p")
	receive(t, g.arrived, "it is open")
	late.Close()
	if err := receive(t, waiting, "Commit returns"); !errors.Is(err, nats.ErrConnectionClosed) || !errors.Is(err, assent.ErrUnknown) {
		t.Errorf("Commit that had submitted: %v", err)
	}
	if _, err := client.Outcome(patient(t), id); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Outcome: %v", err)
	}
	close(g.release)
	receive(t, g.commits, "it commits without its client")
	if outcome, err := newClient(t, connect(t, s)).Wait(patient(t), id); outcome != assent.Committed || err != nil {
		t.Errorf("outcome %v, %v; want committed", outcome, err)
	}
}

func TestNew(t *testing.T) {
	nc := connect(t, server(t, embedded.Config{}))
	for _, cfg := range []assent.Config{{Prefix: "a b"}, {Prefix: "a."}, {Patience: -1}} {
		if _, err := assent.New(nc, cfg); err == nil {
			t.Errorf("New takes %+v", cfg)
		}
	}
	nc.Close()
	if _, err := assent.New(nc, assent.Config{}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("New on a closed connection: %v", err)
	}
}

// agedID is an id that was minted some time ago.
func agedID(age time.Duration) assent.ID {
	id := assent.NewID()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().Add(-age).UnixMilli())<<16)
	copy(id[:6], ms[:6])
	return id
}
