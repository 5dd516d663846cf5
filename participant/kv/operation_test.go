// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Names are those that the client of JetStream's takes.
func TestNames(t *testing.T) {
	bucket, key := regexp.MustCompile(`^[a-zA-Z0-9_-]+$`), regexp.MustCompile(`^[-/_=.a-zA-Z0-9]+$`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching(`[-/_=.a-zA-Z0-9]{0,5}`), rapid.StringMatching(`[a-zA-Z0-9_-]{0,3}`), rapid.String()).Draw(t, "name")
		if got, want := validBucket(name), bucket.MatchString(name); got != want {
			t.Errorf("bucket %q: %v, want %v", name, got, want)
		}
		dots := strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..")
		if got, want := validKey(name), key.MatchString(name) && !dots; got != want {
			t.Errorf("key %q: %v, want %v", name, got, want)
		}
	})
	if bucket.MatchString("a\n") || validBucket("a\n") || validKey("a\n") {
		t.Error("a name ends with a newline")
	}
}
