// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"context"
	"database/sql"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// StartMariaDB starts a MariaDB server on the data in a folder, which it makes if there is none; "" is a temporary one that
// Close removes. Settings are as in my.cnf ("max_connections=20"). The user is root, who may do everything, without a
// password.
func StartMariaDB(dir string, settings ...string) (*Server, error) {
	return start(mariadb, dir, settings)
}

var mariadb = &kind{
	name:       "MariaDB",
	files:      "data",
	initialise: installMariaDB,
	serve:      mariadbd,
	stop:       syscall.SIGTERM,
	dsn: func(s *Server, database string) string {
		config := mysql.NewConfig()
		config.User, config.Net, config.Addr, config.DBName = "root", "unix", filepath.Join(s.sockets, "socket"), database
		return config.FormatDSN()
	},
	ping: func(ctx context.Context, s *Server) error {
		return withMariaDB(s, func(db *sql.DB) error { return db.PingContext(ctx) })
	},
	createDatabase: func(ctx context.Context, s *Server, name string) error {
		return withMariaDB(s, func(db *sql.DB) error {
			_, err := db.ExecContext(ctx, "CREATE DATABASE `"+strings.ReplaceAll(name, "`", "``")+"`")
			return err
		})
	},
	swept: func(*Server) {},
}

const mariadbMissing = "MariaDB's programs %s: %w: install them (Debian, Ubuntu: apt-get install mariadb-server), or put them into PATH"

func installMariaDB(s *Server) (*exec.Cmd, error) {
	program, err := find("mariadb-install-db", mariadbMissing)
	if err != nil {
		return nil, err
	}
	return exec.Command(program, "--no-defaults", "--datadir="+filepath.Join(s.dir, "data"), "--innodb-log-file-size=48M",
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"), nil
}

func mariadbd(s *Server) (*exec.Cmd, error) {
	program, err := find("mariadbd", mariadbMissing)
	if err != nil {
		return nil, err
	}
	arguments := []string{
		"--no-defaults", "--datadir=" + filepath.Join(s.dir, "data"), "--socket=" + filepath.Join(s.sockets, "socket"), "--skip-networking",
		"--pid-file=" + filepath.Join(s.dir, "pid"), "--innodb-log-file-size=48M", "--innodb-buffer-pool-size=64M",
		"--character-set-server=utf8mb4", "--max-connections=200",
	}
	for _, setting := range s.settings {
		arguments = append(arguments, "--"+setting)
	}
	return exec.Command(program, arguments...), nil
}

func withMariaDB(s *Server, do func(*sql.DB) error) error {
	config, err := mysql.ParseDSN(s.DSN(""))
	if err != nil {
		return err
	}
	config.Logger = &mysql.NopLogger{} // a server that is not up yet is no news
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	return errors.Join(do(db), db.Close())
}
