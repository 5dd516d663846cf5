// SPDX-License-Identifier: Apache-2.0

// Package mutant tries the tests of a package on bugs that someone might well write: each replaces a line of the source, and a
// test that is named beside it has to fail. For tests only.
//
// All mutants of a package are in one test binary, which takes seconds to build, where a build for each takes minutes: a
// function with a mutant in it is there once more, with the line replaced, and the original calls that when its mutant is the
// chosen one.
//
//	func (f *Fold) expire() {                      func (f *Fold) expire() {
//		for f.expires[0].at < f.logTime {             if mutant == 7 { f.expire_mutant7(); return }
//			…                              ──▶        for f.expires[0].at < f.logTime {
//		}                                                …
//	}                                              }
//	                                               func (f *Fold) expire_mutant7() {
//	                                                  for f.expires[0].at <= f.logTime {
//	                                                     …
//
// The source on disk stays as it is: the build sees the other one through go's -overlay.
package mutant
