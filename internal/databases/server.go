// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNotInstalled is wrapped by the error of a start that does not find the server's programs. Its text says what to install.
var ErrNotInstalled = errors.New("not installed")

// patience is how long a server may take to start (which includes its recovery) and to stop.
const patience = time.Minute

// kind is what the databases differ in.
type kind struct {
	name string
	// files is the folder of the data, in Server.dir; it is there when the data has been initialised.
	files string
	// initialise gives the command that makes the files, and serve the one that runs on them.
	initialise, serve func(s *Server) (*exec.Cmd, error)
	// stop is the signal of an orderly end.
	stop os.Signal
	// ping connects once, and createDatabase does what it says.
	ping           func(ctx context.Context, s *Server) error
	createDatabase func(ctx context.Context, s *Server, name string) error
	dsn            func(s *Server, database string) string
	// swept removes what a killed server leaves outside of its folders.
	swept func(s *Server)
}

// Server is a database server. Its methods may be called by several goroutines, those that start and end it one at a time.
type Server struct {
	kind     *kind
	dir      string // data and log
	sockets  string // the socket's folder: its path has to be short
	keep     bool   // dir is the caller's
	settings []string

	mu      sync.Mutex // orders Start, Stop, Kill and Close
	process *process   // nil while it does not run
	names   atomic.Int64
}

// start makes the data, unless dir has some, and starts a server.
func start(k *kind, dir string, settings []string) (*Server, error) {
	s := &Server{kind: k, dir: dir, keep: dir != "", settings: settings}
	err := s.prepare()
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare makes folders, and the data in them.
func (s *Server) prepare() (err error) {
	if _, err := s.kind.serve(s); err != nil {
		return err
	}
	if s.sockets, err = os.MkdirTemp("", "assent-db-"); err != nil {
		return fmt.Errorf("databases: %w", err)
	}
	if s.keep {
		if s.dir, err = filepath.Abs(s.dir); err == nil {
			err = os.MkdirAll(s.dir, 0o700)
		}
	} else {
		s.dir, err = os.MkdirTemp("", "assent-db-")
	}
	if err != nil {
		return fmt.Errorf("databases: %w", err)
	}
	for _, folder := range []string{s.dir, s.sockets} {
		if err := giveTo(folder); err != nil {
			return fmt.Errorf("databases: %w", err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, s.kind.files)); err == nil {
		return nil
	}
	command, err := s.kind.initialise(s)
	if err != nil {
		return err
	}
	s.house(command)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("databases: %s: %w\n%s", command, err, out)
	}
	return nil
}

// house makes sure that a command works in the server's folder only, and does not outlive this process. A MariaDB that starts removes all temporary
// tables from where it keeps its own, also those that another server has in use, which aborts then.
func (s *Server) house(command *exec.Cmd) {
	command.Dir, command.SysProcAttr = s.dir, bound()
	command.Env = append(command.Environ(), "TMPDIR="+s.dir)
}

// Start starts a server that was stopped or killed, on its data, and returns when it accepts connections.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return errors.New("databases: it runs already")
	}
	command, err := s.kind.serve(s)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("databases: %w", err)
	}
	defer log.Close() //nolint:errcheck // the server writes it, not this
	command.Stdout, command.Stderr = log, log
	s.house(command)
	if s.process, err = run(command); err != nil {
		return fmt.Errorf("databases: %w", err)
	}
	if err := s.awaitReady(); err != nil {
		return errors.Join(err, s.end(s.process.kill))
	}
	return nil
}

// awaitReady waits for the first connection.
func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		err := s.kind.ping(ctx, s)
		if err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-s.process.ended:
			return fmt.Errorf("databases: %s ended by itself; its log ends with\n%s", s.kind.name, s.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("databases: %s does not answer after %v: %w; its log ends with\n%s", s.kind.name, patience, err, s.LogTail())
		}
	}
}

// Kill ends the server with SIGKILL, all of its processes at once, as a crash of the machine would, but that the operating
// system keeps what was written and not synced. A server that does not run stays so.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	return s.end(s.process.kill)
}

// Stop ends the server in order: connections are cut, what is prepared stays prepared.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	return s.end(func() error { return s.process.command.Process.Signal(s.kind.stop) })
}

// end ends the process somehow and waits for that.
func (s *Server) end(somehow func() error) error {
	if err := somehow(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("databases: ending %s: %w", s.kind.name, err)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-s.process.ended:
		s.process = nil
		return nil
	case <-limit.C:
		return fmt.Errorf("databases: %s does not end; its log ends with\n%s", s.kind.name, s.LogTail())
	}
}

// Close ends the server for good and removes its folders; the data stays if the caller said where it is to be.
func (s *Server) Close() error {
	err := s.Stop()
	if err != nil {
		err = errors.Join(err, s.Kill())
	}
	s.kind.swept(s)
	for _, folder := range []string{s.sockets, s.dir} {
		if folder != "" && (folder != s.dir || !s.keep) {
			err = errors.Join(err, os.RemoveAll(folder))
		}
	}
	return err
}

// DSN says how to connect to a database of the server: a URL for pgx, a data source name for go-sql-driver/mysql. It stays the same.
func (s *Server) DSN(database string) string { return s.kind.dsn(s, database) }

// CreateDatabase makes an empty database.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	if err := s.kind.createDatabase(ctx, s, name); err != nil {
		return fmt.Errorf("databases: making database %s: %w", name, err)
	}
	return nil
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// LogTail is the end of the server's own log.
func (s *Server) LogTail() string {
	const most = 4000
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}
