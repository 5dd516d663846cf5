// SPDX-License-Identifier: Apache-2.0

//go:build unix

package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assent-tx/assent/internal/elle"
)

// dir is where TestMain's program is built.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "check-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program is the real one, built once.
var program = sync.OnceValues(func() (string, error) {
	exe := filepath.Join(dir, "assent")
	out, err := exec.Command("go", "build", "-o", exe, "github.com/assent-tx/assent/cmd/assent").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return exe, nil
})

func run(t *testing.T, cfg Config) (*Report, *bytes.Buffer) {
	t.Helper()
	var err error
	if cfg.Exe, err = program(); err != nil {
		t.Fatal(err)
	}
	history := &bytes.Buffer{}
	cfg.Dir, cfg.History, cfg.Seed, cfg.brief = filepath.Join(t.TempDir(), "data"), history, 1, true
	cfg.Event = func(text string) { t.Log(text) }
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	report, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report, history
}

// wantReal: the run was one, with its faults.
func wantReal(t *testing.T, r *Report, transactions int, faults ...string) {
	t.Helper()
	if r.Transactions < transactions || r.Committed < transactions/2 {
		t.Errorf("%d of %d transactions committed, want most of at least %d", r.Committed, r.Transactions, transactions)
	}
	for _, f := range faults {
		if r.Faults[f] == 0 {
			t.Errorf("no fault %q in %v", f, r.Faults)
		}
	}
	if r.UnknownReads > r.Operations/5 {
		t.Errorf("%d of %d operations are reads of which nobody heard", r.UnknownReads, r.Operations)
	}
}

// everyFault is what a run without Config.Faults suffers. In short mode processes are only killed.
var everyFault = []string{
	"kill store", "kill coordinator", "pause store", "pause coordinator", "cut store", "cut clients", "lose store", "lose clients",
}

func shorten(cfg *Config) (faults []string) {
	if !testing.Short() {
		return everyFault
	}
	cfg.Faults, cfg.Transactions = []string{Kill}, cfg.Transactions/2
	return everyFault[:2]
}

// With keys the transactions are strict serializable, whatever goes wrong; with a coordinator that is killed another takes over.
func TestWithKeys(t *testing.T) {
	t.Parallel() // they wait, mostly
	cfg := Config{Transactions: 300, Every: 200 * time.Millisecond}
	faults := shorten(&cfg)
	r, _ := run(t, cfg)
	wantReal(t, r, cfg.Transactions, faults...)
	wantNone(t, r)
}

func TestBankWithKeys(t *testing.T) {
	t.Parallel() // they wait, mostly
	r, _ := run(t, Config{Workload: Bank, Transactions: 300, Keys: 6, Coordinators: 2, Faults: []string{Pause, Cut}, Every: 100 * time.Millisecond})
	wantReal(t, r, 300, "pause store", "pause coordinator", "cut store", "cut coordinator", "cut clients")
	wantNone(t, r)
}

// Key-value buckets are as isolated as anything else.
func TestBuckets(t *testing.T) {
	t.Parallel()
	r, _ := run(t, Config{Workload: KV, Transactions: 200, Every: 300 * time.Millisecond})
	wantReal(t, r, 200, "kill coordinator", "pause coordinator", "cut clients", "lose clients")
	wantNone(t, r)
}

func wantNone(t *testing.T, r *Report) {
	t.Helper()
	if r.OK() && r.Keys {
		return
	}
	t.Errorf("keys %v: found %v", r.Keys, r.Counts)
	for i := range r.Anomalies {
		var text strings.Builder
		if err := r.Anomalies[i].WriteText(&text); err != nil {
			t.Error(err)
		}
		t.Log(text.String())
	}
}

