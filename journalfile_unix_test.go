//go:build unix

package abswap_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

func TestFileJournalIsItsOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, dir)
	h := lockJournal(t, j)
	require.NoError(t, h.Append(t.Context(), begin("s")))
	require.NoError(t, j.Post(t.Context(), abswap.Request{Kind: abswap.RequestCancel}))
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		assert.Equal(t, want, info.Mode().Perm(), path)
		return nil
	}))
	require.NoError(t, os.Chmod(dir, 0o750))
	err := j.Check(t.Context(), abswap.CheckRequest{})
	assert.ErrorAs(t, err, new(*abswap.Warning))
	assert.ErrorContains(t, err, "chmod 700")
}

func TestFileJournalOfAnotherUser(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("nothing is forbidden to root")
	}
	dir := filepath.Join(t.TempDir(), "journal")
	j := openJournal(t, dir)
	write(t, j, begin("s"))
	require.NoError(t, os.Chmod(dir, 0o500))
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	assert.ErrorIs(t, j.Check(t.Context(), abswap.CheckRequest{}), fs.ErrPermission)
	h := lockJournal(t, j)
	assert.ErrorIs(t, h.Append(t.Context(), begin("t")), fs.ErrPermission)
	assert.Len(t, notes(t, j, "s"), 1, "reading works")
}

func underWine() bool { return false }
