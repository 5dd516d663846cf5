// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package main

import "syscall"

// endWithUs does nothing: only Linux can.
func endWithUs(*syscall.SysProcAttr) {}
