// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/locks"
)

// shortLocks is a run that takes a second or two.
func shortLocks(t *testing.T) LocksConfig {
	t.Helper()
	return LocksConfig{Dir: t.TempDir(), Duration: 80 * time.Millisecond, Rounds: 2}
}

func TestRunLocks(t *testing.T) {
	cfg := shortLocks(t)
	var steps []string
	last := 0.0
	cfg.Progress = func(step string, done float64) {
		if done < last || done > 1 {
			t.Errorf("progress went from %v to %v at %q", last, done, step)
		}
		last = done
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
	}
	report, err := RunLocks(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Errors != 0 || report.Ratios.Violations != 0 {
		t.Errorf("%d errors (%s), %d violations; want none", report.Errors, report.FirstError, report.Ratios.Violations)
	}
	checkLocksRaw(t, report)
	checkLocksRows(t, report)
	checkLocksOutput(t, report)
	for i, round := range report.Rounds {
		if round.P50At1 <= 0 || round.PairsAt64 <= 0 || round.HandOffP50 <= 0 || round.HandOffP99 < round.HandOffP50 {
			t.Errorf("round %d: %+v", i+1, round)
		}
	}
	if len(report.Rounds) != 2 || report.Ratios.PairsAt64 != (report.Rounds[0].PairsAt64+report.Rounds[1].PairsAt64)/2 {
		t.Errorf("ratios %+v of the rounds %+v", report.Ratios, report.Rounds)
	}
	told := strings.Join(steps, "; ")
	for _, want := range []string{"round 1 of 2: uncontended, 1 client; round 1 of 2: raw, 1 publisher;", "round 2 of 2: raw, 1 publisher; round 2 of 2: uncontended, 1 client; done"} {
		if !strings.Contains(told, want) {
			t.Errorf("the steps have no %q: %s", want, told)
		}
	}
}

func checkLocksRaw(t *testing.T, report *LocksReport) {
	t.Helper()
	raw := &report.Raw
	if raw.PublishP50MS1 <= 0 || raw.PublishP99MS1 < raw.PublishP50MS1 || raw.PublishPerS64 <= 0 || raw.PublishPerS64x8 <= 0 || len(raw.Samples) != 2 {
		t.Errorf("the yardstick: %+v", raw)
	}
}

func checkLocksRows(t *testing.T, report *LocksReport) {
	t.Helper()
	type kind struct {
		mode    string
		clients int
	}
	var kinds []kind
	for i := range report.Rows {
		row := &report.Rows[i]
		kinds = append(kinds, kind{row.Mode, row.Clients})
		if row.P50MS <= 0 || row.P99MS < row.P50MS {
			t.Errorf("%+v: want latencies that grow with the percentile", row)
		}
		if alone := row.Mode == uncontended; alone != (row.PairsPerS > 0) || alone != (row.AcquisitionsPerS == 0) || alone != (row.Jain == 0) {
			t.Errorf("%+v: want pairs when uncontended, and acquisitions otherwise", row)
		}
		if row.Mode == contended && (row.HandOffP50MS <= 0 || row.HandOffP99MS < row.HandOffP50MS) {
			t.Errorf("%+v: want hand-offs", row)
		}
	}
	want := []kind{{uncontended, 1}, {uncontended, 16}, {uncontended, 64}, {contended, 16}, {contended, 64}, {sharedMode, 16}}
	if !slices.Equal(kinds, want) {
		t.Errorf("rows %v, want %v", kinds, want)
	}
}

func checkLocksOutput(t *testing.T, report *LocksReport) {
	t.Helper()
	var table, svg bytes.Buffer
	if err := errors.Join(report.WriteTable(&table), report.WritePlot(&svg)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sync always", "hand-off p99 ms", "Jain's index at 16 clients", "violations of mutual exclusion: 0"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
	if lines := strings.Count(svg.String(), "<polyline"); lines != 5 {
		t.Errorf("the picture has %d lines, want those of 3 rows alone and of 2 contended ones", lines)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	fields := []string{"mode", "clients", "pairs_per_s", "p50_ms", "p99_ms", "handoff_p50_ms", "handoff_p99_ms", "acquisitions_per_s", "jain", "violations"}
	for _, row := range got.Rows {
		for _, field := range fields {
			if row[field] == nil {
				t.Errorf("a row has no %s: %v", field, row)
			}
		}
		if len(row) != len(fields) {
			t.Errorf("a row has more than %v: %v", fields, row)
		}
	}
}

func TestRunLocksIsInterrupted(t *testing.T) {
	cfg := shortLocks(t)
	cfg.Duration = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cfg.Progress = func(step string, _ float64) {
		if strings.HasPrefix(step, "round") {
			cancel(cause)
		}
	}
	if report, err := RunLocks(ctx, cfg); !errors.Is(err, cause) || report != nil {
		t.Errorf("got %v, %v; want the cause", report, err)
	}
}

// Without its session a client would fail as fast as it can, and take from the others what they need.
func TestRunLocksEndsWithASession(t *testing.T) {
	cfg, err := shortLocks(t).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Duration = time.Hour
	c, err := startLockClients(t.Context(), &cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.sessions[0].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := newLocksBench(&cfg, c)
	for _, m := range []*lockMeasure{b.alone1, b.contended16} {
		ctx, fail := context.WithCancelCause(t.Context())
		c.fail = fail
		if err := b.measure(ctx, m, 1); !errors.Is(err, locks.ErrClosed) || !strings.Contains(err.Error(), "client 0") {
			t.Errorf("%s: %v; want that the session of client 0 is over", m.step, err)
		}
		fail(nil)
	}
}

func TestLocksConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*LocksConfig){
		"dir":      func(c *LocksConfig) { c.Dir = "" },
		"rounds":   func(c *LocksConfig) { c.Rounds = 1001 },
		"duration": func(c *LocksConfig) { c.Duration = time.Millisecond },
		"replicas": func(c *LocksConfig) { c.Replicas = 3 },
		"streams":  func(c *LocksConfig) { c.Streams = 65 },
	} {
		cfg := shortLocks(t)
		change(&cfg)
		if _, err := RunLocks(t.Context(), cfg); err == nil || !strings.HasPrefix(err.Error(), "bench: "+field+": ") {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

// contend has a few clients contend for a lock in this process.
func contend(t *testing.T, lock take) *lockMeasure {
	t.Helper()
	m := newContended(contended, 4, lock)
	m.register.begin(0)
	l := &loop{clients: m.clients, duration: 30 * time.Millisecond, do: m.do}
	found, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.add(found)
	return m
}

// queue is a lock that keeps its promise: it lets one client in after the other.
type queue struct {
	turn chan uint64 // holds the last token while the lock is free
}

func newQueue() *queue {
	q := &queue{turn: make(chan uint64, 1)}
	q.turn <- 0
	return q
}

func (q *queue) take(_ context.Context, _ int) (grant, error) {
	token := <-q.turn + 1
	return grant{token: locks.Token{Incarnation: 1, Sequence: token}, unlock: func(context.Context) error {
		q.turn <- token
		return nil
	}}, nil
}

func TestRegisterOfALock(t *testing.T) {
	m := contend(t, newQueue().take)
	row := m.row()
	acquired := int64(0)
	for _, n := range m.register.acquired {
		acquired += n
	}
	if row.Violations != 0 || row.AcquisitionsPerS <= 0 || row.Jain < 0.25 || row.Jain > 1 {
		t.Errorf("%+v: want no violations, and acquisitions", row)
	}
	if handOffs := m.register.handOffs.TotalCount(); handOffs != acquired-1 {
		t.Errorf("%d hand-offs of %d acquisitions, want one less", handOffs, acquired)
	}
}

// A lock that breaks a promise is found out.
func TestRegisterFindsViolations(t *testing.T) {
	for name, lock := range map[string]func(*queue) take{
		"a token twice": func(q *queue) take {
			return func(ctx context.Context, client int) (grant, error) {
				g, err := q.take(ctx, client)
				g.token.Sequence /= 2
				return g, err
			}
		},
		"tokens that sink": func(q *queue) take {
			return func(ctx context.Context, client int) (grant, error) {
				g, err := q.take(ctx, client)
				g.token.Sequence = 1_000_000_000 - g.token.Sequence
				return g, err
			}
		},
		"no token": func(q *queue) take {
			return func(ctx context.Context, client int) (grant, error) {
				g, err := q.take(ctx, client)
				g.token = locks.Token{}
				return g, err
			}
		},
	} {
		if m := contend(t, lock(newQueue())); m.register.violations == 0 {
			t.Errorf("%s: no violation of %d", name, m.register.acquired)
		}
	}
}

func token(sequence uint64) locks.Token { return locks.Token{Incarnation: 1, Sequence: sequence} }

// Who is inside together with whom, and with which tokens.
func TestRegisterTellsWhoMayBeInside(t *testing.T) {
	writer := func(sequence uint64) grant { return grant{token: token(sequence)} }
	reader := func(sequence uint64) grant { return grant{token: token(sequence), shared: true} }
	for name, test := range map[string]struct {
		inside, left []grant // left have been there before
		enters       grant
		violation    bool
	}{
		"a first writer":                        {enters: writer(1)},
		"a writer after a writer":               {left: []grant{writer(1)}, enters: writer(2)},
		"a writer beside a writer":              {inside: []grant{writer(1)}, enters: writer(2), violation: true},
		"a writer beside a reader":              {inside: []grant{reader(1)}, enters: writer(2), violation: true},
		"a reader beside a writer":              {inside: []grant{writer(1)}, enters: reader(2), violation: true},
		"a reader beside a reader":              {inside: []grant{reader(1)}, enters: reader(1)},
		"an earlier reader beside a reader":     {inside: []grant{reader(2)}, enters: reader(1)},
		"a reader after a writer, same token":   {left: []grant{writer(2)}, enters: reader(2), violation: true},
		"a reader after a writer, lesser token": {left: []grant{writer(2)}, enters: reader(1), violation: true},
		"a writer after a reader, same token":   {left: []grant{reader(2)}, enters: writer(2), violation: true},
		"a writer after a writer, lesser token": {left: []grant{writer(2)}, enters: writer(1), violation: true},
	} {
		r := newRegister(1)
		for _, g := range test.left {
			r.enter(0, g, time.Now())
			r.leave(g)
		}
		for _, g := range test.inside {
			r.enter(0, g, time.Now())
		}
		if r.violations > 0 {
			t.Errorf("%s: a violation before it enters", name)
		}
		if r.enter(0, test.enters, time.Now()); (r.violations == 1) != test.violation {
			t.Errorf("%s: %d violations", name, r.violations)
		}
	}
}

func TestJain(t *testing.T) {
	for _, test := range []struct {
		shares []int64
		want   float64
	}{
		{[]int64{5, 5, 5, 5}, 1}, {[]int64{8, 0, 0, 0}, 0.25}, {[]int64{1, 3}, 0.8}, {[]int64{0, 0}, 0}, {nil, 0},
	} {
		if got := jain(test.shares); got != test.want {
			t.Errorf("%v: %v, want %v", test.shares, got, test.want)
		}
	}
}

// atTargets is a report that reaches each target, and nothing more; one of its rounds is spoilt.
func atTargets() *LocksReport {
	good, spoilt := LocksRatios{P50At1: 3.5, PairsAt64: 0.8, HandOffP50: 3, HandOffP99: 8}, LocksRatios{P50At1: 99, HandOffP50: 99, HandOffP99: 99}
	return &LocksReport{
		Settings: LocksSettings{Replicas: 1},
		Rows: []LocksRow{
			{Mode: uncontended, Clients: 16},
			{Mode: contended, Clients: 16, Jain: 0.99},
			{Mode: contended, Clients: 64, Jain: 0.5},
			{Mode: sharedMode, Clients: 16},
		},
		Rounds: []LocksRatios{good, spoilt, good},
	}
}

func TestTargets(t *testing.T) {
	report := atTargets()
	if report.compare(); len(report.Missed) != 0 || report.Missed == nil {
		t.Errorf("missed %q, want an empty list", report.Missed)
	}
	for name, change := range map[string]func(*LocksReport){
		"p50 of Lock":  func(r *LocksReport) { r.Rounds[2].P50At1 = 3.6 },
		"pairs/s":      func(r *LocksReport) { r.Rounds[2].PairsAt64 = 0.79 },
		"hand-off p50": func(r *LocksReport) { r.Rounds[2].HandOffP50 = 3.1 },
		"hand-off p99": func(r *LocksReport) { r.Rounds[2].HandOffP99 = 8.1 },
		"Jain":         func(r *LocksReport) { r.Rows[1].Jain = 0.98 },
		"violations":   func(r *LocksReport) { r.Rows[3].Violations = 1 },
	} {
		report := atTargets()
		change(report)
		if report.compare(); len(report.Missed) != 1 || !strings.HasPrefix(report.Missed[0], name) {
			t.Errorf("%s: missed %q", name, report.Missed)
		}
		var table bytes.Buffer
		if err := report.WriteTable(&table); err != nil || strings.Count(table.String(), "MISSED") != 1 {
			t.Errorf("%s: %v\n%s", name, err, table.String())
		}
	}
	report = atTargets()
	report.Settings.Replicas, report.Rounds[2].P50At1, report.Rounds[2].PairsAt64 = 3, 100, 0.1
	if report.compare(); len(report.Missed) != 0 {
		t.Errorf("at three replicas %q was missed", report.Missed)
	}
}

func TestMedian(t *testing.T) {
	report := &LocksReport{}
	for _, test := range []struct{ next, want float64 }{{3, 3}, {1, 2}, {100, 3}, {5, 4}} {
		report.Rounds = append(report.Rounds, LocksRatios{P50At1: test.next})
		if report.compare(); report.Ratios.P50At1 != test.want {
			t.Errorf("the median of %v is %v, want %v", report.Rounds, report.Ratios.P50At1, test.want)
		}
	}
}
