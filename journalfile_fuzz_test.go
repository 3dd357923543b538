package abswap_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// goldenJournals calls f with the ID and the content of each journal in testdata.
func goldenJournals(t testing.TB, f func(id string, data []byte)) {
	t.Helper()
	paths, err := filepath.Glob("testdata/journal/*.jsonl")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		_, id, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".jsonl"), "-")
		f(id, data)
	}
}

// FuzzJournal reads any bytes as the file of a swap: what is accepted is what would be written, but for a torn tail.
func FuzzJournal(f *testing.F) {
	goldenJournals(f, func(id string, data []byte) {
		f.Add(id, data)
		f.Add(id, data[:len(data)*2/3])
		f.Add("another", data)
	})
	f.Add("", []byte("\n"))
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		records, torn, err := abswap.ParseJournal(id, data)
		if err != nil {
			_, ok := errors.AsType[*abswap.JournalError](err)
			require.True(t, ok, "%v", err)
			require.ErrorIs(t, err, abswap.ErrPermanent)
			require.Empty(t, records)
			return
		}
		require.NotEmpty(t, records)
		require.LessOrEqual(t, torn, int64(len(data)))
		whole := data[:int64(len(data))-torn]
		assert.Len(t, records, bytes.Count(whole, []byte("\n")))
		for i, r := range records {
			assert.Equal(t, i+1, r.Seq)
			assert.Equal(t, id, r.Swap)
		}
	})
}

// FuzzJournalLine reads lines whose sum is right, so that what is in them is looked at: what is accepted can be written, and means the
// same then.
func FuzzJournalLine(f *testing.F) {
	goldenJournals(f, func(_ string, data []byte) {
		for line := range bytes.Lines(data) {
			f.Add(line[:bytes.LastIndex(line, []byte(`,"sum":"`))])
		}
	})
	f.Add([]byte(`{"v":1,"seq":1,"swap":"s"}`))
	f.Add([]byte(`{"v":1,"v":2,"seq":1,"swap":"s"`))
	f.Add([]byte(`{"V":1,"seq":1,"swap":"s","weights":null`))
	f.Fuzz(func(t *testing.T, head []byte) {
		if bytes.IndexByte(head, '\n') >= 0 {
			return
		}
		id := "s"
		if _, after, ok := bytes.Cut(head, []byte(`"swap":"`)); ok {
			if s, _, ok := bytes.Cut(after, []byte(`"`)); ok {
				id = string(s)
			}
		}
		records, torn, err := abswap.ParseJournal(id, abswap.SignLine(id, head))
		if err != nil {
			return
		}
		require.Len(t, records, 1)
		require.Zero(t, torn)
		data, err := abswap.FormatJournal(id, records)
		require.NoError(t, err)
		again, torn, err := abswap.ParseJournal(id, data)
		require.NoError(t, err)
		require.Zero(t, torn)
		second, err := abswap.FormatJournal(id, again)
		require.NoError(t, err)
		assert.Equal(t, string(data), string(second))
	})
}

// TestFileJournalIsNeverMisread cuts a real journal at every byte, and changes every byte of it in turn.
func TestFileJournalIsNeverMisread(t *testing.T) {
	step := 1
	if abswap.RaceDetector {
		step = 31
	}
	var id string
	var data []byte
	goldenJournals(t, func(i string, d []byte) {
		if data == nil || len(d) < len(data) {
			id, data = i, d
		}
	})
	whole, _, err := abswap.ParseJournal(id, data)
	require.NoError(t, err)
	for n := 0; n <= len(data); n += step {
		records, torn, err := abswap.ParseJournal(id, data[:n])
		lines := bytes.Count(data[:n], []byte("\n"))
		if lines == 0 {
			require.Error(t, err, "cut at %d", n)
			continue
		}
		require.NoError(t, err, "cut at %d", n)
		require.Equal(t, whole[:lines], records)
		require.Equal(t, n-1-bytes.LastIndexByte(data[:n], '\n'), int(torn))
	}
	last := bytes.LastIndexByte(data[:len(data)-1], '\n') // the last line begins behind it
	changed := bytes.Clone(data)
	for at := 0; at < len(data); at += step {
		for _, b := range []byte{data[at] ^ 1, data[at] ^ 0x20, data[at] ^ 0x80, '\n', '"', 0} {
			if b == data[at] {
				continue
			}
			changed[at] = b
			records, _, err := abswap.ParseJournal(id, changed)
			if err == nil {
				require.Greater(t, at, last, "byte %d made %q", at, b)
				require.Equal(t, whole[:len(whole)-1], records, "byte %d made %q", at, b)
			}
		}
		changed[at] = data[at]
	}
}
