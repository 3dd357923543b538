package atomicfile_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/atomicfile"
)

func TestWriteMakesAndReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	require.NoError(t, atomicfile.Write(path, []byte("one"), 0o600))
	require.NoError(t, atomicfile.Write(path, []byte("the second"), 0o640))
	data, err := atomicfile.Read(path)
	require.NoError(t, err)
	assert.Equal(t, "the second", string(data))
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
	}
	assert.Equal(t, []string{"state.json"}, names(t, filepath.Dir(path)), "no temporary file is left")
}

func TestWriteIntoNoFolder(t *testing.T) {
	err := atomicfile.Write(filepath.Join(t.TempDir(), "absent", "f"), nil, 0o600)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestWriteOverAFolderLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "f", "inside"), 0o755))
	assert.Error(t, atomicfile.Write(filepath.Join(dir, "f"), []byte("x"), 0o600))
	assert.Equal(t, []string{"f"}, names(t, dir))
}

func TestReadersSeeTheOldOrTheNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	a, b := bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)
	require.NoError(t, atomicfile.Write(path, a, 0o600))
	var wg sync.WaitGroup
	for _, content := range [][]byte{a, b} {
		wg.Go(func() {
			for range 15 {
				assert.NoError(t, atomicfile.Write(path, content, 0o600))
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 50 {
				data, err := atomicfile.Read(path)
				if assert.NoError(t, err) {
					assert.True(t, bytes.Equal(data, a) || bytes.Equal(data, b), "%d bytes are neither", len(data))
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, []string{"f"}, names(t, filepath.Dir(path)))
}

func names(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
