// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the reports in testdata anew")

// number is the end of a planted history's name.
var number = regexp.MustCompile(`-\d+$`)

// Each history in testdata/planted has the anomaly that its name says, and its report is the text beside it.
func TestPlanted(t *testing.T) {
	files, err := filepath.Glob("testdata/planted/*.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		t.Run(name, func(t *testing.T) {
			report := Check(readHistory(t, file), Options{})
			if class := planted(file); report.Counts[class] == 0 {
				t.Errorf("found %v, want %s", report.Counts, class)
			}
			wantText(t, strings.TrimSuffix(file, ".jsonl")+".txt", textOf(t, report))
		})
	}
}

// planted is the class of anomaly that a file's history has.
func planted(file string) Class {
	return Class(number.ReplaceAllString(strings.TrimSuffix(filepath.Base(file), ".jsonl"), ""))
}

// Of each class there are at least three.
func TestPlantedEnough(t *testing.T) {
	files, err := filepath.Glob("testdata/planted/*.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[Class]int)
	for _, file := range files {
		count[planted(file)]++
	}
	for _, class := range classes() {
		if count[class] < 3 {
			t.Errorf("%s: %d planted histories, want 3", class, count[class])
		}
	}
}

// The histories in testdata/clean are at the edge, and have no anomaly.
func TestClean(t *testing.T) {
	files, err := filepath.Glob("testdata/clean/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if r := Check(readHistory(t, file), Options{}); !r.OK() {
			t.Errorf("%s: %v", file, r.Counts)
		}
	}
}

// classes are all that there are.
func classes() (all []Class) {
	for i := range levels {
		all = append(all, levels[i].rulesOut...)
	}
	for _, s := range shapes {
		all = append(all, s.class+Process, s.class+Realtime)
	}
	return all
}

func readHistory(t *testing.T, file string) *History {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return h
}

func textOf(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	for _, class := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "%s: %d\n", class, r.Counts[class])
	}
	for _, v := range r.Levels {
		fmt.Fprintf(&b, "%s: %v\n", v.Level, v.Holds)
	}
	for i := range r.Anomalies {
		b.WriteByte('\n')
		if err := r.Anomalies[i].WriteText(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func wantText(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("the report is not that of %s (go test -rewrite writes it):\n%s", file, got)
	}
}
