// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// scripted is a NATS server, on which a routing service answers what a test wants that a real one answers only now and then, or in
// another version.
type scripted struct {
	url string
	nc  *nats.Conn
}

func newScripted(t *testing.T) *scripted {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	nc, err := nats.Connect(server.URL(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nc.Drain(); err != nil { // who asked may be gone before its answer is on its way
			t.Error(err)
		}
		<-closed
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &scripted{server.URL(), nc}
}

// on answers requests on a subject.
func (s *scripted) on(t *testing.T, subject string, answer func(*nats.Msg) *nats.Msg) {
	t.Helper()
	if _, err := s.nc.Subscribe(subject, func(m *nats.Msg) {
		if err := m.RespondMsg(answer(m)); err != nil {
			t.Errorf("%s: %v", subject, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// always answers requests on a subject with an object.
func (s *scripted) always(t *testing.T, subject string, object any) {
	t.Helper()
	s.on(t, subject, func(*nats.Msg) *nats.Msg { return answer(t, object) })
}

func answer(t *testing.T, object any) *nats.Msg {
	t.Helper()
	data, err := json.Marshal(object)
	if err != nil {
		t.Error(err)
	}
	return &nats.Msg{Data: data}
}

// assent runs the command against the server.
func (s *scripted) assent(ctx context.Context, args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	code = run(ctx, append([]string{"--server", s.url}, args...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// expect runs the command and compares how it ends.
func (s *scripted) expect(t *testing.T, code int, in string, args ...string) {
	t.Helper()
	got, out, errOut := s.assent(t.Context(), args...)
	if got != code || !strings.Contains(out+errOut, in) {
		t.Errorf("assent %s: exit code %d, want %d and %q\n%s\n%s", strings.Join(args, " "), got, code, in, out, errOut)
	}
}

func TestRoutingServiceOfAnotherVersion(t *testing.T) {
	s := newScripted(t)
	s.always(t, "assent.route", map[string]any{"group": "g", "routes": []any{}})
	s.expect(t, exitFailure, "0 routes for 2 keys: is it of another version?", "route", "g", "a", "b")
	s.on(t, "assent.api.nodes", func(*nats.Msg) *nats.Msg { return &nats.Msg{Data: []byte("[]")} })
	s.expect(t, exitFailure, "cannot be read: is it of another version?", "nodes")
	s.on(t, "assent.api.ring.list", func(*nats.Msg) *nats.Msg {
		return &nats.Msg{Header: nats.Header{micro.ErrorCodeHeader: {"500"}, micro.ErrorHeader: {"out of luck"}}}
	})
	s.expect(t, exitFailure, `"code":"failed","message":"the routing service reports: out of luck (500)"`, "ring", "list", "--json")
}

// What was asked for may have been done, or be done yet, when no answer comes or none that can be read.
func TestAChangeWithoutAnAnswer(t *testing.T) {
	s := newScripted(t)
	s.on(t, "assent.api.ring.change", func(*nats.Msg) *nats.Msg { return &nats.Msg{Data: []byte("what?")} })
	s.on(t, "assent.api.ring.delete", func(*nats.Msg) *nats.Msg {
		return &nats.Msg{
			Header: nats.Header{micro.ErrorCodeHeader: {"500"}, micro.ErrorHeader: {"no answer"}},
			Data:   []byte(`{"error":"no answer","code":"unknown"}`),
		}
	})
	s.expect(t, exitUnknown, `{"error":{"code":"unknown","message":"whether group g was changed is not known`, "ring", "drain", "g", "n1", "--json")
	s.expect(t, exitFailure, `"code":"failed"`, "ring", "drain", "g", "n1", "--dry-run", "--json")
	s.expect(t, exitUnknown, `{"error":{"code":"unknown","message":"whether group g was changed is not known: see assent ring show g, and try again: no answer"}}`, "ring", "delete", "g", "--json")
	if code, out, errOut := s.assent(stopped(t), "ring", "delete", "g"); code != exitUnknown || !strings.Contains(errOut, "context canceled") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
	}
}

// stopped is a context that has ended, as after a signal.
func stopped(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// moved is the answer to a change by which two partitions move.
func moved() router.ChangeResponse {
	return router.ChangeResponse{Group: "g", Action: router.ActionDrain, Changed: true, Incarnation: 5, Epoch: 3, Partitions: 8, Moves: 2,
		Flows: []ring.Flow{{From: "n1", To: "n2", Partitions: 2}}}
}

// drained is the group some looks later: first the record before the change, then with less and less to move.
func drained(looks int64) router.Group {
	group := router.Group{Group: "g", Incarnation: 5, Epoch: 2, Nodes: []router.GroupNode{{Node: "n1", State: router.StateUp}, {Node: "n2", State: router.StateUp}}}
	if looks > 0 {
		group.Epoch, group.Moving = 3, int(max(0, 3-looks))
		group.Nodes[0].MovingOut = group.Moving
	}
	return group
}

func TestWaitUntilNothingMoves(t *testing.T) {
	s := newScripted(t)
	s.always(t, "assent.api.ring.change", moved())
	var looks atomic.Int64
	s.on(t, "assent.api.ring.show", func(*nats.Msg) *nats.Msg { return answer(t, drained(looks.Add(1)-1)) })
	code, out, errOut := s.assent(t.Context(), "ring", "drain", "g", "n1", "--wait", "--json")
	if code != exitOK || looks.Load() != 4 || !strings.Contains(out, `"settled":true`) || strings.Contains(out, "error") || !strings.Contains(out, `"part":0.25`) {
		t.Errorf("exit code %d after %d looks, want 4\n%s\n%s", code, looks.Load(), out, errOut)
	}
	looks.Store(0)
	code, out, errOut = s.assent(t.Context(), "ring", "drain", "g", "n1", "--wait")
	if code != exitOK || !strings.Contains(out, "n1    n2  2") || !strings.Contains(errOut, "partitions move") || !strings.HasSuffix(errOut, "nothing moves any more\n") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
	}
}

func TestWaitIsNotForEver(t *testing.T) {
	s := newScripted(t)
	s.always(t, "assent.api.ring.change", moved())
	group := drained(2)
	group.Nodes[0].State = router.StateDown
	s.always(t, "assent.api.ring.show", group)
	code, out, errOut := s.assent(t.Context(), "ring", "drain", "g", "n1", "--wait", "--timeout", "1ms", "--json")
	var report struct {
		Epoch   uint64       `json:"epoch"`
		Settled *bool        `json:"settled"`
		Error   *errorReport `json:"error"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitFailure || report.Epoch != 3 || report.Settled == nil || *report.Settled || report.Error == nil {
		t.Fatalf("exit code %d, %v\n%s\n%s", code, err, out, errOut)
	}
	if report.Error.Code != "not_settled" || report.Error.Message != "after 1ms 1 partition has still to move, 1 from n1 (which is down: start it again, or remove it with --force); it goes on by itself: see assent ring show g" {
		t.Errorf("%+v", report.Error)
	}
	s.expect(t, exitFailure, "assent: after 1ms 1 partition has", "ring", "drain", "g", "n1", "--wait", "--timeout", "1ms")
}

func TestWaitForAGroupThatIsGone(t *testing.T) {
	s := newScripted(t)
	s.always(t, "assent.api.ring.change", moved())
	group := drained(5)
	group.Incarnation = 6
	s.always(t, "assent.api.ring.show", group)
	s.expect(t, exitFailure, `"settled":false,"error":{"code":"conflict"`, "ring", "drain", "g", "n1", "--wait", "--json")
}

func TestWaitIsInterrupted(t *testing.T) {
	s := newScripted(t)
	s.always(t, "assent.api.ring.change", moved())
	ctx, cancel := context.WithCancel(t.Context())
	s.on(t, "assent.api.ring.show", func(*nats.Msg) *nats.Msg {
		cancel()
		return answer(t, drained(1))
	})
	if code, out, errOut := s.assent(ctx, "ring", "drain", "g", "n1", "--wait"); code != exitFailure || !strings.Contains(errOut, "context canceled") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
	}
}

// Many keys are asked for in several requests, and each route says of which ring it is.
func TestRouteInBatches(t *testing.T) {
	s := newScripted(t)
	var asked atomic.Uint64
	s.on(t, "assent.route", func(m *nats.Msg) *nats.Msg {
		var request router.RouteRequest
		if err := json.Unmarshal(m.Data, &request); err != nil || len(request.Keys) == 0 || len(request.Keys) > maxBatchKeys || request.MinEpoch != 9 {
			t.Errorf("%v: %d keys, epoch %d", err, len(request.Keys), request.MinEpoch)
		}
		response := router.RoutesResponse{Group: "g", Incarnation: 5, Epoch: 9 + asked.Add(1)}
		for i := range request.Keys {
			response.Routes = append(response.Routes, router.KeyRoute{Partition: i, Node: "n1", Subject: "s"})
		}
		return answer(t, response)
	})
	args := []string{"route", "g", "--min-epoch", "9", "--json"}
	for range maxBatchKeys + 1 {
		args = append(args, "key")
	}
	code, out, errOut := s.assent(t.Context(), args...)
	var report routeReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitOK || len(report.Routes) != maxBatchKeys+1 {
		t.Fatalf("exit code %d, %v, %d routes\n%s", code, err, len(report.Routes), errOut)
	}
	first, last := report.Routes[0], report.Routes[maxBatchKeys]
	if first.Epoch != 10 || last.Epoch != 11 || last.Key != "key" || last.Incarnation != 5 || last.Partition != 0 {
		t.Errorf("first %+v, last %+v", first, last)
	}
}

// A group whose record is not what this version writes is shown as such, stands in nobody's way, and can be deleted.
func TestGroupsThatCannotBeRead(t *testing.T) {
	s := newScripted(t)
	service, err := router.NewService(s.nc, router.ServiceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-service.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	s.expect(t, exitOK, "group good is created", "ring", "create", "good")
	js, err := jetstream.New(s.nc)
	if err != nil {
		t.Fatal(err)
	}
	for group, record := range map[string]string{"garbage": "what?", "later": `{"v":2,"group":"later"}`} {
		if _, err := js.Publish(ctx, "$KV.assent-rings."+group, []byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errOut := s.assent(ctx, "ring", "list")
	if code != exitOK || strings.Count(out, "\n") != 4 || !strings.Contains(out, "a record that cannot be read") || !strings.Contains(out, "a record of a newer version") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
	}
	for group, code := range map[string]string{"garbage": "record", "later": "newer_record"} {
		coded := `{"error":{"code":"` + code + `","message":`
		s.expect(t, exitFailure, coded, "ring", "show", group, "--json")
		s.expect(t, exitFailure, coded, "ring", "add", group, "n1", "--json")
		s.expect(t, exitFailure, coded, "nodes", group, "--json")
		s.expect(t, exitFailure, coded, "ring", "delete", group, "--json")
		s.expect(t, exitOK, "group "+group+" is deleted", "ring", "delete", group, "--force")
		s.expect(t, exitFailure, `"code":"no_group"`, "ring", "show", group, "--json")
	}
	s.expect(t, exitOK, "0 nodes, 0 down", "nodes")
}
