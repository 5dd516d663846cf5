// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package locks

import "testing"

func inNamespace() bool { return false }

func inSpaces(t *testing.T) {
	t.Log("network namespaces are Linux's: only the proxies (TestPartition) make partitions here")
}

func newSpaces(testing.TB) network { panic("only Linux has them") }
