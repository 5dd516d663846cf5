// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"fmt"
	"io"
	"sync"

	"github.com/sirupsen/logrus"
)

// natsLog is nats-server's logger: it writes to logrus one level lower than
// nats-server would, since an embedded server's start and stop are details.
// nats-server reports a failed start only as a fatal log line; until started
// is called, that line is kept as an error instead of being logged.
type natsLog struct {
	entry *logrus.Entry

	mu      sync.Mutex
	started bool
	fatal   error
}

func newNATSLog(log *logrus.Logger) *natsLog {
	if log == nil {
		log = logrus.New()
		log.SetOutput(io.Discard)
		log.SetLevel(logrus.PanicLevel)
	}
	return &natsLog{entry: log.WithField("component", "nats-server")}
}

// wantsDebug reports whether nats-server's debug lines go anywhere.
func (l *natsLog) wantsDebug() bool { return l.entry.Logger.IsLevelEnabled(logrus.TraceLevel) }

// start ends the start-up and returns what made it fail, if anything did.
func (l *natsLog) start() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = true
	return l.fatal
}

// Fatalf does not end the process: an embedded server is not in charge of it.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started {
		l.entry.Errorf(format, v...)
		return
	}
	if l.fatal == nil {
		l.fatal = startError{message: fmt.Sprintf(format, v...), cause: firstError(v)}
	}
}

func (l *natsLog) Errorf(format string, v ...any)  { l.entry.Errorf(format, v...) }
func (l *natsLog) Warnf(format string, v ...any)   { l.entry.Warnf(format, v...) }
func (l *natsLog) Noticef(format string, v ...any) { l.entry.Debugf(format, v...) }
func (l *natsLog) Debugf(format string, v ...any)  { l.entry.Tracef(format, v...) }

// Tracef drops the line: nats-server's traces show payloads.
func (l *natsLog) Tracef(string, ...any) {}

// startError is a fatal log line of nats-server, with the error that it named.
type startError struct {
	message string
	cause   error
}

func (e startError) Error() string { return e.message }
func (e startError) Unwrap() error { return e.cause }

func firstError(args []any) error {
	for _, a := range args {
		if err, ok := a.(error); ok {
			return err
		}
	}
	return nil
}
