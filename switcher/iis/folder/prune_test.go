package folder_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/iis/folder"
)

func ids(list []folder.Installed) []string {
	all := []string{}
	for _, r := range list {
		all = append(all, r.Release)
	}
	return all
}

// versions installs releases whose IDs do not sort as they came.
func versions(t *testing.T, s *site) *folder.Installer {
	t.Helper()
	for _, id := range []string{"v9", "v10", "v8", "v11", "v2"} {
		s.install(t, id)
	}
	return s.installer(t)
}

func left(t *testing.T, in *folder.Installer) []string {
	t.Helper()
	list, err := in.List(t.Context())
	require.NoError(t, err)
	return ids(list)
}

func TestPruneKeepsTheNewest(t *testing.T) {
	s := newSite(t)
	in := versions(t, s)
	assert.Equal(t, []string{"v2", "v11", "v8", "v10", "v9"}, left(t, in))
	removed, err := in.Prune(t.Context(), folder.PruneOptions{InUse: []string{}})
	require.NoError(t, err)
	assert.Equal(t, []string{"v10", "v9"}, ids(removed))
	assert.Equal(t, []string{"v2", "v11", "v8"}, left(t, in))
	removed, err = in.Prune(t.Context(), folder.PruneOptions{Newest: 1, InUse: []string{}})
	require.NoError(t, err)
	assert.Equal(t, []string{"v11", "v8"}, ids(removed))
	assert.Equal(t, []string{"MySite.v2", "MySite.v2~manifest.json"}, s.names(t))
	removed, err = in.Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{}})
	require.NoError(t, err)
	assert.Equal(t, []string{"v2"}, ids(removed))
	assert.Empty(t, s.names(t))
}

func TestPruneNeverRemovesWhatIsInUse(t *testing.T) {
	s := newSite(t)
	in := versions(t, s)
	t.Setenv("FOLDER_TEST_DRIVE", s.parent)
	used := []string{
		filepath.Join(s.parent, "MySite.v9"),
		filepath.Join(s.parent, "MySite.v10", "wwwroot") + string(filepath.Separator), // a virtual directory within
		filepath.Join(s.parent, "x", "..", "MySite.v8", "bin"),
		"%FOLDER_TEST_DRIVE%" + string(filepath.Separator) + "MySite.v11",
		s.source, // and what is elsewhere does not matter
	}
	removed, err := in.Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: used})
	require.NoError(t, err)
	assert.Equal(t, []string{"v2"}, ids(removed))
	assert.Equal(t, []string{"v11", "v8", "v10", "v9"}, left(t, in))
	assert.ErrorIs(t, in.Remove(t.Context(), "v9", folder.PruneOptions{InUse: used}), folder.ErrInUse)
	assert.NoError(t, in.Verify(t.Context(), "v9"))

	t.Run("reached through a link", func(t *testing.T) {
		live := filepath.Join(filepath.Dir(s.parent), "live")
		symlink(t, filepath.Join(s.parent, "MySite.v9"), live)
		removed, err := in.Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: append(used[1:], live)})
		require.NoError(t, err)
		assert.Empty(t, removed)
	})
	t.Run("not known", func(t *testing.T) {
		for _, unknown := range []string{`%FOLDER_TEST_NOWHERE%\MySite.v9`, "%", "MySite.v9", ""} {
			_, err := in.Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{unknown}})
			assert.Error(t, err, "%q", unknown)
		}
		_, err := in.Prune(t.Context(), folder.PruneOptions{Newest: -1})
		assert.ErrorContains(t, err, "neither InUse nor Keep")
		assert.Error(t, in.Remove(t.Context(), "v9", folder.PruneOptions{}))
		assert.Len(t, left(t, in), 4)
	})
}

