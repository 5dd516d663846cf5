// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// lockName is the file in the data directory that carries the lock. It stays
// there when the lock is released: removing it would let two servers lock two
// different files of that name.
const lockName = "assent.lock"

// errHeld is what lockFile returns when somebody else has the lock.
var errHeld = errors.New("lock is held")

// lockDir locks dir, which must exist, and returns what releases it. The
// operating system releases it too, when the process ends in whatever way.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded: data directory %s is not usable: %w", dir, err)
	}
	if err := lockFile(f); err != nil {
		defer func() { _ = f.Close() }() // nothing was written
		if errors.Is(err, errHeld) {
			return nil, fmt.Errorf("%w: %s is in use%s: stop that server, or choose another directory", ErrLocked, dir, holder(f))
		}
		return nil, fmt.Errorf("embedded: data directory %s cannot be locked: %w", dir, err)
	}
	writeHolder(f)
	return f, nil
}

// writeHolder notes who has the lock, for the error that others get. A failure
// (say, a full disk) costs them that hint and nothing else.
func writeHolder(f *os.File) {
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
}

func holder(f *os.File) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	switch {
	case err != nil:
		return ""
	case pid == os.Getpid():
		return " by a server in this process"
	default:
		return fmt.Sprintf(" by process %d", pid)
	}
}
