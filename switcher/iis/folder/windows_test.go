//go:build windows

package folder_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/windows"

	"github.com/abswap/abswap/switcher/iis/folder"
)

// underWine tells whether this is not Windows itself.
func underWine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// hold opens a file as a program does that writes to it, or as one that lets nobody in (share 0).
func hold(t *testing.T, path string, access, share uint32) (release func()) {
	t.Helper()
	p, err := windows.UTF16PtrFromString(path)
	require.NoError(t, err)
	h, err := windows.CreateFile(p, access, share, nil, windows.OPEN_EXISTING, 0, 0)
	require.NoError(t, err)
	open := true
	release = func() {
		if open {
			open = false
			require.NoError(t, windows.CloseHandle(h))
		}
	}
	t.Cleanup(release)
	return release
}

func TestSourceFilesInUse(t *testing.T) {
	for name, c := range map[string]struct{ access, share uint32 }{
		"held alone":   {windows.GENERIC_READ, 0},
		"written to":   {windows.GENERIC_WRITE, windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE},
		"also written": {windows.GENERIC_READ | windows.GENERIC_WRITE, windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			release := hold(t, filepath.Join(s.source, "app.dll"), c.access, c.share)
			_, err := s.installer(t).Install(t.Context(), s.release("v1"))
			assert.ErrorIs(t, err, folder.ErrInUse)
			assert.ErrorContains(t, err, "app.dll")
			assert.Empty(t, s.names(t))

			s.cfg.Patience = patience
			time.AfterFunc(50*time.Millisecond, release)
			s.install(t, "v1")
		})
	}
	t.Run("read by others", func(t *testing.T) {
		s := newSite(t)
		hold(t, filepath.Join(s.source, "app.dll"), windows.GENERIC_READ, windows.FILE_SHARE_READ)
		s.install(t, "v1")
	})
}

func TestAFolderWithAnOpenFileIsLeftWhole(t *testing.T) {
	if underWine() {
		t.Skip("Wine lets a folder be renamed that holds an open file")
	}
	s := newSite(t)
	path := s.install(t, "v1")
	release := hold(t, filepath.Join(path, "bin", "a", "lib.dll"), windows.GENERIC_READ, windows.FILE_SHARE_READ)
	removed, err := s.installer(t).Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{}})
	assert.ErrorIs(t, err, folder.ErrInUse)
	assert.Empty(t, removed)
	assert.NoError(t, s.installer(t).Verify(t.Context(), "v1"))
	release()
	_, err = s.installer(t).Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{}})
	assert.NoError(t, err)
	assert.Empty(t, s.names(t))
}

// TestAFileThatCannotBeRemovedYet is about what a removal leaves that could move the folder aside but not empty it.
func TestAFileThatCannotBeRemovedYet(t *testing.T) {
	s := newSite(t)
	path := s.install(t, "v1")
	require.NoError(t, os.Rename(path, path+"~gone")) // as a run left it that was killed
	release := hold(t, filepath.Join(path+"~gone", "app.dll"), windows.GENERIC_READ, windows.FILE_SHARE_READ)
	_, err := s.installer(t).Install(t.Context(), s.release("v1"))
	assert.ErrorIs(t, err, folder.ErrInUse)
	_, err = s.installer(t).Install(t.Context(), s.release("v2"))
	assert.NoError(t, err, "that is no business of another release")
	release()
	s.install(t, "v1")
	assert.Equal(t, []string{"MySite.v1", "MySite.v1~manifest.json", "MySite.v2", "MySite.v2~manifest.json"}, s.names(t))
}

func TestTheSystemsOwnRobocopy(t *testing.T) {
	if underWine() {
		t.Skip("the robocopy of Wine 10 ends with 16, whatever it is told")
	}
	s := newSite(t)
	s.write(t, "read only.txt", "x")
	file := filepath.Join(s.source, "read only.txt")
	require.NoError(t, os.Chmod(file, 0o444))
	t.Cleanup(func() { require.NoError(t, os.Chmod(file, 0o644)) })
	s.cfg.Copy = folder.Robocopy{}
	path := s.install(t, "v1")
	assert.Equal(t, tree(t, s.source), tree(t, path))
}

func TestPathsOfTheSameFolder(t *testing.T) {
	s := newSite(t)
	path := s.install(t, "v1")
	for _, same := range []string{path, `\\?\` + path, filepath.ToSlash(path), upper(path)} {
		removed, err := s.installer(t).Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{same}})
		require.NoError(t, err)
		assert.Empty(t, removed, "%q is in use", same)
	}
}

func upper(path string) string {
	b := []byte(path)
	for n, c := range b {
		if c >= 'a' && c <= 'z' {
			b[n] = c - 'a' + 'A'
		}
	}
	return string(b)
}
