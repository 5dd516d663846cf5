// SPDX-License-Identifier: Apache-2.0

package groupcommit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/messages"
)

// wire is a Send that lets a test hold messages under way. The messages are kept in the order in which they came.
type wire struct {
	mu       sync.Mutex
	subjects []string
	bodies   []string
	release  chan error // one value lets one message arrive
}

func newWire() *wire { return &wire{release: make(chan error)} }

func (w *wire) send(ctx context.Context, subject string, body []byte) (uint64, error) {
	w.mu.Lock()
	w.subjects = append(w.subjects, subject)
	w.bodies = append(w.bodies, string(body))
	sequence := uint64(len(w.bodies))
	w.mu.Unlock()
	select {
	case err := <-w.release:
		return sequence, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (w *wire) sent() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.bodies)
}

// fate is what Settled heard of one message.
type fate struct {
	subject  string
	tags     []int
	sequence uint64
	err      error
}

type fates struct {
	mu  sync.Mutex
	all []fate
}

func (f *fates) settled(subject string, tags []int, sequence uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fate{subject, slices.Clone(tags), sequence, err})
}

func (f *fates) get() []fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}

func record(i int) []byte { return fmt.Appendf(nil, `{"n":%d}`, i) }

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.Write(record(i))
		b.WriteByte('\n')
	}
	return b.String()
}

func add(t testing.TB, b *groupcommit.Batcher[int], subject string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := b.Append(t.Context(), subject, record(i), i); err != nil {
			t.Fatal(err)
		}
	}
}

func drain[T any](t testing.TB, b *groupcommit.Batcher[T]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// Idle, a record leaves at once and alone; busy, all that gathered leaves in the next message. No timer is involved: in the
// bubble no time passes at all.
func TestSelfClocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, w, f := time.Now(), newWire(), &fates{}
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send, Settled: f.settled})
		add(t, b, "s", 0, 1)
		synctest.Wait()
		want(t, "an idle lane's record", w.sent(), []string{lines(0, 1)})
		add(t, b, "s", 1, 101)
		synctest.Wait()
		want(t, "what is under way while 100 records come", w.sent(), []string{lines(0, 1)})
		w.release <- nil
		synctest.Wait()
		want(t, "the messages after the first arrived", w.sent(), []string{lines(0, 1), lines(1, 101)})
		w.release <- nil
		synctest.Wait()
		add(t, b, "s", 101, 102)
		synctest.Wait()
		want(t, "an idle lane's record, again", w.sent()[2:], []string{lines(101, 102)})
		w.release <- nil
		drain(t, b)
		if passed := time.Since(start); passed != 0 {
			t.Errorf("it took %v, want no time at all", passed)
		}
	})
}

// A busy subject does not hold another one up.
func TestLanesAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send})
		add(t, b, "a", 0, 3)
		add(t, b, "b", 0, 3)
		synctest.Wait()
		w.mu.Lock()
		slices.Sort(w.subjects)
		want(t, "under way", w.subjects, []string{"a", "b"})
		w.mu.Unlock()
		close(w.release)
		drain(t, b)
	})
}

// Between Hold and Release idle lanes fill; what is under way, and a lane that is busy, go on.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send, MaxRecords: 2, MaxQueue: 2})
		add(t, b, "busy", 0, 1)
		synctest.Wait()
		b.Hold()
		b.Hold()
		add(t, b, "busy", 1, 2)
		add(t, b, "idle", 2, 4)
		w.release <- nil
		synctest.Wait()
		want(t, "what leaves while the lanes are held", w.sent(), []string{lines(0, 1), lines(1, 2)})
		w.release <- nil
		b.Release()
		synctest.Wait()
		want(t, "what leaves after one Release of two", w.sent()[2:], []string{})
		b.Flush()
		synctest.Wait()
		want(t, "what leaves after Flush", w.sent()[2:], []string{lines(2, 4)})
		w.release <- nil
		synctest.Wait()
		add(t, b, "idle", 4, 6)
		synctest.Wait()
		want(t, "what leaves after Flush, and while the lanes are still held", w.sent()[3:], []string{})
		b.Release()
		synctest.Wait()
		want(t, "what leaves after the last Release", w.sent()[3:], []string{lines(4, 6)})
		w.release <- nil
		synctest.Wait()
		b.Hold()
		add(t, b, "idle", 6, 10)
		go func() { _ = b.Append(t.Context(), "idle", record(10), 10) }() // who waits for room waits for no Release
		synctest.Wait()
		want(t, "what leaves when a held lane is full", w.sent()[4:], []string{lines(6, 8)})
		for range 3 {
			w.release <- nil
			synctest.Wait()
		}
		b.Release()
		drain(t, b)
	})
}

