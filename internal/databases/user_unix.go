// SPDX-License-Identifier: Apache-2.0

//go:build unix

package databases

import (
	"os"
	"syscall"
)

// nobody is the user as whom a server runs that root starts; the number is the same on every system of today.
const nobody = 65534

// unprivileged is nil when this is not root.
func unprivileged() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: nobody, Gid: nobody}
}

// giveTo gives a folder to the user of the server.
func giveTo(folder string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(folder, nobody, nobody)
}
