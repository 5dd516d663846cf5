// SPDX-License-Identifier: Apache-2.0

package router

import (
	"strings"

	"github.com/assent-tx/assent/messages"
)

// names gives the subjects and the buckets under a prefix.
type names struct{ prefix string }

func (n names) dashed(rest string) string { return strings.ReplaceAll(n.prefix, ".", "-") + rest }

// ringsBucket has the records and the presences; nodesBucket has the sessions of the nodes and their locks.
func (n names) ringsBucket() string { return n.dashed("-rings") }
func (n names) nodesBucket() string { return n.dashed("-nodes") }
func (n names) stream() string      { return "KV_" + n.ringsBucket() }
func (n names) allKeys() string     { return "$KV." + n.ringsBucket() + ".>" }

// recordSubject is where a group's record is stored, presenceSubject where a node says what it has to say of itself.
func (n names) recordSubject(group string) string { return "$KV." + n.ringsBucket() + "." + group }
func (n names) presenceSubject(group, node string) string {
	return n.recordSubject(group) + "." + node
}

// hintSubject is where it is told that a group has another record.
func (n names) hintSubject(group string) string { return n.prefix + ".ring." + group }

// nodeSubject is where a node takes requests that has not said otherwise.
func (n names) nodeSubject(group, node string) string {
	return n.prefix + ".node." + group + "." + node
}

func (n names) routeSubject() string          { return n.prefix + ".route" }
func (n names) apiSubject(name string) string { return n.prefix + ".api." + name }

// nodeLock is the key of the lock that a node holds in the bucket of the nodes, so that one process acts for it.
func nodeLock(group, node string) string { return group + "/" + node }

// stewardLock is the key of the lock that the steward holds there. No node's has it: theirs have a slash.
const stewardLock = "steward"

// parseKey takes apart a subject of the bucket of the rings: a group's record if node is "", else a node's presence.
func (n names) parseKey(subject string) (group, node string, ok bool) {
	key, found := strings.CutPrefix(subject, n.recordSubject(""))
	if !found {
		return "", "", false
	}
	group, node, presence := strings.Cut(key, ".")
	return group, node, messages.ValidName(group) && (!presence || messages.ValidName(node))
}
