// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"context"
	"errors"
	"net/url"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// StartPostgres starts a PostgreSQL server on the data in a folder, which it makes if there is none; "" is a temporary
// one that Close removes. Settings are as in postgresql.conf ("max_connections=20"). The user is postgres, who may
// do everything, without a password. Beyond PostgreSQL's defaults it has 256 places for prepared transactions and 200
// connections.
func StartPostgres(dir string, settings ...string) (*Server, error) {
	return start(postgres, dir, settings)
}

var postgres = &kind{
	name:       "PostgreSQL",
	files:      "data",
	initialise: initdb,
	serve:      postmaster,
	stop:       syscall.SIGINT, // "fast": without waiting for clients
	dsn: func(s *Server, database string) string {
		query := url.Values{"host": {s.sockets}, "port": {"5432"}}
		return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: query.Encode()}).String()
	},
	ping: func(ctx context.Context, s *Server) error {
		return withPostgres(ctx, s, func(*pgx.Conn) error { return nil })
	},
	createDatabase: func(ctx context.Context, s *Server, name string) error {
		return withPostgres(ctx, s, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
			return err
		})
	},
	swept: sweepPostgres,
}

const postgresMissing = "PostgreSQL's programs %s: %w: install them (Debian, Ubuntu: apt-get install postgresql), or put them into PATH"

func initdb(s *Server) (*exec.Cmd, error) {
	program, err := find("initdb", postgresMissing)
	if err != nil {
		return nil, err
	}
	return exec.Command(program, "--pgdata="+filepath.Join(s.dir, "data"), "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"), nil
}

func postmaster(s *Server) (*exec.Cmd, error) {
	program, err := find("postgres", postgresMissing)
	if err != nil {
		return nil, err
	}
	arguments := []string{
		"-D", filepath.Join(s.dir, "data"), "-c", "listen_addresses=", "-c", "unix_socket_directories=" + s.sockets, "-c", "port=5432",
		"-c", "max_prepared_transactions=256", "-c", "max_connections=200",
		"-c", "dynamic_shared_memory_type=mmap", // in the folder, where a killed server leaves nothing that stays
	}
	for _, setting := range s.settings {
		arguments = append(arguments, "-c", setting)
	}
	return exec.Command(program, arguments...), nil
}

func withPostgres(ctx context.Context, s *Server, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close(ctx))
}
