package abswap_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// plainRecord is one of the usual size.
func plainRecord(swap string) abswap.Record {
	return abswap.Record{Swap: swap, Kind: abswap.RecordOutcome, Phase: abswap.PhaseShifting, Result: abswap.ResultOK, Time: time.Now().Round(0),
		Weights: map[string]int{"blue": 75, "green": 25}}
}

// bareAppend returns what anybody has to pay: a line is written and flushed.
func bareAppend(t testing.TB, dir string) func() {
	f, err := os.OpenFile(filepath.Join(dir, "bare"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	line, err := json.Marshal(plainRecord("20260101-000000.000-abcd"))
	require.NoError(t, err)
	line = append(line, `,"sum":"0123456789abcdef"`+"\n"...)
	return func() {
		_, err := f.Write(line)
		if err == nil {
			err = f.Sync()
		}
		require.NoError(t, err)
	}
}

func journalAppend(t testing.TB, dir string) func() {
	j, err := abswap.OpenJournal(filepath.Join(dir, "journal"), abswap.JournalOptions{})
	require.NoError(t, err)
	h, err := j.Lock(t.Context(), abswap.Owner{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Unlock()) })
	const id = "20260101-000000.000-abcd"
	require.NoError(t, h.Append(t.Context(), begin(id)))
	return func() { require.NoError(t, h.Append(t.Context(), plainRecord(id))) }
}

func BenchmarkFileJournalAppend(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		one := bareAppend(b, b.TempDir())
		for b.Loop() {
			one()
		}
	})
	b.Run("journal", func(b *testing.B) {
		one := journalAppend(b, b.TempDir())
		for b.Loop() {
			one()
		}
	})
}

// TestFileJournalCostsLittleMoreThanItsFlush compares medians of turns that alternate, on the same disk.
func TestFileJournalCostsLittleMoreThanItsFlush(t *testing.T) {
	if testing.Short() {
		t.Skip("measures")
	}
	const rounds, each = 9, 40
	dir := t.TempDir()
	kinds := []func(){bareAppend(t, dir), journalAppend(t, dir)}
	var medians [2][]time.Duration
	for range rounds {
		for k, one := range kinds {
			took := make([]time.Duration, each)
			for i := range took {
				began := time.Now()
				one()
				took[i] = time.Since(began)
			}
			slices.Sort(took)
			medians[k] = append(medians[k], took[each/2])
		}
	}
	for k := range medians {
		slices.Sort(medians[k])
	}
	bare, journal := medians[0][rounds/2], medians[1][rounds/2]
	ratio := float64(journal) / float64(bare)
	t.Logf("one record: %s; a bare append and flush: %s; ratio %.2f", journal, bare, ratio)
	if abswap.RaceDetector || bare < 50*time.Microsecond || underWine() {
		t.Skip("the bound is for a disk that flushes, a real system, and code without the race detector")
	}
	assert.Less(t, ratio, 2.5, "2 is promised; the rest is for machines that do other things too")
}
