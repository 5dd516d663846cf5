// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/participant"
)

// A real disk that is full: no refusal, what is in doubt can be committed all the same, and when there is room again it goes on.
// (TestResourcesAreExhausted has the error where nothing can be mounted.)
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	databases.SharedPostgres(t)                   // or the test is skipped
	disk, err := os.MkdirTemp("", "assent-test-") //nolint:usetesting // within reach of the user nobody, which t.TempDir is not
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(disk)) })
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m,mode=777"); err != nil {
		t.Skipf("SKIPPED: mounting a small disk: %v; run as root", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(disk, 0)) })
	space := disk + "/space" // the server insists on a folder of its own
	must(t, os.Mkdir(space, 0o700))
	if os.Geteuid() == 0 {
		const nobody = 65534
		must(t, os.Chown(space, nobody, nobody))
	}
	d := newBank(t, databases.Postgres(t))
	d.exec("CREATE TABLESPACE small LOCATION '" + space + "'")
	d.exec("CREATE TABLE big (id int, text text) TABLESPACE small")
	d.exec("ALTER TABLE big ALTER COLUMN text SET STORAGE PLAIN")
	rows := 10
	s := d.store(func(cfg *Config) {
		cfg.Do = func(ctx context.Context, tx pgx.Tx, _ *participant.Branch) error {
			_, err := tx.Exec(ctx, "INSERT INTO big SELECT n, repeat('x', 8000) FROM generate_series(1, $1) AS n", rows)
			return err
		}
	})
	first := branch(transfer{})
	prepare(t, s, first, participant.Yes)
	rows = 1000
	second := branch(transfer{})
	if text := refuse(t, s, second, nil, participant.ErrRefused); !strings.Contains(text, "53100") {
		t.Fatalf("not a full disk: %s", text)
	}
	must(t, s.Commit(t.Context(), first.Tx))
	d.exec("ALTER TABLE big SET TABLESPACE pg_default")
	prepare(t, s, second, participant.Yes)
	must(t, s.Commit(t.Context(), second.Tx))
	if n := d.number("SELECT count(*) FROM big"); n != 1010 {
		t.Fatalf("%d rows", n)
	}
}
