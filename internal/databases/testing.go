// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// TB is what is needed of a testing.TB; the package does not import testing, so that a program can use it.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Postgres starts a PostgreSQL server that is a test's own, to be killed and started again; it ends with the test. See
// StartPostgres.
func Postgres(t TB, settings ...string) *Server {
	t.Helper()
	return own(t, postgres, settings)
}

// MariaDB starts a MariaDB server that is a test's own. See StartMariaDB.
func MariaDB(t TB, settings ...string) *Server {
	t.Helper()
	return own(t, mariadb, settings)
}

func own(t TB, k *kind, settings []string) *Server {
	t.Helper()
	s, err := start(k, "", settings)
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s's log ends with\n%s", k.name, s.LogTail())
		}
		if err := s.Close(); err != nil {
			t.Logf("%v", err)
		}
	})
	return s
}

// missing ends a test that has no server.
func missing(t TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNotInstalled) && os.Getenv("ASSENT_DATABASES") != "required" {
		t.Skipf("SKIPPED: %v", err)
	}
	t.Fatalf("%v", err)
}

// Database makes a database for a test and gives its DSN. It goes with the server.
func (s *Server) Database(t TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.names.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.CreateDatabase(ctx, name); err != nil {
		t.Fatalf("%v", err)
	}
	return s.DSN(name)
}

// shared are the servers of a test binary.
var shared struct {
	sync.Mutex
	ends    bool // Main sees to their end
	servers map[*kind]*Server
}

// SharedPostgres is the PostgreSQL server that the tests of a binary share; the first who asks starts it. The binary's TestMain has to
// call Main.
func SharedPostgres(t TB) *Server {
	t.Helper()
	return share(t, postgres)
}

// SharedMariaDB is the MariaDB server that the tests of a binary share.
func SharedMariaDB(t TB) *Server {
	t.Helper()
	return share(t, mariadb)
}

func share(t TB, k *kind) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.ends {
		t.Fatalf("databases: a shared server needs `databases.Main(m).Run()` in TestMain, which ends it")
	}
	if shared.servers[k] == nil {
		s, err := start(k, "", nil)
		if err != nil {
			missing(t, err)
		}
		shared.servers[k] = s
	}
	return shared.servers[k]
}

// Tests is a testing.M that ends the shared servers after its tests.
type Tests struct {
	tests interface{ Run() int }
}

// Main is for TestMain: os.Exit(databases.Main(m).Run()), or goleak.VerifyTestMain(databases.Main(m)).
func Main(tests interface{ Run() int }) Tests {
	shared.Lock()
	defer shared.Unlock()
	shared.ends, shared.servers = true, make(map[*kind]*Server)
	return Tests{tests}
}

// Run runs the tests and gives their exit code.
func (m Tests) Run() int {
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		for _, s := range shared.servers {
			if err := s.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		shared.ends, shared.servers = false, nil
	}()
	return m.tests.Run()
}
