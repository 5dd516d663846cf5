// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// maxSubject keeps a message's line of the NATS protocol, which has an inbox too, far below the server's limit of 4 KiB.
const maxSubject = 1024

// check says what is wrong with a message, whatever streams there are. A message that passes is published as it is: nothing
// of it is dropped or changed on the way.
func (m *Message) check(prefix string) error {
	if err := m.checkSubject(prefix); err != nil {
		return err
	}
	if m.Core && m.Stream != "" {
		return fmt.Errorf("a core message is not for stream %q: leave out core or stream", m.Stream)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		if err := m.checkHeader(name); err != nil {
			return err
		}
	}
	return nil
}

func (m *Message) checkSubject(prefix string) error {
	switch s := m.Subject; {
	case s == "":
		return errors.New("no subject")
	case len(s) > maxSubject:
		return fmt.Errorf("subject of %d bytes: at most %d", len(s), maxSubject)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return fmt.Errorf("subject %q: white space and control characters are not allowed", s)
	case s == prefix || strings.HasPrefix(s, prefix+"."):
		return fmt.Errorf("subject %q: %s. is reserved for the cluster itself", s, prefix)
	case strings.HasPrefix(s, "$KV.") || strings.HasPrefix(s, "$O."):
		if !m.Bucket {
			return fmt.Errorf("subject %q is a bucket's: say so by \"bucket\", if it is meant", s)
		}
	case strings.HasPrefix(s, "$"):
		return fmt.Errorf("subject %q: subjects that begin with $ are reserved", s)
	}
	for token := range strings.SplitSeq(m.Subject, ".") {
		switch token {
		case "":
			return fmt.Errorf("subject %q has an empty token", m.Subject)
		case "*", ">":
			return fmt.Errorf("subject %q has a wildcard", m.Subject)
		}
	}
	return nil
}

// checkHeader: what JetStream would refuse after the yes is refused before it.
func (m *Message) checkHeader(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(tokenRunes, r) }) {
		return fmt.Errorf("header %q: a name is letters, digits and %s", name, tokenRunes[62:])
	}
	for _, value := range m.Header[name] {
		if strings.ContainsAny(value, "\r\n\x00") || textproto.TrimString(value) != value {
			return fmt.Errorf("header %s: a value has line breaks, or white space round it", name)
		}
		if fault := checkDirective(name, value); fault != "" {
			return fmt.Errorf("header %s: %s", name, fault)
		}
	}
	return nil
}

// tokenRunes are those of a header's name, as in HTTP: every client can read it.
const tokenRunes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"

// checkDirective says what is wrong with a header that tells JetStream what to do, "" for nothing.
func checkDirective(name, value string) (fault string) {
	switch {
	case name == nats.MsgTTLHdr:
		ttl, err := time.ParseDuration(value)
		if seconds, notSeconds := strconv.ParseUint(value, 10, 31); value != "never" && (err != nil || ttl < time.Second) && (notSeconds != nil || seconds == 0) {
			return fmt.Sprintf("%q: want never, or a time of at least 1s", value)
		}
	case name == nats.MsgRollup:
		if value != nats.MsgRollupSubject && value != nats.MsgRollupAll {
			return fmt.Sprintf("%q: want %s or %s", value, nats.MsgRollupSubject, nats.MsgRollupAll)
		}
	case strings.HasPrefix(strings.ToLower(name), "nats-"):
		return "of those that tell JetStream what to do only " + nats.MsgTTLHdr + " and " + nats.MsgRollup +
			" can be promised (the outbox itself sets " + nats.MsgIdHdr + ", and " + nats.ExpectedStreamHdr + ` by "stream")`
	}
	return ""
}

// size is what the server counts of a message: header and data.
func size(msg *nats.Msg) (header, total int) {
	total = msg.Size() - len(msg.Subject)
	return total - len(msg.Data), total
}

// checkSize says whether a message is too big for the server that the outbox is connected to; 0 is no limit known.
func checkSize(msg *nats.Msg, maxPayload int64) error {
	header, total := size(msg)
	if maxPayload > 0 && int64(total) > maxPayload {
		return fmt.Errorf("message of %d bytes: the server's max_payload is %d", total, maxPayload)
	}
	if header > math.MaxUint16 {
		return fmt.Errorf("header of %d bytes: at most %d", header, math.MaxUint16)
	}
	return nil
}
