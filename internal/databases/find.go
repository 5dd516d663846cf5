// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// find looks for a server's program in PATH, and where Debian puts what only servers need. Of several versions it takes the newest.
func find(program, missing string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	var candidates []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/sbin/", "/usr/libexec/", "/usr/local/sbin/"} {
		found, err := filepath.Glob(pattern + program)
		if err != nil {
			return "", fmt.Errorf("databases: %w", err)
		}
		candidates = append(candidates, found...)
	}
	slices.SortStableFunc(candidates, func(a, b string) int { return version(b) - version(a) })
	for _, candidate := range candidates {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("databases: "+missing, program, ErrNotInstalled)
}

// version is that in /usr/lib/postgresql/15/bin/initdb, 0 for none.
func version(path string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return n
}
