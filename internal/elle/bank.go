// SPDX-License-Identifier: Apache-2.0

package elle

// bank checks a bank's history: every committed transaction that read all accounts found the total, and none found less than
// nothing in one. (Money only moves: what a transaction adds is zero together.)
func (c *checker) bank() {
	for i := range c.h.txs {
		if c.h.txs[i].outcome == committed {
			c.statement(int32(i))
		}
	}
}

// statement checks what one transaction read.
func (c *checker) statement(at int32) {
	had := make(map[int32]int64)
	for _, o := range c.h.txs[at].ops {
		if o.kind != opBalance || !o.known {
			continue
		}
		had[o.key] = o.value
		if o.value < 0 {
			c.report(NegativeBalance, []int32{at}, "T1 read %d of %s: no transaction may take more than there is.", o.value, c.h.keys[o.key])
		}
	}
	if len(had) != c.h.accounts {
		return
	}
	sum := int64(0)
	for _, value := range had {
		sum += value
	}
	if sum != c.h.total {
		c.report(WrongTotal, []int32{at}, "T1 read all %d accounts, which had %d together; money only moves, and there are %d.", c.h.accounts, sum, c.h.total)
	}
}
