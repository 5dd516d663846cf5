// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// A row is a row whatever others wrote: the reasons of errors.Join have several lines.
func TestTableOfWhatHasSeveralLines(t *testing.T) {
	var out strings.Builder
	rows := newTable(&out, "TRANSACTION", "REASON", "OWED")
	rows.row("1", "no stock\nno\tmoney", "")
	rows.row("2", "late\x1b[2J", "bank-a")
	rows.flush()
	want := "TRANSACTION  REASON             OWED\n" +
		"1            no stock no money  -\n" +
		"2            late·[2J           bank-a\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
