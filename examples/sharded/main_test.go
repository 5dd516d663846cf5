// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The story, with fewer keys: the nodes come and go under load, no key is lost, and what was handed over is not kept.
func TestStory(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out strings.Builder
	if err := run(ctx, &out, 300, 200*time.Millisecond); err != nil {
		t.Fatalf("%v, after\n%s", err, out.String())
	}
	t.Log("\n" + out.String())
	for _, want := range []string{
		"375 keys are on node-1, node-2 and node-3\n",
		"node-4 is added: 256 of 1024 partitions moved in",
		" from node-3 to node-4\n",
		"node-1 is removed: 256 of 1024 partitions moved in",
		" from node-1 to node-4\n",
		"node-1 has ended; 0 keys are left in its file\n",
		"every key is there, with the value that it must have; the total is 30000, as it was\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q was not said", want)
		}
	}
}
