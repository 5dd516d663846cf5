// SPDX-License-Identifier: Apache-2.0

//go:build faults && unix

package crash

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fault is what an environment variable asks for.
type fault struct {
	point  string
	pass   int64
	delay  time.Duration
	signal syscall.Signal
	passes atomic.Int64
}

var faults = sync.OnceValue(func() []*fault {
	return []*fault{parse("ASSENT_CRASH", syscall.SIGKILL), parse("ASSENT_STOP", syscall.SIGSTOP)}
})

func parse(variable string, signal syscall.Signal) *fault {
	fields := strings.Split(os.Getenv(variable), ":")
	f := &fault{point: fields[0], pass: 1, signal: signal}
	var err error
	if len(fields) > 1 {
		f.pass, err = strconv.ParseInt(fields[1], 10, 64)
	}
	if len(fields) > 2 && err == nil {
		f.delay, err = time.ParseDuration(fields[2])
	}
	if err != nil {
		panic("crash: " + variable + ": " + err.Error())
	}
	return f
}

// Here kills or pauses the process when the environment names this point and this is the pass.
func Here(point string) {
	for _, f := range faults() {
		if f.point != point || f.passes.Add(1) != f.pass {
			continue
		}
		time.Sleep(f.delay) //nolint:forbidigo // the point is to do nothing here while the others go on
		if err := syscall.Kill(os.Getpid(), f.signal); err != nil {
			panic(err)
		}
		if f.signal == syscall.SIGKILL {
			select {} // the signal is on its way
		}
	}
}

// Window is the fold's de-duplication window in milliseconds, where a fault test shortens it; 0 for the usual one.
func Window() int64 {
	window, err := strconv.ParseInt(os.Getenv("ASSENT_WINDOW"), 10, 64)
	if err != nil {
		return 0
	}
	return window
}
