// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
)

// lead follows who leads the only shard, by what the coordinators tell each other.
type lead struct {
	mu      sync.Mutex
	name    string
	changed chan struct{} // closed, and made anew, when another one leads
}

func followLead(nc *nats.Conn, prefix string) (*lead, error) {
	l := &lead{changed: make(chan struct{})}
	_, err := nc.Subscribe(prefix+".coordinators", func(msg *nats.Msg) {
		var beat struct {
			Name  string `json:"name"`
			Leads []int  `json:"leads"`
		}
		if json.Unmarshal(msg.Data, &beat) == nil && slices.Contains(beat.Leads, 0) {
			l.set(beat.Name)
		}
	})
	return l, err
}

func (l *lead) set(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name != l.name {
		l.name = name
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// now is who leads, and what closes when that changes.
func (l *lead) now() (name string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name, l.changed
}
