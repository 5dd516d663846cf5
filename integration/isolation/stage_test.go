// SPDX-License-Identifier: Apache-2.0

// Package isolation shows which anomalies can occur between transactions that do not name their keys, each by a schedule that
// leaves nothing to chance, and that naming them prevents it. docs/isolation.md names each with its test, and `go test -v` prints the histories.
package isolation

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"runtime"
	"strings"
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
	"github.com/assent-tx/assent/internal/check/store"
	"github.com/assent-tx/assent/internal/elle"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestMain(m *testing.M) {
	// The server's clock of access times must not be born in the bubble of a test with fake time.
	ats.Register()
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// stage is a cluster with the participants a and b, on which a test moves transactions step by step. Lists are at the participant
// whose name theirs begins with: x is at a, y at b.
type stage struct {
	*testing.T
	keys   bool
	server *embedded.Server
	client *assent.Client

	mu      sync.Mutex
	names   map[messages.ID]string // T1, T2, …
	reads   map[string]map[int]store.Read
	gates   map[string]chan struct{}
	history bytes.Buffer
	encoder *elle.Encoder
	actors  sync.WaitGroup
	begun   int
}

// at is who has which list.
var at = map[string]string{"x": "a", "y": "b"}

// inBubble runs a schedule on a stage in a bubble of fake time, with keys or without, and gives what the checker says.
func inBubble(t *testing.T, keys bool, schedule func(s *stage)) (report *elle.Report) {
	t.Helper()
	// No timer of a bubble may be used outside of it: nats.go keeps some in a sync.Pool, which two collections empty.
	defer func() { runtime.GC(); runtime.GC() }()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{
			T: t, keys: keys, names: make(map[messages.ID]string), reads: make(map[string]map[int]store.Read), gates: make(map[string]chan struct{}),
		}
		s.encoder = elle.NewEncoder(&s.history)
		s.set()
		schedule(s)
		s.actors.Wait()
		s.quiet()
		s.do(read("x"), read("y"))()
		t.Logf("the history:\n%s", s.history.String())
		h, err := elle.Decode(&s.history)
		must(t, err)
		report = elle.Check(h, elle.Options{})
		for i := range report.Anomalies {
			var text strings.Builder
			must(t, report.Anomalies[i].WriteText(&text))
			t.Log(text.String())
		}
	})
	return report
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// set starts everybody.
func (s *stage) set() {
	s.Helper()
	var err error
	s.server, err = embedded.Start(embedded.Config{Dir: s.TempDir()})
	must(s, err)
	s.Cleanup(func() { must(s, s.server.Close()) })
	c, err := coordinator.New(s.connect(), coordinator.Config{})
	must(s, err)
	s.run(c.Run, c.Ready())
	for _, name := range []string{"a", "b"} {
		opened, err := store.Open(filepath.Join(s.TempDir(), name), 0, s.tell)
		must(s, err)
		s.Cleanup(func() { must(s, opened.Close()) })
		p, err := participant.New(s.connect(), participant.Config{Name: name, Handler: &gated{s, name, opened}})
		must(s, err)
		s.run(p.Run, p.Ready())
	}
	s.client, err = assent.New(s.connect(), assent.Config{})
	must(s, err)
	s.Cleanup(s.client.Close)
}

func (s *stage) connect() *nats.Conn {
	s.Helper()
	nc, err := s.server.Connect()
	must(s, err)
	s.Cleanup(nc.Close)
	return nc
}

func (s *stage) run(run func(context.Context) error, ready <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	s.Cleanup(func() {
		cancel()
		must(s, <-ended)
	})
	<-ready
}

// tell hears what a branch read.
func (s *stage) tell(_ string, data []byte) error {
	var r store.Report
	must(s, json.Unmarshal(data, &r))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reads[r.Tx] == nil {
		s.reads[r.Tx] = make(map[int]store.Read)
	}
	for _, read := range r.Reads {
		s.reads[r.Tx][read.Number] = read
	}
	return nil
}

// quiet lets everything happen that can, but for what waits for time-outs and for gates.
func (s *stage) quiet() {
	time.Sleep(50 * time.Millisecond) //nolint:forbidigo // in a synctest bubble: it ends when everybody waits
}

// hold makes transactions wait at a place, such as "commit T1 at a" and "prepare T2 at b".
func (s *stage) hold(place string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gates[place] = gate
	return sync.OnceFunc(func() { close(gate) })
}

// pass waits at a place, if it is held.
func (s *stage) pass(what string, tx messages.ID, at string) {
	s.mu.Lock()
	gate := s.gates[what+" "+s.names[tx]+" at "+at]
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (s *stage) record(e elle.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	must(s, s.encoder.Encode(&e))
}

func appendTo(list string, value int64) elle.Operation {
	return elle.Operation{Op: elle.Append, Key: list, Value: &value}
}

func read(list string) elle.Operation { return elle.Operation{Op: elle.Read, Key: list} }

// do begins the next transaction, as a client that tries again when others are in its way, and gives how to wait for its end.
func (s *stage) do(ops ...elle.Operation) (wait func()) {
	s.begun++
	name, process := "T"+string(rune('0'+s.begun)), int32(s.begun)
	tx := s.client.Begin(assent.WithID(newID()))
	for i, o := range ops {
		payload := store.Operation{Op: string(o.Op), Key: o.Key, Number: i}
		option := assent.Keys(o.Key)
		if o.Op == elle.Read {
			payload.Report, option = "inbox", assent.SharedKeys(o.Key)
		} else {
			payload.Value = *o.Value
		}
		if s.keys {
			tx.Enlist(at[o.Key], payload, option)
		} else {
			tx.Enlist(at[o.Key], payload)
		}
	}
	s.mu.Lock()
	s.names[tx.ID()] = name
	s.mu.Unlock()
	s.record(elle.Event{Type: elle.Invoke, Process: process, Tx: name, Operations: ops})
	ended := make(chan struct{})
	s.actors.Go(func() {
		defer close(ended)
		must(s, tx.Commit(context.Background()))
		s.record(elle.Event{Type: elle.OK, Process: process, Tx: name, Operations: s.results(tx.ID(), ops)})
	})
	return func() { <-ended }
}

// results are the operations with what they read.
func (s *stage) results(tx messages.ID, ops []elle.Operation) []elle.Operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := append([]elle.Operation(nil), ops...)
	for i := range done {
		if done[i].Op == elle.Read {
			done[i].Values = append([]int64{}, s.reads[tx.String()][i].Values...)
		}
	}
	return done
}

// newID mints an id of the bubble's time: the library that does it elsewhere never goes back to it.
func newID() messages.ID {
	id := messages.NewID()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli())<<16)
	copy(id[:6], ms[:6])
	return id
}

// gated is a store whose steps the test holds up.
type gated struct {
	stage *stage
	name  string
	store *store.Store
}

func (g *gated) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	g.stage.pass("prepare", b.Tx, g.name)
	r := g.store.PrepareBatch(ctx, []*participant.Branch{b})[0]
	return r.Vote, r.Err
}

func (g *gated) Commit(ctx context.Context, tx messages.ID) error {
	g.stage.pass("commit", tx, g.name)
	return g.store.FinishBatch(ctx, []participant.Outcome{{Tx: tx, Commit: true}})[0]
}

func (g *gated) Rollback(ctx context.Context, tx messages.ID) error {
	return g.store.FinishBatch(ctx, []participant.Outcome{{Tx: tx}})[0]
}

func (g *gated) InDoubt(ctx context.Context) ([]participant.Prepared, error) {
	return g.store.InDoubt(ctx)
}