// Without keys there are anomalies, and they are found: in the same history again, when it is read from its file.
func TestWithoutKeys(t *testing.T) {
	t.Parallel() // they wait, mostly
	cfg := Config{NoKeys: true, Transactions: 300, Every: 200 * time.Millisecond}
	faults := shorten(&cfg)
	r, history := run(t, cfg)
	wantReal(t, r, cfg.Transactions, faults...)
	if r.Keys || r.OK() || r.Counts[elle.G2Item]+r.Counts[elle.GSingle] == 0 {
		t.Errorf("found %v", r.Counts)
	}
	h, err := elle.Decode(history)
	if err != nil {
		t.Fatal(err)
	}
	if again := elle.Check(h, elle.Options{}); fmt.Sprint(again.Counts) != fmt.Sprint(r.Counts) || again.Transactions != r.Transactions {
		t.Errorf("its file has %v, the run %v", again.Counts, r.Counts)
	}
}

// A bank without keys shows sums that never were.
func TestBankWithoutKeys(t *testing.T) {
	t.Parallel() // they wait, mostly
	r, _ := run(t, Config{Workload: Bank, NoKeys: true, Transactions: 400, Keys: 4, Faults: []string{}})
	wantReal(t, r, 400)
	if r.Counts[elle.WrongTotal] == 0 || len(r.Faults) != 0 {
		t.Errorf("found %v, with the faults %v", r.Counts, r.Faults)
	}
}

func TestConfig(t *testing.T) {
	for want, cfg := range map[string]Config{
		`workload "queue": want append, bank or kv`: {Workload: "queue"},
		"clients 2000: want 1 to 1024":              {Clients: 2000},
		"participants -1: want 1 to 64":             {Participants: -1},
		"coordinators 9: want 1 to 5":               {Coordinators: 9},
		`faults "fire": want some of kill`:          {Faults: []string{"fire"}},
		"keys 1: a bank has 2 to 1024 accounts":     {Workload: Bank, Keys: 1},
		"no-keys: transactions over buckets":        {Workload: KV, NoKeys: true},
		"want at least 10ms":                        {Every: time.Millisecond},
		`name "a b": want at most`:                  {Name: "a b"},
	} {
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
	if err := (&Config{}).Check(); err != nil {
		t.Error(err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Config{Dir: full}); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("%v, want that the directory is not empty", err)
	}
}

// A process that dies unasked ends the check, with its own words.
func TestChildThatDies(t *testing.T) {
	_, err := Run(t.Context(), Config{Exe: "/bin/false", Dir: filepath.Join(t.TempDir(), "data")})
	if err == nil || !strings.Contains(err.Error(), "ended by itself") || errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it ended by itself", err)
	}
}

// Each append has a value of its own, a list gives way when it is full, and in the end each is read once.
func TestAppendPlan(t *testing.T) {
	cfg := Config{Appends: 5, Participants: 3, Keys: 4}
	cfg.setDefaults()
	p := newPlanner(&cfg)
	r := rand.New(rand.NewPCG(1, 1))
	appended := make(map[string]int)
	b := elle.NewBuilder() // refuses a value twice
	for i := range int32(300) {
		ops := p.next(r)
		if len(ops) < 1 || len(ops) > maxOperations {
			t.Fatalf("%d operations", len(ops))
		}
		for _, o := range ops {
			if o.Op == elle.Append {
				appended[o.Key]++
			}
			if at := p.place(o.Key); at < 0 || at >= cfg.Participants {
				t.Fatalf("%s is at %d", o.Key, at)
			}
		}
		if err := b.Add(&elle.Event{Type: elle.Invoke, Process: i, Operations: ops}); err != nil {
			t.Fatal(err)
		}
	}
	read := make(map[string]int)
	for _, ops := range p.last() {
		for _, o := range ops {
			read[o.Key]++
		}
	}
	for key, n := range appended {
		if n > cfg.Appends || read[key] != 1 {
			t.Errorf("%s has %d appends, at most %d, and is read %d times", key, n, cfg.Appends, read[key])
		}
	}
	if len(appended) < 20 {
		t.Errorf("%d lists", len(appended))
	}
}
