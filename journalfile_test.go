package abswap_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

func openJournal(t *testing.T, dir string) *abswap.FileJournal {
	t.Helper()
	j, err := abswap.OpenJournal(dir, abswap.JournalOptions{})
	require.NoError(t, err)
	return j
}

// lockJournal locks j and unlocks it when the test ends.
func lockJournal(t *testing.T, j abswap.Journal) abswap.JournalHold {
	t.Helper()
	h, err := j.Lock(t.Context(), abswap.Owner{User: "ann", Host: "build1", PID: os.Getpid(), Since: time.Now().Round(0), Release: "v2"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Unlock()) })
	return h
}

func begin(swap string) abswap.Record {
	return abswap.Record{Swap: swap, Kind: abswap.RecordBegin, Begin: &abswap.SwapBegin{From: "blue", To: "green", Steps: []int{100}}}
}

func note(swap, text string) abswap.Record {
	return abswap.Record{Swap: swap, Kind: abswap.RecordNote, Note: text}
}

// write appends records to j in one hold.
func write(t *testing.T, j abswap.Journal, records ...abswap.Record) {
	t.Helper()
	h, err := j.Lock(t.Context(), abswap.Owner{})
	require.NoError(t, err)
	for _, r := range records {
		require.NoError(t, h.Append(t.Context(), r))
	}
	require.NoError(t, h.Unlock())
}

// swapFiles lists the names of the files of swaps, oldest first.
func swapFiles(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	return paths
}

func notes(t *testing.T, j abswap.Journal, swap string) (texts []string) {
	t.Helper()
	records, err := j.Records(t.Context(), swap)
	require.NoError(t, err)
	for i, r := range records {
		assert.Equal(t, i+1, r.Seq)
		assert.Equal(t, swap, r.Swap)
		texts = append(texts, r.Note)
	}
	return texts
}

// fullRecord has every field set.
func fullRecord(swap string) abswap.Record {
	now := time.Date(2026, 3, 4, 5, 6, 7, 890_000_001, time.UTC)
	load := abswap.Load{Requests: 1, Upgraded: 2, Sessions: 3, Evidence: abswap.EvidenceApproximate, Source: "counters"}
	return abswap.Record{
		Version: 1, Seq: 1, Time: now, Swap: swap, Kind: abswap.RecordOutcome, Phase: abswap.PhaseDraining, Round: 2, Result: abswap.ResultFailed,
		Error: "it said \"no\"\n<b>& \u2028 ü", Note: "n", Slot: "blue", Deadline: now.Add(time.Hour), Weights: map[string]int{"blue": 95, "green": 5},
		Drain: &abswap.DrainResult{Slot: "blue", Drained: true, First: load, Last: load, Finished: 3, Cut: 1, Waited: time.Minute, Forced: []string{"cut"}, Readings: 7,
			Left: []abswap.Work{{Kind: "request", Method: "PUT", Path: "/up", Peer: "10.0.0.1:5", Age: time.Hour, In: 1 << 40, Out: 2}}},
		Begin: &abswap.SwapBegin{Release: abswap.Release{ID: "v2", Path: "/r", Meta: map[string]string{"commit": "c0ffee"}}, From: "blue", To: "green", Install: true,
			Steps: []int{5, 100}, Exclusive: true, Tail: []string{"mauve"}, Weights: map[string]int{"blue": 100}, Running: true,
			Owner: abswap.Owner{User: "ann", Host: "h", PID: 7, Since: now, Release: "v2"}},
		Undone: []string{"a"}, NotUndone: []string{"b", "c"},
	}
}

