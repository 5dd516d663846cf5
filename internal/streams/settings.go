// SPDX-License-Identifier: Apache-2.0

package streams

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Check compares the settings on which safety rests; the size, replicas, placement, and what is only for people may differ. what is
// kept in the stream, in the plural ("locks"). The error names each difference, why it matters, and how to change it back.
func Check(have, want jetstream.StreamConfig, what string) error {
	var faults []string
	fault := func(differs bool, setting string, have, want any, why string) {
		if differs {
			faults = append(faults, fmt.Sprintf("%s is %v, want %v (%s)", setting, have, want, why))
		}
	}
	flag := func(have, want bool, setting, whySet, whyNot string) {
		why := whySet
		if want {
			why = whyNot
		}
		fault(have != want, setting, have, want, why)
	}
	lost := what + " would be lost"
	fault(have.Storage != want.Storage, "storage", have.Storage, want.Storage, what+" must survive a restart")
	fault(have.PersistMode != want.PersistMode, "persist mode", have.PersistMode, want.PersistMode, "what is acknowledged must be on disk")
	fault(have.Retention != want.Retention, "retention", have.Retention, want.Retention, "messages must stay")
	fault(have.Discard != want.Discard, "discard", have.Discard, want.Discard, "a full stream must not drop "+what)
	fault(have.MaxAge != 0, "max age", have.MaxAge, 0, what+" would vanish with time")
	fault(have.MaxMsgs > 0, "max messages", have.MaxMsgs, unlimited, "the stream would be full while it is in use")
	if want.MaxMsgsPerSubject == 1 {
		fault(have.MaxMsgsPerSubject != 1, "max messages per subject", have.MaxMsgsPerSubject, 1, "only the newest version counts")
	} else {
		fault(have.MaxMsgsPerSubject > 0, "max messages per subject", have.MaxMsgsPerSubject, unlimited, lost)
	}
	fault(have.MaxMsgSize > 0, "max message size", have.MaxMsgSize, unlimited, "what is larger could not be written")
	fault(!slices.Equal(have.Subjects, want.Subjects), "subjects", have.Subjects, want.Subjects, "there they are, and nothing else may be")
	fault(have.Mirror != nil || len(have.Sources) > 0, "mirror or sources", "set", "none", "writes must come in one order")
	fault(have.SubjectTransform != nil, "subject transform", "set", "none", "messages would not be found")
	fault(have.SubjectDeleteMarkerTTL != 0, "subject delete marker TTL", have.SubjectDeleteMarkerTTL, 0, "a marker can overwrite what was acknowledged")
	flag(have.AllowDirect, want.AllowDirect, "allow direct", "direct gets are answered by replicas that may be behind", "reads would fail")
	flag(have.AllowMsgTTL, want.AllowMsgTTL, "allow message TTL", lost, "what is over could not be cleaned up")
	flag(have.AllowRollup, want.AllowRollup, "allow rollup", "one message could drop all others", "what is over could not be cleaned up")
	flag(have.AllowMsgCounter, want.AllowMsgCounter, "allow message counter", "messages would be refused", "messages would be refused")
	flag(have.DenyPurge, want.DenyPurge, "deny purge", "what is over could not be removed", lost)
	flag(have.NoAck, want.NoAck, "no ack", "what is not acknowledged is not written", "nobody waits for acknowledgements")
	flag(have.Sealed, want.Sealed, "sealed", "nothing could be written", "nothing may be written")
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("stream %s: %s: change it back with `nats stream edit %s`", have.Name, strings.Join(faults, "; "), have.Name)
}

const unlimited = "unlimited"
