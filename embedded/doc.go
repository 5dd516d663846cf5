// SPDX-License-Identifier: Apache-2.0

// Package embedded runs a NATS server with JetStream inside the process, with
// settings that are safe for a transaction log.
//
// It serves the one-command start, the examples, and tests: those of this
// repository and those of applications. It is the only package, besides
// commands and tests, that depends on nats-server. An application that uses
// the SDK in production connects to a NATS server and does not import it.
//
//	Start ──► lock the data directory ──► recover JetStream ──► listen ──► *Server
//	Close ──► stop clients ──► stop JetStream ──► free the lock
//
// # What it guarantees
//
//   - Durable: every stored message is flushed to disk (fsync) before it is
//     acknowledged. nats-server's own default flushes every two minutes. It
//     cannot be turned off here.
//   - Alone: a data directory is locked for as long as a server uses it. The
//     lock belongs to the process and goes with it, also on kill -9, so that
//     no stale lock ever has to be removed by hand.
//   - Private: it listens on nothing (the zero Config), or on a loopback
//     address, or, only with a token, on another address. It makes no outgoing
//     connection: no cluster, gateway or leaf node, no monitoring port.
//   - Quiet: it writes nothing to standard output or standard error, takes no
//     signal handler and never exits the process.
//   - Ready: when Start returns, clients can connect and JetStream is recovered.
//
// # What it does not guarantee
//
//   - One server, one copy: it survives crashes and power loss, but not the
//     loss of its disk. For that, use a NATS cluster with three replicas.
//   - A token travels and is compared in plain text; there is no TLS here. Off
//     loopback, use it only in networks that you trust, or run a NATS server.
//   - The lock is advisory. It holds back other users of this package, not a
//     stand-alone nats-server on the same directory, and on a network file
//     system it is as good as that system's flock.
//   - A disk that runs full is worse than a limit that is reached. Nothing that
//     was acknowledged is lost, but a stream that met the full disk leaves
//     publishes unanswered, also when space is free again, until the server is
//     restarted. At Config.MaxStore, by contrast, a publish is refused with an
//     error, and accepted again once something has been deleted.
package embedded
