// SPDX-License-Identifier: Apache-2.0

//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package embedded

import (
	"errors"
	"os"
)

// lockFile fails: without a lock two servers could ruin one data directory, so
// this system cannot run one.
func lockFile(*os.File) error { return errors.ErrUnsupported }
