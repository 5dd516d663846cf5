// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/assent-tx/assent"
)

// The disk is full. What was acknowledged stays; a JetStream stream that met the full disk answers no publish until the
// server is restarted (nats-server 2.15), so the operator makes room and restarts it.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT TESTED: a small file system can be mounted only by root on Linux")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := start(t, setup{dir: filepath.Join(dir, "data")})
	c.transfers(20)
	ballast := fill(t, filepath.Join(dir, "ballast"))
	l := c.load(4)
	for range 50 { // until somebody has met the full disk
		o := c.some(c.rand)
		o.giveUp = 2 * time.Second
		if c.do(o); c.book.count(assent.Undecided) > 0 {
			break
		}
	}
	if c.book.count(assent.Undecided) == 0 {
		t.Error("no transaction noticed that the disk was full")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.server.kill()
	c.server.restart()
	c.heal()
	l.more(20)
	l.stop()
	c.check()
}

// fill writes a file until nothing more fits.
func fill(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		_, err := file.Write(block)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			t.Fatal(err)
		}
	}
	return path
}
