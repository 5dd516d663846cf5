// SPDX-License-Identifier: Apache-2.0

// Package streams opens the JetStream streams in which the project keeps what it must not lose: it makes them or takes those that are
// there, asks again while a server does not answer, and finds out whether somebody has changed a setting on which safety rests.
package streams
