// SPDX-License-Identifier: Apache-2.0

package messages

// Wait asks a shard's leader for a transaction's outcome, to be answered when it is known.
//
//	{"tx":"…"}
type Wait struct {
	Tx ID
}

// AppendWait appends the record's JSON, without a newline.
func AppendWait(b []byte, w *Wait) []byte {
	return append(appendID(b, `{"tx":"`, w.Tx), '}')
}

// Wait decodes a record into w.
func (d *Decoder) Wait(line []byte, w *Wait) error {
	*w = Wait{}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			w.Tx = s.id()
		case "v":
			s.once("v", bitVersion)
			s.version()
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	return s.end()
}
