// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/assent-tx/assent/messages"
)

// TestScripts runs testdata/script. Beside testscript's own commands the scripts have:
//
//	start NAME PROGRAM ARGUMENTS…  runs a program in the background until its first line on standard output, which is in NAME.out
//	                               then; if it is an object with url and http, $NATS_URL and $HTTP have them
//	send NAME SIGNAL               sends TERM, INT or KILL
//	[!] end NAME                   waits until the program has ended, with exit code 0 (or not); NAME.err is its standard error
//	says NAME REGEXP               waits until its standard error matches
//	until REGEXP PROGRAM …         runs a program again and again until its standard output matches
//	exits CODE PROGRAM …           runs a program that must end with this exit code; "<FILE" as the last argument is its input
//	json KEY…                      the last standard output is exactly one JSON object, with exactly these keys
//	newid VARIABLE OFFSET          a transaction id minted now plus a duration
//	fill FROM TO                   copies a file with the variables in it replaced
//	manyparticipants N FILE        writes a transaction with that many participants
//	payload BYTES FILE             writes a transaction with a payload of that size
//	hostport URL VARIABLE          the host and port of a URL
//	get STATUS URL [TOKEN]         an HTTP GET, whose body is in the file body then
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[backgroundKey{}] = make(map[string]*background)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": cmdStart, "send": cmdSend, "end": cmdEnd, "says": cmdSays, "until": cmdUntil,
			"exits": cmdExits, "json": cmdJSON, "newid": cmdNewID, "fill": cmdFill, "get": cmdGet,
			"manyparticipants": cmdManyParticipants, "payload": cmdPayload, "hostport": cmdHostPort,
		},
	})
}

// patience is how long a script waits for anything: only a failure takes that long.
const patience = 30 * time.Second

type backgroundKey struct{}

// background is a program that a script has started.
type background struct {
	cmd   *exec.Cmd
	err   *os.File
	ended chan error
}

func backgrounds(ts *testscript.TestScript) map[string]*background {
	return ts.Value(backgroundKey{}).(map[string]*background) //nolint:errcheck // put there by Setup
}

func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := lookPath(ts, args[0])
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "NATS_URL", "NATS_CONTEXT", "NATS_CREDS", "TOKEN", "PREFIX", "GOCOVERDIR", "TMPDIR"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// lookPath finds a program of the script: its $PATH is not the test's.
func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if path, err := exec.LookPath(dir + string(os.PathSeparator) + name); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME PROGRAM ARGUMENTS…")
	}
	name := args[0]
	b := &background{cmd: command(ts, args[1:]), ended: make(chan error, 1)}
	var err error
	b.err, err = os.Create(ts.MkAbs(name + ".err"))
	ts.Check(err)
	b.cmd.Stderr = b.err
	stdout, err := b.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(b.cmd.Start())
	backgrounds(ts)[name] = b
	first := make(chan []byte, 1)
	go func() {
		all := readAndTell(stdout, first)
		err := os.WriteFile(ts.MkAbs(name+".out"), all, 0o600)
		b.ended <- errors.Join(b.cmd.Wait(), err)
	}()
	ts.Defer(func() {
		_ = b.cmd.Process.Kill()
		<-b.ended //nolint:errcheck // killed just now, if not ended before
		b.err.Close()
	})
	select {
	case line := <-first:
		ts.Check(os.WriteFile(ts.MkAbs(name+".out"), line, 0o600))
		exportReport(ts, line)
	case err := <-b.ended:
		b.ended <- err
		ts.Fatalf("%s ended before it said anything: %v\n%s", name, err, ts.ReadFile(name+".err"))
	case <-time.After(patience):
		ts.Fatalf("%s said nothing\n%s", name, ts.ReadFile(name+".err"))
	}
}

// readAndTell reads to the end, and tells the first line as soon as it is there.
func readAndTell(r io.Reader, first chan<- []byte) []byte {
	var all []byte
	told := false
	buffer := make([]byte, 4096)
	for {
		n, err := r.Read(buffer)
		all = append(all, buffer[:n]...)
		if !told && bytes.IndexByte(all, '\n') >= 0 {
			told = true
			first <- bytes.Clone(all)
		}
		if err != nil {
			return all
		}
	}
}