// Drain waits for no Release.
func TestDrainWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send})
		b.Hold()
		add(t, b, "s", 0, 2)
		go func() { w.release <- nil }()
		drain(t, b)
		want(t, "what was held", w.sent(), []string{lines(0, 2)})
		b.Release()
	})
}

func TestBoundsOfAMessage(t *testing.T) {
	for name, c := range map[string]struct {
		records, bytes int
		want           []string
	}{
		"count":           {records: 3, want: []string{lines(0, 1), lines(1, 4), lines(4, 7), lines(7, 8)}},
		"bytes":           {bytes: 2 * len(lines(1, 2)), want: []string{lines(0, 1), lines(1, 3), lines(3, 5), lines(5, 7), lines(7, 8)}},
		"bytes, not even": {bytes: 3*len(lines(1, 2)) - 1, want: []string{lines(0, 1), lines(1, 3), lines(3, 5), lines(5, 7), lines(7, 8)}},
		"a record larger than a message is one of its own": {
			bytes: 1, want: []string{lines(0, 1), lines(1, 2), lines(2, 3), lines(3, 4), lines(4, 5), lines(5, 6), lines(6, 7), lines(7, 8)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send, MaxRecords: c.records, MaxBytes: c.bytes})
				add(t, b, "s", 0, 1)
				synctest.Wait()
				add(t, b, "s", 1, 8)
				close(w.release)
				drain(t, b)
				want(t, "messages", w.sent(), c.want)
			})
		})
	}
}

// The defaults are the protocol's limits of a message.
func TestDefaultBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send})
		add(t, b, "count", 0, 1)
		large := bytes.Repeat([]byte("x"), messages.MaxRecord)
		if err := b.Append(t.Context(), "bytes", large[:1], 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		add(t, b, "count", 0, messages.MaxRecords+1)
		for range 4 {
			if err := b.Append(t.Context(), "bytes", large, 0); err != nil {
				t.Fatal(err)
			}
		}
		close(w.release)
		drain(t, b)
		sizes := map[string][]int{}
		for i, body := range w.sent() {
			n := strings.Count(body, "\n")
			sizes[w.subjects[i]] = append(sizes[w.subjects[i]], n)
			if len(body) > messages.MaxMessage {
				t.Errorf("a message of %d bytes, at most %d", len(body), messages.MaxMessage)
			}
		}
		want(t, "records by count", sizes["count"], []int{1, messages.MaxRecords, 1})
		want(t, "records by bytes", sizes["bytes"], []int{1, 3, 1})
	})
}

// A full queue blocks an Append until a message leaves, its context ends, or the batcher drains.
func TestFullQueueBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send, MaxRecords: 2, MaxQueue: 2})
		add(t, b, "s", 0, 1)
		synctest.Wait()
		add(t, b, "s", 1, 5) // the queue's two messages
		cancelled, cancel := context.WithCancelCause(t.Context())
		results := make(chan error, 3)
		go func() { results <- b.Append(cancelled, "s", record(99), 99) }()
		synctest.Wait()
		add(t, b, "other", 0, 1) // a full lane is no other's concern
		select {
		case err := <-results:
			t.Fatalf("Append to a full lane returned: %v", err)
		default:
		}
		cancel(nil)
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("Append whose context ended: %v", err)
		}
		go func() { results <- b.Append(t.Context(), "s", record(5), 5) }()
		synctest.Wait()
		w.release <- nil
		w.release <- nil // whichever lanes they are of, one is of s or comes with the next
		w.release <- nil
		synctest.Wait()
		if err := <-results; err != nil {
			t.Errorf("Append when there is room again: %v", err)
		}
		close(w.release)
		drain(t, b)
		var s strings.Builder
		for i, body := range w.sent() {
			if w.subjects[i] == "s" {
				s.WriteString(body)
			}
		}
		want(t, "records of the lane", s.String(), lines(0, 6))
	})
}

// Everyone who waits for room gets it in the end.
func TestManyWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send, MaxRecords: 1, MaxQueue: 1})
		var appending sync.WaitGroup
		for i := range 50 {
			appending.Go(func() {
				if err := b.Append(t.Context(), "s", record(i), i); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(w.release)
		appending.Wait()
		drain(t, b)
		got := w.sent()
		slices.Sort(got)
		if len(slices.Compact(got)) != 50 {
			t.Errorf("%d different messages, want 50", len(got))
		}
	})
}

