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

// TestFileJournalWritesAndFlushesOnce counts what a record costs the disk.
func TestFileJournalWritesAndFlushesOnce(t *testing.T) {
	j, err := abswap.OpenJournal(t.TempDir(), abswap.JournalOptions{})
	require.NoError(t, err)
	var writes, syncs, others int
	j.UseDisk(abswap.TestDisk{
		Create:   func(_ string, _ []byte, do func() error) error { others++; return do() },
		Write:    func(line []byte, do func([]byte) (int, error)) (int, error) { writes++; return do(line) },
		Sync:     func(do func() error) error { syncs++; return do() },
		Truncate: func(_ string, _ int64, do func() error) error { others++; return do() },
	})
	h := lockJournal(t, j)
	const id = "20260101-000000.000-abcd"
	require.NoError(t, h.Append(t.Context(), begin(id)))
	writes, syncs, others = 0, 0, 0
	const records = 50
	for range records {
		require.NoError(t, h.Append(t.Context(), plainRecord(id)))
	}
	assert.Equal(t, [3]int{records, records, 0}, [3]int{writes, syncs, others})
}

// TestFileJournalCostsLittleMoreThanItsFlush compares turns that alternate, on the same disk: the fast ones, as other things that the machine
// does only make some slower.
func TestFileJournalCostsLittleMoreThanItsFlush(t *testing.T) {
	if testing.Short() {
		t.Skip("measures")
	}
	const rounds, each = 9, 40
	dir := t.TempDir()
	kinds := []func(){bareAppend(t, dir), journalAppend(t, dir)}
	var took [2][]time.Duration
	for range rounds {
		for k, one := range kinds {
			for range each {
				began := time.Now()
				one()
				took[k] = append(took[k], time.Since(began))
			}
		}
	}
	for k := range took {
		slices.Sort(took[k])
	}
	bare, journal := took[0][rounds*each/10], took[1][rounds*each/10]
	ratio := float64(journal) / float64(bare)
	t.Logf("one record: %s; a bare append and flush: %s; ratio %.2f", journal, bare, ratio)
	if abswap.RaceDetector || bare < 50*time.Microsecond || underWine() {
		t.Skip("the bound is for a disk that flushes, a real system, and code without the race detector")
	}
	assert.Less(t, ratio, 2.5, "2 is promised; the rest is for machines that do other things too")
}
