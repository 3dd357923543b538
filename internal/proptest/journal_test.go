package proptest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/abswap/abswap"
)

// record draws any record of a swap: text of all kinds, and fields that are set or not.
func record(t *rapid.T, swap string) abswap.Record {
	text := func(label string) string { return rapid.StringN(0, 20, -1).Draw(t, label) }
	name := rapid.SampledFrom([]string{"", "blue", "green"})
	at := func(label string) time.Time {
		ns := rapid.Int64Range(0, 4e18).Draw(t, label)
		return time.Unix(0, ns).UTC()
	}
	r := abswap.Record{
		Swap: swap, Time: at("time"), Kind: rapid.SampledFrom([]abswap.RecordKind{abswap.RecordBegin, abswap.RecordIntent, abswap.RecordOutcome, abswap.RecordNote}).Draw(t, "kind"),
		Phase: abswap.Phase(rapid.SampledFrom([]string{"", "planned", "shifting", "draining"}).Draw(t, "phase")), Round: rapid.IntRange(0, 9).Draw(t, "round"),
		Error: text("error"), Note: text("note"), Slot: name.Draw(t, "slot"),
	}
	if rapid.Bool().Draw(t, "has deadline") {
		r.Deadline = at("deadline")
	}
	if rapid.Bool().Draw(t, "has weights") {
		r.Weights = map[string]int{"blue": rapid.IntRange(0, 100).Draw(t, "blue"), "green": rapid.Int().Draw(t, "green")}
	}
	if rapid.Bool().Draw(t, "has drain") {
		r.Drain = &abswap.DrainResult{Slot: name.Draw(t, "drained"), Waited: time.Duration(rapid.Int64().Draw(t, "waited"))}
	}
	if rapid.Bool().Draw(t, "has begin") {
		r.Begin = &abswap.SwapBegin{To: name.Draw(t, "to"), Steps: rapid.SliceOfN(rapid.IntRange(1, 100), 1, 3).Draw(t, "steps"),
			Owner: abswap.Owner{User: text("user"), Since: at("since")}}
	}
	return r
}

// journal is a journal on the disk, with a history of one swap, and what a reader makes of it.
type journal struct {
	dir, file string
	data      []byte          // of the file
	history   []abswap.Record // as read
	j         *abswap.FileJournal
}

const swap = "20260101-000000.000-abcd"

// written writes any history.
func written(t *rapid.T, dir string) journal {
	j, err := abswap.OpenJournal(dir, abswap.JournalOptions{})
	require.NoError(t, err)
	hold, err := j.Lock(t.Context(), abswap.Owner{})
	require.NoError(t, err)
	want := make([]abswap.Record, rapid.IntRange(1, 5).Draw(t, "records"))
	for i := range want {
		want[i] = record(t, swap)
		require.NoError(t, hold.Append(t.Context(), want[i]))
		want[i].Version, want[i].Seq = 1, i+1
	}
	require.NoError(t, hold.Unlock())
	history, err := j.Records(t.Context(), swap)
	require.NoError(t, err)
	require.Equal(t, want, history)
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	data, err := os.ReadFile(files[0])
	require.NoError(t, err)
	return journal{dir: dir, file: files[0], data: data, history: history, j: j}
}

// judge makes data the file's content and reads it: refused, or a true history, shorter by at most lost records.
func (j journal) judge(t *rapid.T, data []byte, lost int) (refused bool) {
	require.NoError(t, os.WriteFile(j.file, data, 0o600))
	got, err := j.j.Records(t.Context(), swap)
	if err != nil {
		_, ok := errors.AsType[*abswap.JournalError](err)
		require.True(t, ok, "%v", err)
		require.Empty(t, got)
		return true
	}
	require.LessOrEqual(t, len(got), len(j.history))
	require.GreaterOrEqual(t, len(got), len(j.history)-lost)
	require.Equal(t, j.history[:len(got)], got, "never misread")
	return false
}

// continues makes sure that the journal, as it is now, is repaired and goes on with its next record.
func (j journal) continues(t *rapid.T) {
	before, err := j.j.Records(t.Context(), swap)
	require.NoError(t, err)
	hold, err := j.j.Lock(t.Context(), abswap.Owner{})
	require.NoError(t, err)
	require.NoError(t, hold.Append(t.Context(), abswap.Record{Swap: swap, Kind: abswap.RecordNote, Note: "on"}))
	require.NoError(t, hold.Unlock())
	after, err := j.j.Records(t.Context(), swap)
	require.NoError(t, err)
	require.Equal(t, before, after[:len(before)])
	require.Equal(t, "on", after[len(after)-1].Note)
}

// each checks property with a fresh folder each time.
func each(t *testing.T, property func(t *rapid.T, dir string)) {
	root, n := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		defer os.RemoveAll(dir)
		property(t, dir)
	})
}

func TestAnyPrefixIsAShorterHistoryOrRefused(t *testing.T) {
	each(t, func(t *rapid.T, dir string) {
		j := written(t, dir)
		n := rapid.IntRange(0, len(j.data)).Draw(t, "prefix")
		if !j.judge(t, j.data[:n], len(j.history)) {
			j.continues(t)
		}
	})
}

func TestAnyFlippedByteIsSeen(t *testing.T) {
	each(t, func(t *rapid.T, dir string) {
		j := written(t, dir)
		at := rapid.IntRange(0, len(j.data)-1).Draw(t, "at")
		flip := rapid.ByteRange(1, 255).Draw(t, "flip")
		data := append([]byte(nil), j.data...)
		data[at] ^= flip
		if !j.judge(t, data, 1) {
			got, err := j.j.Records(t.Context(), swap)
			require.NoError(t, err)
			require.Len(t, got, len(j.history)-1, "a flip in the last line may look like a torn one, but is never overlooked")
			j.continues(t)
		}
	})
}

func TestAnythingBehindIsTornOrRefused(t *testing.T) {
	each(t, func(t *rapid.T, dir string) {
		j := written(t, dir)
		tail := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "tail")
		if !j.judge(t, append(j.data[:len(j.data):len(j.data)], tail...), 0) {
			j.continues(t)
		}
	})
}

func TestAnyRunOfBytesRemovedIsSeen(t *testing.T) {
	each(t, func(t *rapid.T, dir string) {
		j := written(t, dir)
		from := rapid.IntRange(0, len(j.data)-1).Draw(t, "from")
		to := rapid.IntRange(from+1, len(j.data)).Draw(t, "to")
		refused := j.judge(t, append(j.data[:from:from], j.data[to:]...), len(j.history))
		if to < len(j.data) && from > 0 && j.data[from-1] == '\n' && j.data[to-1] == '\n' {
			require.True(t, refused, "whole lines are missing from the midst")
		}
	})
}