func TestFileJournalKeepsWhatItIsGiven(t *testing.T) {
	dir := t.TempDir()
	want := []abswap.Record{fullRecord("s1"), {Swap: "s1", Kind: abswap.RecordNote, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	write(t, openJournal(t, dir), want[0])
	write(t, openJournal(t, dir), want[1]) // by another process, later
	got, err := openJournal(t, dir).Records(t.Context(), "s1")
	require.NoError(t, err)
	want[1].Version, want[1].Seq = 1, 2
	assert.Equal(t, want, got)

	got, err = openJournal(t, dir).Records(t.Context(), "unknown")
	assert.NoError(t, err)
	assert.Empty(t, got)
}

func TestFileJournalIsReadWithAPager(t *testing.T) {
	dir := t.TempDir()
	h := lockJournal(t, openJournal(t, dir))
	require.NoError(t, h.Append(t.Context(), begin("20260101-000000.000-abcd")))
	require.NoError(t, h.Append(t.Context(), note("20260101-000000.000-abcd", "a < b & c")))
	require.Equal(t, []string{"0000001-20260101-000000.000-abcd.jsonl"}, swapFiles(t, dir))
	data, err := os.ReadFile(filepath.Join(dir, swapFiles(t, dir)[0])) // while it is held
	require.NoError(t, err)
	lines := strings.Split(string(data), "\n")
	require.Len(t, lines, 3)
	assert.Empty(t, lines[2])
	assert.Contains(t, lines[1], `"kind":"note","note":"a < b & c","sum":"`)
	assert.True(t, json.Valid([]byte(lines[1])))
}

func TestFileJournalOrdersByBeginningNotByClock(t *testing.T) {
	dir := t.TempDir()
	write(t, openJournal(t, dir), begin("2026-b"), begin("2025-a"), begin("2027-c")) // the clock was set back, and forth
	write(t, openJournal(t, dir), note("2025-a", "an older one goes on"))
	ids, err := openJournal(t, dir).Swaps(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"2027-c", "2025-a", "2026-b"}, ids, "newest first")
	assert.Equal(t, []string{"", "an older one goes on"}, notes(t, openJournal(t, dir), "2025-a"))
}

func TestFileJournalPrunes(t *testing.T) {
	for _, c := range []struct{ keep, want int }{{0, 50}, {1, 1}, {3, 3}, {-1, 60}} {
		dir := t.TempDir()
		j, err := abswap.OpenJournal(dir, abswap.JournalOptions{Keep: c.keep})
		require.NoError(t, err)
		j.UseDisk(abswap.TestDisk{Sync: func(func() error) error { return nil }})
		require.NoError(t, os.WriteFile(filepath.Join(dir, "0000001-MINE.jsonl"), nil, 0o600))
		h := lockJournal(t, j)
		for i := range 60 {
			require.NoError(t, h.Append(t.Context(), begin(fmt.Sprintf("s%02d", i))))
			ids, err := j.Swaps(t.Context())
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("s%02d", i), ids[0], "the newest stays")
		}
		ids, err := j.Swaps(t.Context())
		require.NoError(t, err)
		assert.Len(t, ids, c.want)
		require.NoError(t, h.Append(t.Context(), note("s59", "goes on")))
		assert.FileExists(t, filepath.Join(dir, "0000001-MINE.jsonl"), "not ours")
	}
}

func TestFileJournalRefusesBadInput(t *testing.T) {
	_, err := abswap.OpenJournal("", abswap.JournalOptions{})
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = abswap.OpenJournal(file, abswap.JournalOptions{})
	assert.ErrorContains(t, err, "is not a folder")
	_, err = abswap.OpenJournal(filepath.Join(file, "below"), abswap.JournalOptions{})
	assert.Error(t, err)

	dir := filepath.Join(t.TempDir(), "made", "for", "it")
	h := lockJournal(t, openJournal(t, dir))
	for _, id := range []string{"", "..", "a/b", `a\b`, "A", "a:b", "a b", "\x00", strings.Repeat("a", 101)} {
		err := h.Append(t.Context(), begin(id))
		if id == ".." {
			assert.NoError(t, err, "it is part of a longer name")
			continue
		}
		assert.ErrorIs(t, err, abswap.ErrPermanent, "%q", id)
	}
	assert.NoError(t, h.Append(t.Context(), begin("con")), "a mistake does not spoil the hold")
}

func TestFileJournalEndedContext(t *testing.T) {
	j := openJournal(t, t.TempDir())
	h := lockJournal(t, j)
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	assert.ErrorIs(t, h.Append(ctx, begin("s")), why)
	_, err := h.NextRequest(ctx)
	assert.ErrorIs(t, err, why)
	_, err = j.Lock(ctx, abswap.Owner{})
	assert.ErrorIs(t, err, why)
	_, err = j.Swaps(ctx)
	assert.ErrorIs(t, err, why)
	_, err = j.Records(ctx, "s")
	assert.ErrorIs(t, err, why)
	assert.NoError(t, h.Append(t.Context(), begin("s")), "nothing was done, nothing is spoiled")
	assert.Len(t, notes(t, j, "s"), 1)
}

func TestFileJournalRepairsATornLine(t *testing.T) {
	for name, tail := range map[string]string{"half a record": `{"v":1,"seq":3,"ti`, "zeros of a power cut": "\x00\x00\x00\x00", "zeros and an end": "{\"v\":1\x00\x00\x00\"}\n"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, openJournal(t, dir), begin("s"), note("s", "two"))
			path := filepath.Join(dir, swapFiles(t, dir)[0])
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, append(before[:len(before):len(before)], tail...), 0o600))

			assert.Equal(t, []string{"", "two"}, notes(t, openJournal(t, dir), "s"), "readers leave it out")
			var log bytes.Buffer
			j, err := abswap.OpenJournal(dir, abswap.JournalOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			require.NoError(t, err)
			write(t, j, note("s", "four"))
			got := notes(t, j, "s")
			require.Len(t, got, 4)
			assert.Equal(t, []string{"", "two", "four"}, append(got[:2:2], got[3]))
			assert.Contains(t, got[2], fmt.Sprintf("a torn last line of %d bytes was removed", len(tail)), "and it is said")
			assert.Contains(t, log.String(), "torn last line")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.True(t, bytes.HasPrefix(after, before))
		})
	}
}

