// SPDX-License-Identifier: Apache-2.0

// Package router says which node is to be asked for a key, and lets nodes take over from one another, on NATS JetStream.
package router
