// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// untilSignal is a context that ends with the first signal, which asks to end. The second one ends the process at once,
// however soon it comes.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(signalled{<-signals})
		<-signals
		os.Exit(exitFailure)
	}()
	return ctx
}

// signalled is the cause with which untilSignal ends: a cancellation, and by what.
type signalled struct{ signal os.Signal }

func (s signalled) Error() string { return fmt.Sprintf("%v signal received", s.signal) }

func (signalled) Is(target error) bool { return target == context.Canceled }