func TestFileJournalRefusesDamage(t *testing.T) {
	lines := func(data []byte) [][]byte {
		return bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	}
	for name, c := range map[string]struct {
		damage func(data []byte) []byte
		line   int
	}{
		"a changed word":     {func(d []byte) []byte { return bytes.Replace(d, []byte("three"), []byte("threa"), 1) }, 3},
		"a changed last one": {func(d []byte) []byte { return bytes.Replace(d, []byte("four"), []byte("fuor"), 1) }, 4},
		"a dropped line":     {func(d []byte) []byte { l := lines(d); return bytes.Join([][]byte{l[0], l[1], l[3]}, nil) }, 3},
		"swapped lines":      {func(d []byte) []byte { l := lines(d); return bytes.Join([][]byte{l[0], l[2], l[1], l[3]}, nil) }, 2},
		"a doubled line":     {func(d []byte) []byte { l := lines(d); return bytes.Join([][]byte{l[0], l[1], l[1]}, nil) }, 3},
		"zeros in the midst": {func(d []byte) []byte { l := lines(d); clear(l[1][5:20]); return bytes.Join(l, nil) }, 2},
		"an empty line":      {func(d []byte) []byte { return append(d, '\n', '\n') }, 5},
		"line ends of DOS":   {func(d []byte) []byte { return bytes.ReplaceAll(d, []byte("\n"), []byte("\r\n")) }, 1},
		"nothing left":       {func([]byte) []byte { return []byte{} }, 1},
		"no whole line":      {func(d []byte) []byte { return d[:50] }, 1},
		"another file":       {func([]byte) []byte { return []byte("hello\n") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := openJournal(t, dir)
			write(t, j, begin("s"), note("s", "two"), note("s", "three"), note("s", "four"))
			path := filepath.Join(dir, swapFiles(t, dir)[0])
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			damaged := c.damage(data)
			if name != "no whole line" && name != "nothing left" && name != "an empty line" {
				damaged = append(bytes.TrimSuffix(damaged, []byte("\n")), '\n')
			}
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			records, err := j.Records(t.Context(), "s")
			assert.Empty(t, records)
			je, ok := errors.AsType[*abswap.JournalError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, c.line, je.Line)
			assert.Equal(t, path, je.Path)
			assert.ErrorIs(t, err, abswap.ErrPermanent)
			assert.Contains(t, err.Error(), "move the file out of the folder", "it says what to do")
			_, err = j.Lock(t.Context(), abswap.Owner{})
			assert.ErrorAs(t, err, &je, "and nothing is written")
			_, held, err := j.Owner(t.Context())
			assert.NoError(t, err)
			assert.False(t, held)
			assert.ErrorAs(t, j.Check(t.Context(), abswap.CheckRequest{}), &je)
			now, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, damaged, now, "nor removed")

			require.NoError(t, os.Rename(path, path+".damaged")) // as it says
			write(t, j, begin("next"))
		})
	}
}

func TestFileJournalOfAnotherSwapIsRefused(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	write(t, j, begin("s"))
	path := filepath.Join(dir, swapFiles(t, dir)[0])
	require.NoError(t, os.Rename(path, filepath.Join(dir, "0000001-t.jsonl")))
	_, err := j.Records(t.Context(), "t")
	assert.ErrorIs(t, err, abswap.ErrPermanent)
}

func TestFileJournalVersions(t *testing.T) {
	dir := t.TempDir()
	old, later := openJournal(t, dir), openJournal(t, dir)
	// In the later release a note is called "text".
	later.AddFormat(2, 2, abswap.DecodeRecord)
	later.AddFormat(2, 1, func(object []byte) (abswap.Record, error) {
		return abswap.DecodeRecord(bytes.Replace(object, []byte(`"note":"`), []byte(`"note":"formerly `), 1))
	})
	write(t, old, begin("s"), note("s", "one"))
	write(t, later, note("s", "two"))
	records, err := later.Records(t.Context(), "s")
	require.NoError(t, err)
	require.Len(t, records, 3)
	assert.Equal(t, "formerly one", records[1].Note, "lines of the older version are read as such")
	assert.Equal(t, "two", records[2].Note)
	assert.Equal(t, 2, records[2].Version)

	_, err = old.Records(t.Context(), "s")
	je, ok := errors.AsType[*abswap.JournalError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, 3, je.Line)
	assert.ErrorContains(t, err, "it has version 2 of the format, and this program knows version 1")
	_, err = old.Lock(t.Context(), abswap.Owner{})
	assert.ErrorContains(t, err, "version 2")
}

