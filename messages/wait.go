// SPDX-License-Identifier: Apache-2.0

package messages

// Wait asks a shard's leader for a transaction's outcome, to be answered when it is known.
//
//	{"tx":"…","now":true}
type Wait struct {
	Tx ID
	// Now asks for what is known now, CodeUndecided if nothing is, instead of waiting.
	Now bool
}

const bitNow = 2

// AppendWait appends the record's JSON, without a newline.
func AppendWait(b []byte, w *Wait) []byte {
	b = appendID(b, `{"tx":"`, w.Tx)
	if w.Now {
		b = append(b, `,"now":true`...)
	}
	return append(b, '}')
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
		case "now":
			s.once("now", bitNow)
			w.Now = s.truth()
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	return s.end()
}
