// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func (k kind[R]) read(line []byte) (wireRecord, string, error) {
	var d Decoder
	var record R
	err := k.decode(&d, line, &record)
	return k.view(&record), string(k.encode(nil, &record)), err
}

func (k kind[R]) check(line []byte) (broken string, err error) {
	original := bytes.Clone(line)
	want, wantErr := judge(line, k.rule)
	var d Decoder
	var record R
	err = k.decode(&d, line, &record)
	var fault *FieldError
	switch {
	case !bytes.Equal(original, line):
		return "decoding changed the line", err
	case !errors.Is(err, wantErr) || (err != nil && wantErr == nil):
		return fmt.Sprintf("decoded with error %v; encoding/json says %v", err, wantErr), err
	case err != nil && (!errors.As(err, &fault) || fault.Problem == "" || fault.Error() == ""):
		return fmt.Sprintf("the error %#v does not explain itself", err), err
	case err != nil:
		return "", err
	}
	if got := k.view(&record); got.text() != want.text() {
		return fmt.Sprintf("decoded  %s\nexpected %s", got.text(), want.text()), nil
	}
	return k.again(&d, line, &record), nil
}

// again encodes a decoded record and decodes that, into a record that held something else before.
func (k kind[R]) again(d *Decoder, line []byte, record *R) (broken string) {
	text, before := k.encode([]byte("x"), record)[1:], k.view(record)
	if len(text) > len(bytes.TrimSpace(line)) || bytes.IndexByte(text, '\n') >= 0 || !json.Valid(text) {
		return fmt.Sprintf("encoded as %s", text)
	}
	var second R
	for range 2 {
		if err := k.decode(d, text, &second); err != nil {
			return fmt.Sprintf("encoded as %s, which does not decode: %v", text, err)
		}
		if got, want := k.view(&second).text(), before.text(); got != want {
			return fmt.Sprintf("a round trip made %s\nof %s", got, want)
		}
	}
	if third := k.encode(nil, &second); !bytes.Equal(third, text) {
		return fmt.Sprintf("encoded as %s, then as %s", text, third)
	}
	if got := k.view(record).text(); got != before.text() {
		return fmt.Sprintf("decoding another record changed %s\nto %s", before.text(), got)
	}
	return ""
}

// hostile lines are seeds for every decoder; %s is an id.
var hostile = []string{
	``, `{`, `{}`, `[]`, `null`, `"`, "\x00", "\xff", "\ufeff{}", `{"tx":"%s"`, `{"tx":"%s"}}`, "{\"tx\":\"%s\"}\x00",
	`{"tx":"%s","tx":"%s"}`, `{"t\u0078":"%s"}`, `{"TX":"%s"}`, `{"tx":null}`, `{"tx":"%s","v":2,"more":[{}]}`,
	`{"new":{"v":1},"tx":5,"v":3}`, `{"v":2,"v":3}`, `{"tx":"%s","v":1.0}`, `{"tx":"%s","reason":"\ud800\u0000\udc00é"}`,
	`{"tx":"%s","reason":"\ud83d\ude00\b\f\n\r\t\/\"\\"}`, `{"tx":"%s","vote":9007199254740992}`,
	`{"tx":"%s","vote":-0,"expires":1e3}`, `{"tx":"%s","vote":007}`, " {\t\"tx\" : \"%s\"\r}\n",
}

func fuzzRecords(f *testing.F, name string) {
	for _, text := range readVectors(f).texts(name) {
		f.Add([]byte(text))
	}
	for _, line := range hostile {
		f.Add([]byte(strings.ReplaceAll(line, "%s", "0190163d-8694-739b-aea5-966c26f8ad91")))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if broken, _ := kinds[name].check(line); broken != "" {
			t.Error(broken)
		}
	})
}