func TestPruneAsksAtTheMomentOfRemoval(t *testing.T) {
	s := newSite(t)
	in := versions(t, s)
	why := errors.New("the configuration cannot be read")
	var asked []string
	removed, err := in.Prune(t.Context(), folder.PruneOptions{Newest: 1, Keep: func(_ context.Context, r folder.Installed) (bool, error) {
		assert.DirExists(t, r.Folder)
		for _, before := range asked {
			if before == "v10" { // which was not kept
				assert.NoDirExists(t, filepath.Join(s.parent, "MySite."+before), "one after the other")
			}
		}
		asked = append(asked, r.Release)
		switch r.Release {
		case "v11":
			return true, nil
		case "v8":
			return false, why
		}
		return false, nil
	}})
	assert.ErrorIs(t, err, why)
	assert.Equal(t, []string{"v11", "v8", "v10", "v9"}, asked)
	assert.Equal(t, []string{"v10", "v9"}, ids(removed))
	assert.Equal(t, []string{"v2", "v11", "v8"}, left(t, in))

	t.Run("nothing with a context that has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.ErrorIs(t, in.Remove(ctx, "v8", folder.PruneOptions{InUse: []string{}}), context.Canceled)
		_, err := in.Prune(ctx, folder.PruneOptions{Newest: -1, InUse: []string{}})
		assert.ErrorIs(t, err, context.Canceled)
		assert.Len(t, left(t, in), 3)
	})
	t.Run("until the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		removed, err := in.Prune(ctx, folder.PruneOptions{Newest: -1, Keep: func(context.Context, folder.Installed) (bool, error) {
			cancel()
			return true, nil
		}})
		assert.ErrorIs(t, err, context.Canceled)
		assert.Empty(t, removed)
	})
}

func TestPruneRemovesNothingItDidNotMake(t *testing.T) {
	s := newSite(t)
	in := versions(t, s)
	for _, foreign := range []string{"MySite.v1", "MySite.backup", "MySite", "Other.v1", "MySite.v3~gone", "MySite.v4~part"} {
		require.NoError(t, os.Mkdir(filepath.Join(s.parent, foreign), 0o755))
	}
	s.cfg.Name = "MySite.v9" // whose releases begin like the other's
	s.install(t, "x")
	other := s.installer(t)
	_, err := in.Install(t.Context(), s.release("v9.x"))
	assert.ErrorIs(t, err, folder.ErrManifest, "its place is taken")
	replaced := filepath.Join(s.parent, "MySite.v8")
	require.NoError(t, os.RemoveAll(replaced))
	require.NoError(t, os.Mkdir(replaced, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(replaced, "mine.txt"), []byte("somebody's"), 0o644))

	removed, err := in.Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{}})
	assert.ErrorIs(t, err, folder.ErrForeign)
	assert.NotErrorIs(t, err, folder.ErrManifest, "a manifest of another Name is none that is damaged")
	assert.Equal(t, []string{"v2", "v11", "v10", "v9"}, ids(removed))
	assert.Equal(t, map[string]string{"mine.txt": "somebody's"}, tree(t, replaced))
	assert.Equal(t, []string{"MySite", "MySite.backup", "MySite.v1", "MySite.v3~gone", "MySite.v4~part", "MySite.v8", "MySite.v8~manifest.json",
		"MySite.v9.x", "MySite.v9.x~manifest.json", "MySite.v9~lock", "Other.v1"}, s.names(t))
	assert.NoError(t, other.Verify(t.Context(), "x"))
}

func TestRemoveAndInstallAgain(t *testing.T) {
	s := newSite(t)
	path := s.install(t, "v1")
	require.NoError(t, os.Remove(filepath.Join(path, "app.dll")))
	_, err := s.installer(t).Install(t.Context(), s.release("v1"))
	require.ErrorIs(t, err, folder.ErrDiffers)
	require.NoError(t, s.installer(t).Remove(t.Context(), "v1", folder.PruneOptions{InUse: []string{}}))
	assert.ErrorIs(t, s.installer(t).Remove(t.Context(), "v1", folder.PruneOptions{InUse: []string{}}), folder.ErrNotInstalled)
	s.install(t, "v1")
	assert.NoError(t, s.installer(t).Verify(t.Context(), "v1"))
}