func TestFileJournalRefusesFieldsItDoesNotKnow(t *testing.T) {
	line := abswap.SignLine("s", []byte(`{"v":1,"seq":1,"time":"2026-01-01T00:00:00Z","swap":"s","kind":"begin","never":true`))
	_, _, err := abswap.ParseJournal("s", line)
	assert.ErrorContains(t, err, `unknown field "never"`)
	line = abswap.SignLine("s", []byte(`{"v":1,"seq":1,"time":"2026-01-01T00:00:00Z","swap":"s","kind":"begin"}{"seq":1`))
	_, _, err = abswap.ParseJournal("s", line)
	assert.Error(t, err)
}

// TestFileJournalReadsWhatWasWritten reads files that earlier releases wrote.
func TestFileJournalReadsWhatWasWritten(t *testing.T) {
	paths, err := filepath.Glob("testdata/journal/*.jsonl")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		_, id, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".jsonl"), "-")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		records, torn, err := abswap.ParseJournal(id, data)
		require.NoError(t, err, path)
		assert.Zero(t, torn)
		assert.NotNil(t, records[0].Begin)
		again, err := abswap.FormatJournal(id, records)
		require.NoError(t, err)
		assert.Equal(t, string(data), string(again), "and would write the same")
	}
}

func TestFileJournalCheck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, dir)
	assert.NoError(t, j.Check(t.Context(), abswap.CheckRequest{}))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "it leaves nothing behind")
	require.NoError(t, os.Remove(dir))
	assert.ErrorIs(t, j.Check(t.Context(), abswap.CheckRequest{}), fs.ErrNotExist)
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	assert.ErrorContains(t, j.Check(t.Context(), abswap.CheckRequest{}), "is not a folder")
}

func TestFileJournalWhoseFolderIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, dir)
	require.NoError(t, os.Remove(dir))
	_, err := j.Swaps(t.Context())
	assert.ErrorIs(t, err, fs.ErrNotExist, "no history is not an empty one")
	_, err = j.Lock(t.Context(), abswap.Owner{})
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, held, err := j.Owner(t.Context())
	assert.NoError(t, err)
	assert.False(t, held)
}

func TestFileJournalStopsWhenItsFilesAreMeddledWith(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, dir, file string){
		"the lock is removed":   func(t *testing.T, dir, _ string) { require.NoError(t, os.Remove(filepath.Join(dir, "lock"))) },
		"the file is removed":   func(t *testing.T, _, file string) { require.NoError(t, os.Remove(file)) },
		"the folder is removed": func(t *testing.T, dir, _ string) { require.NoError(t, os.RemoveAll(dir)) },
		"the lock is replaced": func(t *testing.T, dir, _ string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
			require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "lock")))
		},
		"the file is replaced": func(t *testing.T, dir, file string) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), data, 0o600))
			require.NoError(t, os.Rename(filepath.Join(dir, "new"), file))
		},
		"the file is cut": func(t *testing.T, _, file string) { require.NoError(t, os.Truncate(file, 5)) },
		"another writes": func(t *testing.T, _, file string) {
			f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteString("x")
			require.NoError(t, errors.Join(err, f.Close()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && name != "the file is cut" && name != "another writes" {
				t.Skip("Windows lets nobody remove or replace a file that is open")
			}
			dir := filepath.Join(t.TempDir(), "journal")
			j := openJournal(t, dir)
			h := lockJournal(t, j)
			require.NoError(t, h.Append(t.Context(), begin("s")))
			require.NoError(t, h.Append(t.Context(), note("s", "fine")))
			file := filepath.Join(dir, swapFiles(t, dir)[0])
			meddle(t, dir, file)
			before, _ := os.ReadFile(file)
			err := h.Append(t.Context(), note("s", "never"))
			require.Error(t, err)
			if strings.HasPrefix(name, "the lock") {
				assert.ErrorContains(t, err, "lock is lost")
			}
			after, _ := os.ReadFile(file)
			assert.Equal(t, before, after, "nothing is written")
			again := h.Append(t.Context(), begin("other"))
			assert.ErrorContains(t, again, "nothing is written after an earlier failure")
			assert.ErrorContains(t, again, err.Error(), "which it names")
			assert.Error(t, h.Append(t.Context(), note("s", "nor later")))
		})
	}
}
