// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// Page is a part of a partition on its way to its next owner.
type Page struct {
	Group     string `json:"group"`
	Partition int    `json:"partition"`
	// Since says for which move it is: keys of an earlier one are out of date.
	Since Version `json:"since"`
	Items []Item  `json:"items"`
	// Last page of the partition: with it the partition has Total keys, if none was lost on the way.
	Last  bool `json:"last,omitempty"`
	Total int  `json:"total,omitempty"`
}

// Item is a key with what the store holds of it.
type Item struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// The bounds of a page. A message of NATS has at most a megabyte.
const (
	maxPageBytes = 256 << 10
	maxPageItems = 1000
)

// page reads the next page of a partition, which begins after a key, nil for the first one.
func (h *Holdings) page(partition int, since Version, after []byte) (page *Page, last []byte, err error) {
	page = &Page{Group: h.Group, Partition: partition, Since: since, Last: true}
	err = h.File.View(func(tx *bbolt.Tx) error {
		if _, err := h.whole(tx, partition); err != nil {
			return err
		}
		size := 0
		return h.each(tx, partition, after, func(key, value []byte) (more bool, err error) {
			if size >= maxPageBytes || len(page.Items) == maxPageItems {
				page.Last = false
				return false, nil
			}
			if err := h.Busy(Name(key), value); err != nil {
				return false, fmt.Errorf("partition %d cannot move: %w", partition, err)
			}
			last = append(last[:0], key...)
			page.Items = append(page.Items, Item{Name(key), bytes.Clone(value)})
			size += len(key) + len(value)
			return true, nil
		})
	})
	return page, last, err
}
