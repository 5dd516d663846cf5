// SPDX-License-Identifier: Apache-2.0

package messages

// Abort is the log record that aborts a transaction which is still undecided; any coordinator may write it.
//
//	{"tx":"…","reason":"timeout"}
type Abort struct {
	Tx ID
	// Reason is "timeout", or what an operator or client gave; at most MaxReason bytes.
	Reason string
}

// AppendAbort appends the record's JSON, without a newline. The reason is cut as by CutReason.
func AppendAbort(b []byte, a *Abort) []byte {
	b = appendID(b, `{"tx":"`, a.Tx)
	b = appendCut(b, `,"reason":"`, a.Reason, MaxReason)
	return append(b, '}')
}

// Abort decodes a record into a.
func (d *Decoder) Abort(line []byte, a *Abort) error {
	*a = Abort{}
	s := newScanner(line)
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "tx":
			s.once("tx", bitTx)
			a.Tx = s.id()
		case "v":
			s.once("v", bitVersion)
			s.version()
		case "reason":
			s.once("reason", bitReason)
			a.Reason = s.text(MaxReason)
		default:
			s.unknown(key)
		}
	}
	s.require("tx", bitTx)
	return s.end()
}
