// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
)

// logs keeps what was logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) logger() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(l)
	log.SetLevel(logrus.WarnLevel)
	return log
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logs) want(t testing.TB, text string) {
	t.Helper()
	if !strings.Contains(l.String(), text) {
		t.Errorf("the log does not say %q: %s", text, l)
	}
}
