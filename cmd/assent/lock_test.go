// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
)

// Nothing told the holder that its lock was taken away: it finds out when it gives it back, and does not say that all went well.
func TestALossThatIsFoundAtTheEnd(t *testing.T) {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, test := range []struct {
		args   string
		record string // that is deleted
		code   int
	}{
		{"lock k -- sh -c", "lock.k", exitLost},
		{"lock k --permits 2 -- sh -c", "semaphore.k", exitLost},
		{"elect k -- sh -c", "election.k", exitLost},
		{"lock other -- sh -c", "", exitOK},
	} {
		in, typed := io.Pipe()
		printed, out := io.Pipe()
		var errOut bytes.Buffer
		ended := make(chan int, 1)
		go func() {
			args := append(strings.Fields(test.args), "echo ready; read line")
			ended <- run(t.Context(), append([]string{"--server", server.URL()}, args...), in, out, &errOut)
			out.Close()
		}()
		if line, err := bufio.NewReader(printed).ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("%s: %q, %v", test.args, line, err)
		}
		if test.record != "" {
			releaseSilently(t, server, test.record)
		}
		fmt.Fprintln(typed)
		typed.Close()
		if code := <-ended; code != test.code {
			t.Errorf("%s: exit code %d, want %d: %s", test.args, code, test.code, &errOut)
		}
	}
}

// releaseSilently stores what locks.ForceRelease does, in whichever stream the record is, and tells the holder nothing: as if the
// message had been lost.
func releaseSilently(t *testing.T, server *embedded.Server, key string) {
	t.Helper()
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	released := 0
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		subject := "$KV." + strings.TrimPrefix(name, "KV_") + "." + key
		last, err := stream.GetLastMsgForSubject(t.Context(), subject)
		var record struct {
			Version int `json:"v"`
			Holders []struct {
				ID string `json:"id"`
			} `json:"holders"`
		}
		if err != nil || json.Unmarshal(last.Data, &record) != nil || len(record.Holders) != 1 {
			continue
		}
		forced := fmt.Appendf(nil, `{"v":%d,"forced":[%q]}`, record.Version, record.Holders[0].ID)
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: forced, Header: nats.Header{"KV-Operation": {"DEL"}}}); err != nil {
			t.Fatal(err)
		}
		released++
	}
	if released != 1 {
		t.Fatalf("%d records of %s: %v", released, key, names.Err())
	}
}
