// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"fmt"
	"strconv"
	"strings"
)

// values writes a list, without the middle when it is long.
func values(list []int64) string {
	const ends = 8
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range list {
		switch {
		case len(list) > 2*ends && i == ends:
			b.WriteString(" …")
			continue
		case len(list) > 2*ends && i > ends && i < len(list)-ends:
			continue
		case i > 0:
			b.WriteByte(' ')
		}
		b.WriteString(strconv.FormatInt(v, 10))
	}
	b.WriteByte(']')
	return b.String()
}

// describe tells what a transaction did.
func (h *History) describe(tx int32) string {
	t := &h.txs[tx]
	var parts []string
	for i := range t.ops {
		parts = append(parts, h.describeOperation(&t.ops[i]))
	}
	text := strings.Join(parts, ", ")
	switch t.outcome {
	case failed:
		text += " (failed)"
	case unknown:
		text += " (outcome unknown to its client)"
	case committed:
	}
	return text
}

func (h *History) describeOperation(o *operation) string {
	key := h.keys[o.key]
	switch {
	case o.kind == opAppend:
		return fmt.Sprintf("append %d to %s", o.value, key)
	case o.kind == opAdd:
		return fmt.Sprintf("add %d to %s", o.value, key)
	case !o.known:
		return fmt.Sprintf("read %s", key)
	case o.kind == opBalance:
		return fmt.Sprintf("read %s = %d", key, o.value)
	default:
		return fmt.Sprintf("read %s = %s", key, values(o.list))
	}
}
