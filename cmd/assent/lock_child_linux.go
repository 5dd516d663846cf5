// SPDX-License-Identifier: Apache-2.0

package main

import "syscall"

// endWithUs has the kernel send the command SIGTERM when this process is killed: the lock is then free after its TTL.
func endWithUs(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGTERM }
