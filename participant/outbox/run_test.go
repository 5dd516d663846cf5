// SPDX-License-Identifier: Apache-2.0

package outbox

const asChild = "ASSENT_OUTBOX_CHILD"

func child() int { return 0 }