func FuzzPrepare(f *testing.F)    { fuzzRecords(f, "prepare") }
func FuzzVote(f *testing.F)       { fuzzRecords(f, "vote") }
func FuzzAbort(f *testing.F)      { fuzzRecords(f, "abort") }
func FuzzFinished(f *testing.F)   { fuzzRecords(f, "finished") }
func FuzzEffect(f *testing.F)     { fuzzRecords(f, "effect") }
func FuzzDone(f *testing.F)       { fuzzRecords(f, "done") }
func FuzzSubmission(f *testing.F) { fuzzRecords(f, "submission") }
func FuzzAnswer(f *testing.F)     { fuzzRecords(f, "answer") }
func FuzzWait(f *testing.F)       { fuzzRecords(f, "wait") }

func FuzzID(f *testing.F) {
	canonical := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, seed := range []string{
		"", "0190163d-8694-739b-aea5-966c26f8ad91", "0190163D-8694-739B-AEA5-966C26F8AD91",
		"0190163d8694739baea5966c26f8ad91", "{0190163d-8694-739b-aea5-966c26f8ad91}", strings.Repeat("-", 36),
		"urn:uuid:0190163d-8694-739b-aea5-966c26f8ad91", "0190163d-8694-439b-aea5-966c26f8ad91", "ffffffff-ffff-7fff-bfff-ffffffffffff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		var other ID
		if otherErr := other.UnmarshalText([]byte(text)); (otherErr == nil) != (err == nil) || other != id {
			t.Fatalf("ParseID gives %v, %v; UnmarshalText %v, %v", id, err, other, otherErr)
		}
		if !canonical.MatchString(text) {
			if !errors.Is(err, ErrBadID) || !id.IsZero() {
				t.Fatalf("%q gives %v, %v", text, id, err)
			}
			return
		}
		want, _ := uuid.Parse(text)
		if err != nil || id != ID(want) || id.String() != text {
			t.Fatalf("%q gives %v, %v", text, id, err)
		}
	})
}

func FuzzSubjects(f *testing.F) {
	for _, seed := range []string{
		"assent.log.0.prepare.bank-a", "assent.log.0.vote.a.b", "assent.log.0.abort", "assent.log.0.abort.", "assent.log.00.abort",
		"assent.log.+0.abort", "assent.commit.12.bank", "assent.commit.12", "a.b.log.0.finished", "assent", "assent.", "assent..0.x", "",
	} {
		f.Add(seed, "assent", 0)
		f.Add(seed, "a.b", 12)
	}
	f.Fuzz(func(t *testing.T, subject, prefix string, shard int) {
		if !ValidPrefix(prefix) {
			prefix = DefaultPrefix
		}
		subjects := Subjects{Prefix: prefix}
		kind, name := subjects.ParseLog(shard, subject)
		if wantKind, wantName := naiveLog(prefix, shard, subject); kind != wantKind || name != wantName {
			t.Errorf("%q is %v of %q; expected %v of %q", subject, kind, name, wantKind, wantName)
		}
		of, ok := subjects.ShardOf(subject)
		if want, wantOK := naiveShard(prefix, subject); of != want || ok != wantOK {
			t.Errorf("%q is of shard %d, %v; expected %d, %v", subject, of, ok, want, wantOK)
		}
	})
}

// naiveLog compares the subject with each one that could be meant.
func naiveLog(prefix string, shard int, subject string) (Kind, string) {
	if shard < 0 {
		return KindUnknown, ""
	}
	base, name := prefix+".log."+strconv.Itoa(shard)+".", LastToken(subject)
	switch {
	case subject == base+"prepare."+name && ValidName(name):
		return KindPrepare, name
	case subject == base+"vote."+name && ValidName(name):
		return KindVote, name
	case subject == base+"abort":
		return KindAbort, ""
	case subject == base+"finished":
		return KindFinished, ""
	default:
		return KindUnknown, ""
	}
}

func naiveShard(prefix, subject string) (int, bool) {
	match := regexp.MustCompile(`^` + regexp.QuoteMeta(prefix) +
		`\.[\w-]{1,64}\.(0|[1-9][0-9]*)\.[\w-]{1,64}$`).FindStringSubmatch(subject)
	if match == nil {
		return 0, false
	}
	shard, err := strconv.Atoi(match[1])
	if err != nil {
		return 0, false
	}
	return shard, true
}
