// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
)

// profiles are the files for what a benchmark spends; empty for none.
type profiles struct{ cpu, mem string }

// of runs a benchmark with the profiles that are asked for.
func (p *profiles) of(run func() error) (err error) {
	if p.mem != "" {
		runtime.MemProfileRate = 16 << 10 // finer than the default: the run is short
	}
	if p.cpu != "" {
		stop, failed := startCPUProfile(p.cpu)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if err := run(); err != nil {
		return err
	}
	if p.mem == "" {
		return nil
	}
	return writeFile(p.mem, func(w io.Writer) error { return pprof.Lookup("allocs").WriteTo(w, 0) })
}

func startCPUProfile(path string) (stop func() error, err error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(fmt.Errorf("CPU profile: %w", err), file.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return file.Close()
	}, nil
}

func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
