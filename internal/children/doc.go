// SPDX-License-Identifier: Apache-2.0

// Package children runs processes of the assent program that can be killed (kill -9), paused and started again, for what shows and
// checks that nothing is lost by that: `assent demo` and `assent check`. None of them outlives this process on Linux; elsewhere none
// does that is ended in order.
package children
