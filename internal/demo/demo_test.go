// SPDX-License-Identifier: Apache-2.0

//go:build unix

package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent"
)

// dir is where TestMain's program is built.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "demo-test-"); err != nil {
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

func configure(t *testing.T) Config {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Exe: exe, Dir: filepath.Join(t.TempDir(), "data"), Transfers: 200, Concurrency: 16, Seed: 1,
		Event: func(text string) { t.Log(text) },
	}
}

func run(t *testing.T, cfg Config) (*Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	return Run(ctx, cfg)
}

func TestEverybodyAgreesAfterTheFaults(t *testing.T) {
	report, err := run(t, configure(t))
	if err != nil {
		t.Fatal(err)
	}
	if report.Submitted != 200 || report.Committed+report.Aborted != 200 || report.Committed == 0 || report.Aborted == 0 {
		t.Errorf("of 200 transfers %d were submitted, %d committed, %d aborted", report.Submitted, report.Committed, report.Aborted)
	}
	if report.Kills != 3 || report.RecoveryMS <= 0 || len(report.Faults) != 3 {
		t.Errorf("%d kills, recovery in %v ms, %+v", report.Kills, report.RecoveryMS, report.Faults)
	}
	for _, f := range report.Faults {
		if f.Again <= 0 {
			t.Errorf("nothing was committed after the kill of %s: the load had ended", f.Victim)
		}
	}
	if report.TotalBefore != report.TotalAfter || report.TotalBefore != 2*accountsPerBank*openingBalance {
		t.Errorf("the total was %d and is %d", report.TotalBefore, report.TotalAfter)
	}
}

// Of two coordinators the one that leads is killed; the other takes over, and all agree.
func TestTheCoordinatorThatLeadsIsKilled(t *testing.T) {
	cfg := configure(t)
	cfg.Coordinators = 2
	report, err := run(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Committed+report.Aborted != 200 || report.Kills != 3 || report.RecoveryMS <= 0 || len(report.Faults) != 3 {
		t.Fatalf("%+v", report)
	}
	if victim := report.Faults[1].Victim; victim != "coordinator-1" && victim != "coordinator-2" {
		t.Errorf("%s was killed, want a coordinator", victim)
	}
}

// One transfer and more clients than transfers: the faults come all the same.
func TestFewTransfers(t *testing.T) {
	for _, transfers := range []int{1, 2, 5} {
		cfg := configure(t)
		cfg.Transfers = transfers
		report, err := run(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if report.Submitted != transfers || report.Kills != 3 {
			t.Errorf("%+v", report)
		}
	}
}

// A bank that forgot a commit is found out, by its transaction's name, and what is needed to look into it is kept.
func TestTamperedBankIsFoundOut(t *testing.T) {
	cfg := configure(t)
	cfg.NoFaults = true
	var lost assent.ID
	cfg.tamper = func(dir string) error {
		db, err := bbolt.Open(filepath.Join(dir, "bank-b.db"), 0o600, nil)
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			ended := tx.Bucket([]byte("ended"))
			cursor := ended.Cursor()
			for key, list := cursor.First(); key != nil; key, list = cursor.Next() {
				for at := 0; at < len(list); at += len(lost) + 1 {
					if entry := list[at : at+len(lost)+1]; entry[len(lost)] == 1 { // committed
						lost = assent.ID(entry[:len(lost)])
						return ended.Put(bytes.Clone(key), slices.Delete(bytes.Clone(list), at, at+len(entry)))
					}
				}
			}
			return errors.New("nothing was committed")
		})
		return errors.Join(err, db.Close())
	}
	report, err := run(t, cfg)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || report == nil {
		t.Fatalf("got %v, %v; want a mismatch and a report", report, err)
	}
	want := "transaction " + lost.String() + ": its client was told committed, bank-b has not applied it"
	if len(mismatch.Mismatches) != 1 || mismatch.Mismatches[0] != want {
		t.Errorf("found %q, want %q", mismatch.Mismatches, want)
	}
	if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), cfg.Dir) {
		t.Errorf("the error does not say what and where: %v", err)
	}
	for _, name := range []string{"bank-a.db", "bank-b.db", "serve", "serve.log", "bank-a.log"} {
		if _, err := os.Stat(filepath.Join(cfg.Dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// A process that dies unasked ends the demo, with its own words.
func TestProcessThatDies(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "assent")
	if err := os.WriteFile(exe, []byte("#!/bin/sh\necho 'the port is taken' >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Exe: exe, Dir: filepath.Join(t.TempDir(), "data"), Transfers: 10, Concurrency: 1}
	_, err := run(t, cfg)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"assent serve", "ended by itself", "exit status 3", "the port is taken", cfg.Dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not have %q: %v", want, err)
		}
	}
}

// Interrupted in the middle, it leaves no process behind.
func TestInterrupted(t *testing.T) {
	cfg := configure(t)
	cfg.Transfers = MaxTransfers
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var pids []int
	cfg.Event = func(text string) {
		for _, number := range regexp.MustCompile(`(?:process|bank-a|bank-b) (\d+)`).FindAllStringSubmatch(text, -1) {
			pid, err := strconv.Atoi(number[1])
			if err != nil {
				t.Error(err)
			}
			pids = append(pids, pid)
		}
	}
	cfg.Progress = func(ended, _ int) {
		if ended > 0 {
			cancel()
		}
	}
	if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if len(pids) != 3 {
		t.Errorf("the processes are %v, want three", pids)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v, want that it is gone and reaped", pid, err)
		}
	}
}

func TestBadConfig(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := Config{Exe: "none", Dir: full, Transfers: 1, Concurrency: 1}
	for want, change := range map[string]func(*Config){
		"transfers 0: want 1 to 200000":    func(c *Config) { c.Transfers = 0 },
		"transfers 200001: want 1 to":      func(c *Config) { c.Transfers = MaxTransfers + 1 },
		"concurrency 0: want 1 to 4096":    func(c *Config) { c.Concurrency = 0 },
		"concurrency 4097: want 1 to 4096": func(c *Config) { c.Concurrency = MaxConcurrency + 1 },
		"coordinators 6: want 1 to 5":      func(c *Config) { c.Coordinators = MaxCoordinators + 1 },
		"nodes 17: want 1 to 16":           func(c *Config) { c.Nodes = MaxNodes + 1 },
		"nodes -1: want 1 to 16":           func(c *Config) { c.Nodes = -1 },
		"rebalance: want nodes, too":       func(c *Config) { c.Rebalance = true },
		full + " is not empty":             func(*Config) {},
	} {
		cfg := good
		change(&cfg)
		if _, err := run(t, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
