// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
)

// tellingOf is what is printed of a transaction's outcome.
func tellingOf(t *testing.T, asJSON bool, report *outcomeReport, err error) (out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	g := &globals{out: &stdout, errOut: &stderr}
	g.JSON = asJSON
	var exit *exitError
	if failure := g.tellOutcome(report, err); failure != nil && !errors.As(failure, &exit) {
		t.Fatal(failure)
	}
	return stdout.String(), stderr.String()
}

// A transaction that was tried again because keys had moved says so, and is told by its first id.
func TestAttemptsAreTold(t *testing.T) {
	first := assent.NewID()
	last := first.Next().Next()
	report := func() *outcomeReport {
		return &outcomeReport{Tx: first, Attempts: attempts(first, last), Last: last}
	}
	out, errOut := tellingOf(t, false, report(), nil)
	if out != "committed "+first.String()+"\n" || errOut != "tried 3 times, because keys had moved; the last attempt is "+last.String()+"\n" {
		t.Errorf("%q, %q", out, errOut)
	}
	out, errOut = tellingOf(t, true, report(), nil)
	if want := `{"tx":"` + first.String() + `","outcome":"committed","attempts":3,"last":"` + last.String() + "\"}\n"; out != want || errOut != "" {
		t.Errorf("%q, %q; want %q", out, errOut, want)
	}
	if out, errOut = tellingOf(t, true, &outcomeReport{Tx: first}, nil); strings.Contains(out, "attempts") || strings.Contains(out, "last") || errOut != "" {
		t.Errorf("after one attempt: %q, %q", out, errOut)
	}
}

// The timeline of an attempt that met a move says where to look on.
func TestTheNextAttemptIsShown(t *testing.T) {
	var stdout bytes.Buffer
	g := &globals{out: &stdout}
	id := assent.NewID()
	g.printTimeline(&coordinator.Timeline{
		Tx: id, Outcome: "aborted", Participant: "n1", Reason: "k has moved", WrongOwner: 13, Next: id.Next(),
		Records: []coordinator.TimelineEntry{{Kind: "vote", Writer: "n1", Record: []byte(`{"tx":"","vote":"no","held":true,"wrong_owner":13}`)}},
	})
	for _, want := range []string{"by epoch 13); tried again as " + id.Next().String(), "no (may hold something) (wrong owner, by epoch 13)"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("want %q in\n%s", want, stdout.String())
		}
	}
}
