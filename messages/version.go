// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// version reads the field "v". A newer one makes a fault like any other here; end finds out which it was.
func (s *scanner) version() {
	if v := s.number(); s.fault == nil && v != Version {
		s.fail(versionProblem(v))
	}
}

func versionProblem(v int64) string {
	return fmt.Sprintf("version %d; this reader knows %d", v, Version)
}

// newerVersion gives the version of a record that is newer than this package, 0 for every other.
//
// It looks at faulty records alone, and at the whole record: whatever a newer version changes (fields, types, limits)
// is a fault to this reader, and may come before "v". All versions share that a record is one JSON object in UTF-8,
// nested at most 2*MaxDepth deep, with a single "v" that is a whole number: what is not even that is malformed.
func newerVersion(line []byte) (newer int64) {
	if !bytes.Contains(line, []byte(`"v"`)) || !utf8.Valid(line) {
		return 0
	}
	s := scanner{data: line, index: -1, element: -1}
	for first := true; s.list('{', '}', first); first = false {
		if string(s.key()) != "v" {
			s.skip(1 - MaxDepth)
			continue
		}
		s.once("v", bitVersion)
		newer = s.number()
	}
	s.space()
	if s.fault != nil || s.pos != len(line) || newer <= Version {
		return 0
	}
	return newer
}
