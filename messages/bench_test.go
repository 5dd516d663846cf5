// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"encoding/json"
	"testing"
)

func benchmarkAppend[R any](b *testing.B, encode func([]byte, *R) []byte, record *R) {
	buffer := make([]byte, 0, 4096)
	b.SetBytes(int64(len(encode(buffer, record))))
	b.ReportAllocs()
	for b.Loop() {
		encode(buffer, record)
	}
}

func BenchmarkAppendPrepare(b *testing.B)  { benchmarkAppend(b, AppendPrepare, &samples.prepare) }
func BenchmarkAppendVote(b *testing.B)     { benchmarkAppend(b, AppendVote, &samples.vote) }
func BenchmarkAppendAbort(b *testing.B)    { benchmarkAppend(b, AppendAbort, &samples.abort) }
func BenchmarkAppendFinished(b *testing.B) { benchmarkAppend(b, AppendFinished, &samples.finished) }
func BenchmarkAppendEffect(b *testing.B)   { benchmarkAppend(b, AppendEffect, &samples.effect) }
func BenchmarkAppendDone(b *testing.B)     { benchmarkAppend(b, AppendDone, &samples.done) }
func BenchmarkAppendSubmission(b *testing.B) {
	benchmarkAppend(b, AppendSubmission, &samples.submission)
}
func BenchmarkAppendAnswer(b *testing.B) { benchmarkAppend(b, AppendAnswer, &samples.answer) }
func BenchmarkAppendWait(b *testing.B)   { benchmarkAppend(b, AppendWait, &samples.wait) }

// benchmarkDecode measures the decoder and, for comparison, encoding/json without any of the rules.
func benchmarkDecode[R any](b *testing.B, k kind[R], record *R) {
	line, decode := decoding(b, k, record)
	b.Run("assent", func(b *testing.B) {
		b.SetBytes(int64(len(line)))
		b.ReportAllocs()
		for b.Loop() {
			decode()
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(line)))
		b.ReportAllocs()
		for b.Loop() {
			var into wireRecord
			if err := json.Unmarshal(line, &into); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecodePrepare(b *testing.B)    { benchmarkDecode(b, prepares, &samples.prepare) }
func BenchmarkDecodeVote(b *testing.B)       { benchmarkDecode(b, votes, &samples.vote) }
func BenchmarkDecodeAbort(b *testing.B)      { benchmarkDecode(b, aborts, &samples.abort) }
func BenchmarkDecodeFinished(b *testing.B)   { benchmarkDecode(b, finisheds, &samples.finished) }
func BenchmarkDecodeEffect(b *testing.B)     { benchmarkDecode(b, effects, &samples.effect) }
func BenchmarkDecodeDone(b *testing.B)       { benchmarkDecode(b, dones, &samples.done) }
func BenchmarkDecodeSubmission(b *testing.B) { benchmarkDecode(b, submissions, &samples.submission) }
func BenchmarkDecodeAnswer(b *testing.B)     { benchmarkDecode(b, answers, &samples.answer) }
func BenchmarkDecodeWait(b *testing.B)       { benchmarkDecode(b, waits, &samples.wait) }

func BenchmarkParseLog(b *testing.B) {
	subject := Subjects{}.Vote(12, "bank-a")
	b.ReportAllocs()
	for b.Loop() {
		Subjects{}.ParseLog(12, subject)
	}
}
