// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tx/assent/router/ring"
)

// Version is the version of the format of records and presences.
const Version = 1

// stored is a Record as JSON.
type stored struct {
	V           int    `json:"v"`
	Group       string `json:"group"`
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
	Settings
	Nodes   []Node    `json:"nodes"`
	Pins    ring.Pins `json:"pins"`
	Owners  string    `json:"owners"`
	Targets string    `json:"target,omitempty"`
	Moving  []Move    `json:"moving"`
}

// Encode is the form that is stored. Equal records have equal forms.
func (r *Record) Encode() []byte {
	s := stored{
		V: Version, Group: r.Group, Incarnation: r.Incarnation, Epoch: r.Epoch, Settings: r.Settings, Nodes: r.Nodes, Pins: r.Pins,
		Owners: r.encodeTable(r.owners), Moving: r.Moving,
	}
	if s.Nodes == nil {
		s.Nodes = []Node{}
	}
	if s.Pins == nil {
		s.Pins = ring.Pins{}
	}
	if s.Moving == nil {
		s.Moving = []Move{}
	}
	if !slices.Equal(r.targets, r.owners) {
		s.Targets = r.encodeTable(r.targets)
	}
	return encode(&s)
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

// maxNarrow is how many nodes a table of bytes can tell apart.
const maxNarrow = 255

// encodeTable gives each partition its owner's place among the nodes, from 1, and 0 for nobody: bytes, or pairs of bytes
// (the greater first) when there are more than maxNarrow nodes.
func (r *Record) encodeTable(table []uint16) string {
	b := make([]byte, 0, 2*len(table))
	for _, place := range table {
		if len(r.Nodes) > maxNarrow {
			b = binary.BigEndian.AppendUint16(b, place)
		} else {
			b = append(b, byte(place)) //nolint:gosec // at most maxNarrow
		}
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// Decode reads a record. The error is ErrNewer for one that a newer version wrote, otherwise ErrGarbage, with what is wrong. Fields
// that it does not know it passes over: what may not be passed over has a newer version.
func Decode(data []byte) (*Record, error) {
	var s stored
	if err := decode("record", data, &s.V, &s); err != nil {
		return nil, err
	}
	r, err := s.record()
	if err != nil {
		return nil, fmt.Errorf("%w record: %w", ErrGarbage, err)
	}
	return r, nil
}

// decode reads JSON with a version into *into, of which *v is a part.
func decode(what string, data []byte, v *int, into any) error {
	err := json.Unmarshal(data, into)
	if err == nil && *v == Version {
		return nil
	}
	// A newer version may be written in another way, so that its number is all that can be read.
	var version struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return fmt.Errorf("%w %s: %w", ErrGarbage, what, err)
	}
	if version.V > Version {
		return fmt.Errorf("%s %w: %d; this program knows %d: update it", what, ErrNewer, version.V, Version)
	}
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrGarbage, what, err)
	}
	return fmt.Errorf("%w %s: version %d: want %d", ErrGarbage, what, *v, Version)
}

func (s *stored) record() (*Record, error) {
	r := &Record{
		V: s.V, Group: s.Group, Incarnation: s.Incarnation, Epoch: s.Epoch, Settings: s.Settings, Nodes: s.Nodes, Pins: s.Pins, Moving: s.Moving,
	}
	if r.Pins == nil {
		r.Pins = ring.Pins{}
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	owners, err := r.decodeTable("owners", s.Owners)
	if err != nil {
		return nil, err
	}
	targets := owners
	if s.Targets != "" {
		if targets, err = r.decodeTable("target", s.Targets); err != nil {
			return nil, err
		}
	}
	r.complete(owners, targets)
	return r, r.checkMoves()
}

func (r *Record) decodeTable(what, table string) ([]uint16, error) {
	for len(table) > 0 && table[len(table)-1] == '=' {
		table = table[:len(table)-1]
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(table)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	width := 1
	if len(r.Nodes) > maxNarrow {
		width = 2
	}
	if len(b) != width*r.Partitions {
		return nil, fmt.Errorf("%s: %d bytes: want %d for %d partitions", what, len(b), width*r.Partitions, r.Partitions)
	}
	places := make([]uint16, r.Partitions)
	for p := range places {
		place := uint16(b[p*width])
		if width == 2 {
			place = binary.BigEndian.Uint16(b[p*2:])
		}
		if int(place) > len(r.Nodes) {
			return nil, fmt.Errorf("%s: partition %d is node %d's of %d", what, p, place, len(r.Nodes))
		}
		places[p] = place
	}
	return places, nil
}

// Presence is what a node says of itself: its session, and what it has released.
type Presence struct {
	V int `json:"v"`
	// Session is the node's, which holds the lock of its name.
	Session string `json:"session"`
	// Weight is what it joins with, 0 to ring.MaxWeight. In the group already, it keeps the weight that it has there.
	Weight  int    `json:"weight"`
	Zone    string `json:"zone,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Leaving: its process is about to end.
	Leaving bool `json:"leaving,omitempty"`
	// Incarnation is the group's that the node follows, and has nothing in hand of any other; 0 when it has not read the record
	// yet. Released belongs to it.
	Incarnation uint64 `json:"incarnation"`
	// Released are the moves that the session has released.
	Released []Move `json:"released,omitempty"`
	// Revision is the place of the presence in the stream. Whoever reads it fills it in; it is not stored.
	Revision uint64 `json:"-"`
}

// Encode is the form that is stored.
func (p *Presence) Encode() []byte {
	stored := *p
	stored.V = Version
	return encode(&stored)
}

// DecodePresence reads a presence. The error is ErrNewer for one that a newer version wrote, otherwise ErrGarbage, with what is wrong.
func DecodePresence(data []byte) (Presence, error) {
	var p Presence
	if err := decode("presence", data, &p.V, &p); err != nil {
		return Presence{}, err
	}
	if err := p.check(); err != nil {
		return Presence{}, fmt.Errorf("%w presence: %w", ErrGarbage, err)
	}
	return p, nil
}

func (p *Presence) check() error {
	if err := CheckPlace(p.Weight, p.Zone, p.Subject); err != nil {
		return err
	}
	switch {
	case !isName(p.Session, MaxSession):
		return fmt.Errorf("session %q: want 1 to %d of A-Z a-z 0-9 _ -", p.Session, MaxSession)
	case p.Incarnation > MaxNumber:
		return fmt.Errorf("incarnation %d: at most %d", p.Incarnation, uint64(MaxNumber))
	case len(p.Released) > MaxBatch:
		return fmt.Errorf("%d moves released: at most %d", len(p.Released), MaxBatch)
	}
	for _, m := range p.Released {
		if m.Partition < 0 || m.Partition >= ring.MaxPartitions || m.Since == 0 || m.Since > MaxNumber {
			return errors.New("a released move that cannot be")
		}
	}
	return nil
}
