// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
)

func TestQuietUnlessAsked(t *testing.T) {
	run := func(level logrus.Level) []*logrus.Entry {
		log, hook := test.NewNullLogger()
		log.SetLevel(level)
		s := start(t, Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "s3cret", Log: log})
		must(t, publish(connect(t, s), []byte("a payload")))
		must(t, s.Close())
		return hook.AllEntries()
	}
	if got := run(logrus.InfoLevel); len(got) != 0 {
		t.Errorf("a good run logs %d lines at info, first %q", len(got), got[0].Message)
	}
	debug, trace := run(logrus.DebugLevel), run(logrus.TraceLevel)
	if len(debug) == 0 || len(trace) <= len(debug) {
		t.Errorf("%d lines at debug, %d at trace", len(debug), len(trace))
	}
	for _, e := range append(debug, trace...) {
		if e.Data["component"] != "nats-server" {
			t.Errorf("%q lacks its component", e.Message)
		}
		if strings.Contains(e.Message, "s3cret") || strings.Contains(e.Message, "a payload") {
			t.Errorf("the log shows %q", e.Message)
		}
	}
}

func TestLevels(t *testing.T) {
	log, hook := test.NewNullLogger()
	log.SetLevel(logrus.TraceLevel)
	l := newNATSLog(log)
	must(t, l.start())
	for want, line := range map[logrus.Level]func(string, ...any){
		logrus.ErrorLevel: l.Errorf,
		logrus.WarnLevel:  l.Warnf,
		logrus.DebugLevel: l.Noticef,
		logrus.TraceLevel: l.Debugf,
	} {
		line("%d lines", 2)
		if got := hook.LastEntry(); got.Level != want || got.Message != "2 lines" {
			t.Errorf("want level %v, got %v %q", want, got.Level, got.Message)
		}
	}
	hook.Reset()
	l.Tracef("a payload")
	if n := len(hook.AllEntries()); n != 0 {
		t.Errorf("a protocol trace was logged")
	}
	l.Fatalf("fatal, %s", "later")
	if got := hook.LastEntry(); got == nil || got.Level != logrus.ErrorLevel {
		t.Errorf("a fatal line after the start: got %v", got)
	}
}

func TestFatalLineFailsTheStart(t *testing.T) {
	log, hook := test.NewNullLogger()
	l := newNATSLog(log)
	l.Fatalf("cannot read %s: %v", "it", io.ErrUnexpectedEOF)
	l.Fatalf("what follows from that")
	if err := l.start(); !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != "cannot read it: unexpected EOF" {
		t.Errorf("got %v", err)
	}
	if n := len(hook.AllEntries()); n != 0 {
		t.Error("an error that is returned was logged as well")
	}
}

func TestNilLoggerDiscards(t *testing.T) {
	var std bytes.Buffer
	out := logrus.StandardLogger().Out
	logrus.SetOutput(&std)
	defer logrus.SetOutput(out)
	l := newNATSLog(nil)
	must(t, l.start())
	l.Errorf("an error")
	if std.Len() != 0 || l.entry.Logger.IsLevelEnabled(logrus.ErrorLevel) || l.wantsDebug() {
		t.Errorf("logged %q", std.String())
	}
}