// Tags come back in the order of their records, with the message's sequence or error.
func TestTagsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWire(), &fates{}
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send, Settled: f.settled, MaxRecords: 3})
		add(t, b, "s", 0, 1)
		synctest.Wait()
		add(t, b, "s", 1, 6)
		refused := errors.New("refused")
		w.release <- nil
		w.release <- refused
		w.release <- nil
		drain(t, b)
		want(t, "fates", f.get(), []fate{
			{"s", []int{0}, 1, nil}, {"s", []int{1, 2, 3}, 2, refused}, {"s", []int{4, 5}, 3, nil},
		})
	})
}

// Draining waits for what is under way and queued, and turns away what comes and what waits for room.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newWire(), &fates{}
		b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: w.send, Settled: f.settled, MaxRecords: 1, MaxQueue: 1})
		add(t, b, "s", 0, 1)
		synctest.Wait()
		add(t, b, "s", 1, 2)
		waiting := make(chan error, 1)
		go func() { waiting <- b.Append(t.Context(), "s", record(2), 2) }()
		synctest.Wait()

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain whose context ended: %v", err)
		}
		if err := <-waiting; !errors.Is(err, groupcommit.ErrClosed) {
			t.Errorf("Append that waited for room: %v", err)
		}
		if err := b.Append(t.Context(), "s", record(3), 3); !errors.Is(err, groupcommit.ErrClosed) {
			t.Errorf("Append after Drain: %v", err)
		}
		close(w.release)
		drain(t, b)
		drain(t, b) // again is harmless
		want(t, "fates", f.get(), []fate{{"s", []int{0}, 1, nil}, {"s", []int{1}, 2, nil}})
	})
}

func TestDrainOfAnIdleBatcher(t *testing.T) {
	b := groupcommit.New(t.Context(), groupcommit.Config[int]{Send: newWire().send})
	drain(t, b)
}

// When the batcher's context ends, every record's fate is still told, and Drain returns.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w, f := newWire(), &fates{}
		b := groupcommit.New(ctx, groupcommit.Config[int]{Send: w.send, Settled: f.settled, MaxRecords: 2})
		add(t, b, "s", 0, 1)
		synctest.Wait()
		add(t, b, "s", 1, 6)
		cancel()
		drain(t, b)
		var tags []int
		for _, one := range f.get() {
			tags = append(tags, one.tags...)
			if !errors.Is(one.err, context.Canceled) {
				t.Errorf("fate of %v: %v", one.tags, one.err)
			}
		}
		want(t, "tags", tags, []int{0, 1, 2, 3, 4, 5})
	})
}

// The record is copied, so the caller may use its memory again; a message's buffer is used again only after its fate is
// known. The race detector watches the rest.
func TestBuffersAreNotShared(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{}
	b := groupcommit.New(t.Context(), groupcommit.Config[int]{
		MaxRecords: 3,
		Send: func(_ context.Context, subject string, body []byte) (uint64, error) {
			before := string(body)
			mu.Lock()
			got[subject] += before
			mu.Unlock()
			if string(body) != before {
				t.Errorf("a body changed while it was under way")
			}
			clear(body) // it is Send's until it returns
			return 0, nil
		},
		Settled: func(_ string, tags []int, _ uint64, _ error) { clear(tags) },
	})
	const lanes, records = 8, 500
	var appending sync.WaitGroup
	for lane := range lanes {
		appending.Go(func() {
			buffer := make([]byte, 0, 64)
			for i := range records {
				buffer = append(buffer[:0], record(i)...)
				if err := b.Append(t.Context(), fmt.Sprint(lane), buffer, i); err != nil {
					t.Error(err)
				}
				clear(buffer)
			}
		})
	}
	appending.Wait()
	drain(t, b)
	for lane := range lanes {
		if got[fmt.Sprint(lane)] != lines(0, records) {
			t.Errorf("lane %d: records are lost, changed or out of order", lane)
		}
	}
}

// A subject that is used once, as a reply subject is, leaves nothing behind.
func TestIdleLanesAreForgotten(t *testing.T) {
	b := groupcommit.New(t.Context(), groupcommit.Config[int]{
		Send: func(context.Context, string, []byte) (uint64, error) { return 0, nil },
	})
	for i := range 20_000 {
		if err := b.Append(t.Context(), fmt.Sprintf("reply.%d", i), record(i), i); err != nil {
			t.Fatal(err)
		}
	}
	drain(t, b)
	if n := groupcommit.Lanes(b); n > 1025 {
		t.Errorf("%d lanes are kept", n)
	}
}

func TestSendIsRequired(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New without a Send does not panic")
		}
	}()
	groupcommit.New(t.Context(), groupcommit.Config[int]{})
}