func exportReport(ts *testscript.TestScript, line []byte) {
	var report struct {
		URL  string `json:"url"`
		HTTP string `json:"http"`
	}
	if json.Unmarshal(line, &report) == nil && report.URL != "" {
		ts.Setenv("NATS_URL", report.URL)
		ts.Setenv("HTTP", report.HTTP)
	}
}

func lookup(ts *testscript.TestScript, name string) *background {
	b := backgrounds(ts)[name]
	if b == nil {
		ts.Fatalf("%s was not started", name)
	}
	return b
}

func cmdSend(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: send NAME TERM|INT|KILL")
	}
	ts.Check(lookup(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func cmdEnd(ts *testscript.TestScript, neg bool, args []string) {
	b := lookup(ts, args[0])
	select {
	case err := <-b.ended:
		b.ended <- nil
		if (err != nil) != neg {
			ts.Fatalf("%s ended with %v\n%s", args[0], err, ts.ReadFile(args[0]+".err"))
		}
	case <-time.After(patience):
		ts.Fatalf("%s does not end", args[0])
	}
}

// retry calls done until it is true.
func retry(ts *testscript.TestScript, what string, done func() bool) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	giveUp := time.After(patience)
	for !done() {
		select {
		case <-ticker.C:
		case <-giveUp:
			ts.Fatalf("%s: it did not happen", what)
		}
	}
}

func cmdSays(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: says NAME REGEXP")
	}
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	retry(ts, args[0]+" says "+args[1], func() bool { return want.MatchString(ts.ReadFile(args[0] + ".err")) })
}

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP PROGRAM ARGUMENTS…")
	}
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	var out []byte
	defer func() { ts.Logf("[last stdout] %s", out) }()
	retry(ts, strings.Join(args, " "), func() bool {
		out, _ = command(ts, args[1:]).Output() // what it ends with is not what is waited for
		return want.Match(out)
	})
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENTS… [<FILE]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var input []byte
	if file, ok := strings.CutPrefix(args[len(args)-1], "<"); ok {
		input = []byte(ts.ReadFile(file))
		args = args[:len(args)-1]
	}
	cmd := command(ts, args[1:])
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	out := ts.ReadFile("stdout")
	decoder := json.NewDecoder(strings.NewReader(out))
	var object map[string]json.RawMessage
	if err := decoder.Decode(&object); err != nil {
		ts.Fatalf("standard output is not a JSON object: %v: %q", err, out)
	}
	if decoder.More() {
		ts.Fatalf("more than one object on standard output: %q", out)
	}
	var keys []string
	for key := range object {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	slices.Sort(args)
	if slices.Equal(keys, args) == neg {
		ts.Fatalf("keys %q, want %q", keys, args)
	}
}

func cmdNewID(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: newid VARIABLE OFFSET")
	}
	offset, err := time.ParseDuration(args[1])
	ts.Check(err)
	id := messages.NewID()
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(time.Now().Add(offset).UnixMilli()))
	copy(id[:6], stamp[2:])
	ts.Setenv(args[0], id.String())
}

func cmdFill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill FROM TO")
	}
	filled := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(filled), 0o600))
}

func cmdManyParticipants(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: manyparticipants N FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var operations []string
	for i := range n {
		operations = append(operations, fmt.Sprintf(`{"participant":"p%d"}`, i))
	}
	text := `{"operations":[` + strings.Join(operations, ",") + `]}`
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

func cmdPayload(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: payload BYTES FILE")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	text := fmt.Sprintf(`{"operations":[{"participant":"bank-a","payload":{"vote":"yes","reason":%q}}]}`, strings.Repeat("x", n))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

func cmdHostPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hostport URL VARIABLE")
	}
	u, err := url.Parse(args[0])
	ts.Check(err)
	ts.Setenv(args[1], u.Host)
}

func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: get STATUS URL [TOKEN]")
	}
	request, err := http.NewRequest(http.MethodGet, args[1], http.NoBody)
	ts.Check(err)
	if len(args) > 2 {
		request.Header.Set("Authorization", "Bearer "+args[2])
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("body"), body, 0o600))
	if got := strconv.Itoa(response.StatusCode); got != args[0] {
		ts.Fatalf("%s: status %s, want %s: %s", args[1], got, args[0], body)
	}
}
