// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// progress shows how far something is: a bar on a terminal, a line for each step elsewhere. It belongs to one goroutine.
type progress struct {
	out      io.Writer
	terminal bool
	step     string
	open     bool // the bar's line is not ended
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// barWidth is the bar's, in characters.
const barWidth = 30

// show tells the step and what part of the whole is done, 0 to 1.
func (p *progress) show(step string, done float64) {
	changed := step != p.step
	p.step = step
	switch {
	case p.terminal:
		full := int(done * barWidth)
		fmt.Fprintf(p.out, "\r\033[K[%s%s] %3.0f %%  %s", strings.Repeat("█", full), strings.Repeat("·", barWidth-full), 100*done, step)
		p.open = true
	case changed:
		fmt.Fprintf(p.out, "%3.0f %%  %s\n", 100*done, step)
	}
}

// end removes the bar, so that what is printed next has the line. It may be called twice.
func (p *progress) end() {
	if p.open {
		fmt.Fprint(p.out, "\r\033[K")
		p.open = false
	}
}
