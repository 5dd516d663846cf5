// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"encoding/binary"

	"github.com/assent-tx/assent/messages"
)

// testMessage is a message of a log, as a reader gets it.
type testMessage struct {
	sequence    uint64
	at          int64
	kind        messages.Kind
	participant string
	data        []byte
}

type testLog []testMessage

// testID is the n-th id, minted at a time.
func testID(unixMilli int64, n int) (id messages.ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(unixMilli)<<16)
	id[6], id[8] = 0x70, 0x80
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
}
