// SPDX-License-Identifier: Apache-2.0

package router

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assent-tx/assent/messages"
)

// The headers of requests to nodes and of what they answer.
const (
	// HeaderKey is the key that a request is about, HeaderRing the ring by which the node was chosen: <incarnation>.<epoch>.
	HeaderKey  = "Assent-Key"
	HeaderRing = "Assent-Ring"
	// HeaderWrongOwner is in an answer with no body: the node does not own the key, by its ring of <incarnation>.<epoch>. Nothing
	// was done.
	HeaderWrongOwner = "Assent-Wrong-Owner"
	// HeaderTryAgain is in an answer with no body: the node owns the key and is not ready, for the reason given. Nothing was done.
	HeaderTryAgain = "Assent-Try-Again"
)

// checkKey says why something cannot be a key on the wire: an ErrInvalid. Keys are UTF-8, because the encodings of other programs
// would change anything else, and with it the hash.
func checkKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("router: %w: the key is empty", ErrInvalid)
	case len(key) > messages.MaxRouteKey:
		return fmt.Errorf("router: %w: the key %.40q… has %d bytes, at most %d are allowed", ErrInvalid, key, len(key), messages.MaxRouteKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("router: %w: the key %.80q is not UTF-8", ErrInvalid, key)
	}
	return nil
}

// checkHeaderKey is checkKey, for a key in a header.
func checkHeaderKey(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if strings.TrimSpace(key) != key || strings.ContainsFunc(key, unicode.IsControl) {
		return fmt.Errorf("router: %w: the key %.80q: no header can have spaces at its ends, or control characters", ErrInvalid, key)
	}
	return nil
}

// formatRing writes which ring it is, as in HeaderRing.
func formatRing(incarnation, epoch uint64) string {
	b := strconv.AppendUint(make([]byte, 0, 41), incarnation, 10)
	return string(strconv.AppendUint(append(b, '.'), epoch, 10))
}

// parseRing reads what formatRing wrote, and nothing else.
func parseRing(text string) (incarnation, epoch uint64, err error) {
	left, right, found := strings.Cut(text, ".")
	if found {
		if incarnation, err = strconv.ParseUint(left, 10, 64); err == nil {
			epoch, err = strconv.ParseUint(right, 10, 64)
		}
	}
	if !found || err != nil {
		return 0, 0, fmt.Errorf("router: %w: the ring %.80q: want <incarnation>.<epoch>", ErrInvalid, text)
	}
	return incarnation, epoch, nil
}

// newer tells whether a ring comes after another one.
func newer(incarnation, epoch, thanIncarnation, thanEpoch uint64) bool {
	return incarnation > thanIncarnation || incarnation == thanIncarnation && epoch > thanEpoch
}

// hint says that a group has a record as new as this. It is a reason to read it, no more.
type hint struct {
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
}
