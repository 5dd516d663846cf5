// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
)

// Somebody publishes straight onto the log's subjects: a wrong script, an old program, an attacker with too many rights.
// Every reader ignores what it cannot read, alike; nothing stops, and nobody else's transaction changes.

func TestGarbageInTheLog(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	l := c.load(4)
	l.more(10)
	for subject, bodies := range garbage() {
		for _, body := range bodies {
			if err := c.nc.Publish(subject, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	l.more(20)
	c.leader.kill() // replay meets it too
	c.leader.restart()
	c.banks["bank-a"].kill()
	c.banks["bank-a"].restart()
	l.more(20)
	l.stop()
	// A well formed prepare for a name that never registered is a debt that only this name can settle.
	c.join("nobody").start()
	c.check()
}

// garbage is messages by subject.
func garbage() map[string][][]byte {
	id := assent.NewID().String()
	soon := time.Now().Add(2 * time.Second).UnixMilli()
	huge := bytes.Repeat([]byte("x"), 1000<<10)
	rubbish := [][]byte{
		nil, []byte("\n\n\n"), []byte("garbage"), {0, 1, 2, 0xff, 0xfe, '\n', 0}, huge, []byte(`{}`), []byte(`[]`), []byte(`null`),
		[]byte(`{"tx":"` + id + `"}`), []byte(`{"tx":"` + id + `","tx":"` + id + `"}`), []byte(`{"tx":7,"vote":true}`),
		[]byte(strings.Repeat(`{"tx":"`+id+`","vote":"maybe"}`+"\n", 600)), bytes.Repeat([]byte("["), 10_000),
	}
	prepare := func(participants string, expires int64) []byte {
		return fmt.Appendf(nil, `{"tx":%q,"participants":[%s],"expires":%d,"operations":[{"payload":{"account":1,"cents":0}}]}`, assent.NewID(), participants, expires)
	}
	return map[string][][]byte{
		// Well formed, and nobody submitted it: it expires, or its participants decide it.
		"assent.log.0.prepare.bank-a": append(slices.Clone(rubbish), prepare(`"bank-a","nobody"`, soon), prepare(`"bank-a"`, soon), prepare(`"bank-b"`, soon), prepare(`"bank-a"`, 1)),
		"assent.log.0.prepare.nobody": append(slices.Clone(rubbish), prepare(`"nobody"`, soon)),
		"assent.log.0.vote.bank-a":    append(slices.Clone(rubbish), []byte(`{"tx":"`+id+`","vote":"yes"}`), []byte(`{"tx":"`+id+`","vote":"no","reason":"because"}`)),
		"assent.log.0.vote.nobody":    append(slices.Clone(rubbish), []byte(`{"tx":"`+id+`","vote":"yes"}`)),
		"assent.log.0.abort":          append(slices.Clone(rubbish), []byte(`{"tx":"`+id+`","reason":"because"}`)),
		"assent.log.0.finished":       append(slices.Clone(rubbish), []byte(`{"tx":"`+id+`","through":18446744073709551615}`), []byte(`{"tx":"`+id+`","through":1}`)),
		"assent.log.0.prepare.a.b":    rubbish,
		"assent.log.0.unknown.bank-a": rubbish,
		"assent.log.0.vote":           rubbish,
		// Not stored: phase two and the doors.
		"assent.done.0.bank-a":     append(slices.Clone(rubbish), []byte(`{"tx":"`+id+`","vote":1}`)),
		"assent.done.0.nobody":     append(slices.Clone(rubbish), []byte(`{"tx":"`+id+`","vote":1,"heuristic":"x"}`)),
		"assent.commit.0.bank-a":   append(slices.Clone(rubbish), []byte(`{"tx":"`+id+`","vote":1}`)),
		"assent.rollback.0.bank-a": rubbish,
		"assent.rollback.x.bank-a": rubbish,
		"assent.submit.0":          rubbish,
		"assent.wait.0":            rubbish,
		"assent.api.register":      rubbish,
		"assent.api.tx.show":       rubbish,
		"assent.api.nothing":       rubbish,
	}
}

// A record of a newer protocol version must not be guessed at: whoever reads it stops, and says why. Nothing that was decided
// before is touched.
func TestNewerVersionInTheLog(t *testing.T) {
	for subject, readers := range map[string][]string{
		"assent.log.0.vote.bank-a":    {"coordinator"},
		"assent.log.0.prepare.bank-a": {"coordinator", "bank-a"},
	} {
		t.Run(strings.ReplaceAll(subject, ".", "-"), func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{})
			c.transfers(10)
			c.settle()
			stored := &nats.Msg{Subject: subject, Data: []byte(`{"tx":"` + assent.NewID().String() + `","v":2,"colour":"red"}` + "\n")}
			if err := c.nc.PublishMsg(stored); err != nil {
				t.Fatal(err)
			}
			for _, name := range readers {
				n := c.node(name)
				n.proc().fail()
				n.proc().await(t)
				if n == c.leader { // it stops also when it is started again
					n.start()
					n.proc().fail()
					n.proc().await(t)
				}
				if n.proc().state.Success() {
					t.Errorf("%s: stopped without an error", name)
				}
				log, err := os.ReadFile(n.log)
				if err != nil || !bytes.Contains(log, []byte("version 2")) || !bytes.Contains(log, []byte("upgrade this")) {
					t.Errorf("%s: its log does not say what to do (%v)", name, err)
				}
			}
			c.checkMoney(c.stores())
		})
	}
}

func (c *cluster) node(name string) *node {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	c.t.Fatalf("no node %s", name)
	return nil
}
