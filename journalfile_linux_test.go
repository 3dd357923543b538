package abswap_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/abswap/abswap"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k,nr_inodes=200"); err != nil {
		t.Skipf("a real full disk needs the right to mount one: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// fill leaves no byte free in dir but those that its files have room for, and returns what gives the space back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = io.Copy(f, zeros{})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	return func() { require.NoError(t, os.Remove(path)) }
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestFileJournalEngineOnAReallyFullDisk fills the disk just before each record in turn; the first that needs a new page then fails.
func TestFileJournalEngineOnAReallyFullDisk(t *testing.T) {
	s := journalStories()[1]
	root := smallDisk(t)
	failures, n := 0, 1
	for whole := false; !whole; n++ {
		dir := filepath.Join(root, fmt.Sprint(n))
		ok := t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s.prepare(t, r)
				j := openJournal(t, dir)
				var empty func()
				seen := 0
				turn := func() {
					if seen++; seen == n {
						empty = fill(t, root)
					}
				}
				j.UseDisk(abswap.TestDisk{
					Create: func(_ string, _ []byte, do func() error) error { turn(); return do() },
					Write:  func(line []byte, do func([]byte) (int, error)) (int, error) { turn(); return do(line) },
				})
				r.Journal = j
				_, err := s.verb(t.Context(), r)
				if whole = empty == nil; whole { // it writes less than n records
					require.NoError(t, err)
					return
				}
				empty()
				if err == nil { // what was left of the file's last page was enough
					return
				}
				failures++
				require.ErrorIs(t, err, syscall.ENOSPC)
				assert.ErrorContains(t, err, "free space on that disk")
				se, ok := errors.AsType[*abswap.SwapError](err)
				require.True(t, ok)
				assert.NotEmpty(t, se.Serving)
				s.judge(t, r, "on a full disk")
				rep, err := r.Resume(t.Context())
				if n == 1 {
					require.ErrorIs(t, err, abswap.ErrNothingToDo)
					return
				}
				assert.Contains(t, []abswap.Outcome{abswap.OutcomeSucceeded, abswap.OutcomeRolledBack}, rep.Outcome, "%v", err)
				s.judge(t, r, "at its end")
			})
		})
		if !ok {
			return
		}
		require.NoError(t, os.RemoveAll(dir))
	}
	t.Logf("%d records, each with a disk full before it; %d runs failed", n-2, failures)
	assert.Greater(t, failures, 20)
}

func TestFileJournalOnAFullDiskIsRefusedBeforeAnythingMoves(t *testing.T) {
	root := smallDisk(t)
	r := newRig(t)
	r.Journal = openJournal(t, filepath.Join(root, "journal"))
	defer fill(t, root)()
	_, err := r.Deploy(t.Context(), v2)
	require.ErrorIs(t, err, syscall.ENOSPC)
	assert.ErrorContains(t, err, "the journal cannot be written")
	assert.ErrorContains(t, err, "free space on that disk")
	assert.Zero(t, r.moves())
	left, err := os.ReadDir(filepath.Join(root, "journal"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestFileJournalOnADiskThatIsReadOnly(t *testing.T) {
	root := smallDisk(t)
	r := newRig(t)
	j := openJournal(t, filepath.Join(root, "journal"))
	r.Journal = j
	write(t, j, begin("s"))
	require.NoError(t, unix.Mount("none", root, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err := r.Deploy(t.Context(), v2)
	assert.ErrorIs(t, err, syscall.EROFS)
	assert.Zero(t, r.moves())
	_, err = j.Lock(t.Context(), abswap.Owner{})
	assert.ErrorIs(t, err, syscall.EROFS)
	assert.Len(t, notes(t, j, "s"), 1, "reading works")
	_, held, err := j.Owner(t.Context())
	assert.NoError(t, err)
	assert.False(t, held)
}
