package folder_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis/folder"
)

func TestInstallMakesAFolder(t *testing.T) {
	s := newSite(t)
	var steps []folder.Step
	var last folder.Progress
	s.cfg.OnProgress = func(p folder.Progress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
		if p.Step == folder.StepCopy {
			last = p
		}
	}
	path := s.install(t, "v1085")
	assert.Equal(t, filepath.Join(s.parent, "MySite.v1085"), path)
	assert.Equal(t, tree(t, s.source), tree(t, path))
	assert.Equal(t, []string{"MySite.v1085", "MySite.v1085~manifest.json"}, s.names(t))
	assert.Equal(t, []folder.Step{folder.StepScan, folder.StepCopy, folder.StepVerify, folder.StepFinish}, steps)
	assert.Equal(t, len(content), last.Files)
	assert.Equal(t, last.Files, last.Of)
	assert.Equal(t, last.Full, last.Bytes)

	was, err := os.Stat(filepath.Join(s.source, "app.dll"))
	require.NoError(t, err)
	is, err := os.Stat(filepath.Join(path, "app.dll"))
	require.NoError(t, err)
	assert.WithinDuration(t, was.ModTime(), is.ModTime(), time.Second)

	list, err := s.installer(t).List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "v1085", list[0].Release)
	assert.Equal(t, path, list[0].Folder)
	assert.Equal(t, len(content), list[0].Files)
	assert.Equal(t, last.Full, list[0].Bytes)
	assert.NoError(t, s.installer(t).Verify(t.Context(), "v1085"))
}

func TestInstallAgainIsNoCopy(t *testing.T) {
	s := newSite(t)
	path := s.install(t, "v1")
	marked, err := os.Stat(path)
	require.NoError(t, err)
	manifest, err := os.ReadFile(path + "~manifest.json")
	require.NoError(t, err)
	s.cfg.OnProgress = func(p folder.Progress) { assert.Equal(t, folder.StepVerify, p.Step) }
	s.install(t, "v1")
	again, err := os.Stat(path)
	require.NoError(t, err)
	assert.True(t, os.SameFile(marked, again))
	same, err := os.ReadFile(path + "~manifest.json")
	require.NoError(t, err)
	assert.Equal(t, string(manifest), string(same))

	t.Run("without a source", func(t *testing.T) {
		for _, source := range []string{"", filepath.Join(s.source, "gone")} {
			_, err := s.installer(t).Install(t.Context(), abswap.Release{ID: "v1", Path: source})
			assert.NoError(t, err)
		}
	})
	t.Run("with another source", func(t *testing.T) {
		s.write(t, "app.dll", "another one")
		_, err := s.installer(t).Install(t.Context(), s.release("v1"))
		diff, ok := errors.AsType[*folder.DiffError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, []string{"app.dll"}, diff.Changed)
		assert.ErrorIs(t, err, folder.ErrDiffers)
		assert.ErrorContains(t, err, "choose another")
		assert.Equal(t, "the application", tree(t, path)["app.dll"])
	})
}

func TestVerifyTellsWhichFilesDiffer(t *testing.T) {
	s := newSite(t)
	path := s.install(t, "v1")
	require.NoError(t, os.WriteFile(filepath.Join(path, "app.dll"), []byte("the applicatioN"), 0o644))
	require.NoError(t, os.Remove(filepath.Join(path, "bin", "a", "lib.dll")))
	require.NoError(t, os.Remove(filepath.Join(path, "empty folder")))
	require.NoError(t, os.MkdirAll(filepath.Join(path, "logs", "deep"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(path, "logs", "out.txt"), []byte("log"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(path, "wwwroot", "index.html"), []byte("<p>hello!"), 0o644))

	err := s.installer(t).Verify(t.Context(), "v1")
	diff, ok := errors.AsType[*folder.DiffError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, []string{"app.dll", "wwwroot/index.html"}, diff.Changed)
	assert.Equal(t, []string{"bin/a/lib.dll", "empty folder/"}, diff.Missing)
	assert.Equal(t, []string{"logs/", "logs/deep/", "logs/out.txt"}, diff.Extra)
	assert.ErrorContains(t, err, `2 changed: "app.dll", "wwwroot/index.html"; 2 missing: "bin/a/lib.dll", "empty folder/"; 3 extra: "logs/"`)

	_, err = s.installer(t).Install(t.Context(), s.release("v1"))
	assert.ErrorIs(t, err, folder.ErrDiffers, "it is not repaired behind anybody's back")

	s.cfg.Volatile = []string{"LOGS", "app.dll", "bin/a", "wwwroot/index.html", "empty folder"}
	assert.NoError(t, s.installer(t).Verify(t.Context(), "v1"))
	assert.ErrorIs(t, s.installer(t).Verify(t.Context(), "v2"), folder.ErrNotInstalled)
}

func TestFoldersOfOthersAreLeftAlone(t *testing.T) {
	s := newSite(t)
	foreign := filepath.Join(s.parent, "MySite.v1")
	require.NoError(t, os.Mkdir(foreign, 0o755))
	_, err := s.installer(t).Install(t.Context(), s.release("v1"))
	assert.ErrorIs(t, err, folder.ErrForeign)
	assert.ErrorIs(t, s.installer(t).Verify(t.Context(), "v1"), folder.ErrForeign)
	assert.ErrorIs(t, s.installer(t).Remove(t.Context(), "v1", folder.PruneOptions{InUse: []string{}}), folder.ErrForeign)
	for _, half := range []string{"MySite.v2~part", "MySite.v3~gone"} {
		require.NoError(t, os.Mkdir(filepath.Join(s.parent, half), 0o755))
		_, err := s.installer(t).Install(t.Context(), s.release(half[7:9]))
		assert.ErrorIs(t, err, folder.ErrForeign)
	}
	assert.Equal(t, []string{"MySite.v1", "MySite.v2~part", "MySite.v3~gone"}, s.names(t))

	require.NoError(t, os.WriteFile(filepath.Join(s.parent, "MySite.v4"), nil, 0o644))
	_, err = s.installer(t).Install(t.Context(), s.release("v4"))
	assert.ErrorIs(t, err, folder.ErrForeign)
}

func TestAFolderThatComesDuringTheCopy(t *testing.T) {
	s := newSite(t)
	foreign := filepath.Join(s.parent, "MySite.v1")
	s.cfg.OnProgress = func(p folder.Progress) {
		if p.Step == folder.StepFinish {
			require.NoError(t, os.Mkdir(foreign, 0o755))
		}
	}
	_, err := s.installer(t).Install(t.Context(), s.release("v1"))
	assert.ErrorIs(t, err, folder.ErrForeign)
	assert.Equal(t, []string{"MySite.v1"}, s.names(t))
	assert.Empty(t, tree(t, foreign))
}

// TestAFolderThatCameBeforeTheLastMove is about a run that was killed right before it gave its copy the name that somebody else took.
func TestAFolderThatCameBeforeTheLastMove(t *testing.T) {
	s := newSite(t)
	path := s.install(t, "v1")
	require.NoError(t, os.Rename(path, path+"~part"))
	require.NoError(t, os.Mkdir(path, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(path, "app.dll"), []byte(content["app.dll"]), 0o644))
	assert.ErrorIs(t, s.installer(t).Verify(t.Context(), "v1"), folder.ErrForeign)
	_, err := s.installer(t).Install(t.Context(), s.release("v1"))
	assert.ErrorIs(t, err, folder.ErrForeign)
	_, err = s.installer(t).Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{}})
	assert.NoError(t, err)
	assert.Len(t, tree(t, path), 1, "it is somebody else's")
	require.NoError(t, os.RemoveAll(path))
	s.install(t, "v1")
	assert.Equal(t, []string{"MySite.v1", "MySite.v1~manifest.json"}, s.names(t))
}

func TestADamagedManifestIsToldAndNothingIsRemoved(t *testing.T) {
	s := newSite(t)
	path := s.install(t, "v1")
	text, err := os.ReadFile(path + "~manifest.json")
	require.NoError(t, err)
	for name, bad := range map[string]string{
		"empty": "", "torn": string(text[:len(text)/2]), "a size changed": strings.Replace(string(text), `"size": 15`, `"size": 16`, 1),
		"of another": strings.ReplaceAll(string(text), "v1", "v2"), "twice": string(text) + string(text),
	} {
		require.NoError(t, os.WriteFile(path+"~manifest.json", []byte(bad), 0o644))
		_, err = s.installer(t).Install(t.Context(), s.release("v1"))
		assert.ErrorIs(t, err, folder.ErrManifest, name)
		_, err = s.installer(t).Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{}})
		assert.ErrorIs(t, err, folder.ErrManifest, name)
		assert.DirExists(t, path)
	}
	s.install(t, "v2")
	require.NoError(t, os.Rename(path, path+"~part"))
	_, err = s.installer(t).Prune(t.Context(), folder.PruneOptions{Newest: -1, InUse: []string{}})
	assert.ErrorIs(t, err, folder.ErrManifest)
	assert.Equal(t, []string{"MySite.v1~manifest.json", "MySite.v1~part"}, s.names(t), "what cannot be told to be ours stays")
}

func TestReleaseIDs(t *testing.T) {
	s := newSite(t)
	for _, id := range []string{"", ".", "..", "../x", `a\b`, "a/b", "v1.", "v1 ", "v1~part", "a:b", "CON", "nul.txt", "com1", "LPT9.x", strings.Repeat("x", 65), "é"} {
		_, err := s.installer(t).Install(t.Context(), abswap.Release{ID: id, Path: s.source})
		assert.Error(t, err, "%q", id)
		_, err = s.installer(t).Path(id)
		assert.Error(t, err, "%q", id)
	}
	assert.Empty(t, s.names(t))
	for _, id := range []string{"v1", "1.2.3+b5", "console", "com10", "a-b_c"} {
		_, err := s.installer(t).Path(id)
		assert.NoError(t, err, "%q", id)
	}
	t.Run("differ in case only", func(t *testing.T) {
		s.install(t, "v1a")
		_, err := s.installer(t).Install(t.Context(), s.release("V1A"))
		assert.ErrorIs(t, err, folder.ErrForeign)
		assert.ErrorContains(t, err, "only in case")
		assert.ErrorContains(t, s.installer(t).Check(t.Context(), s.release("V1A")), "only in case")
	})
	t.Run("too long for a folder", func(t *testing.T) {
		deep := s.parent
		for len(deep) < 220 {
			deep = filepath.Join(deep, strings.Repeat("d", 10))
		}
		s.cfg.Parent = deep
		_, err := s.installer(t).Path(strings.Repeat("x", 30))
		assert.ErrorContains(t, err, "247")
	})
}

func TestSourcesThatAreRefused(t *testing.T) {
	refused := func(t *testing.T, s *site, sentinel error, text string) {
		t.Helper()
		err := s.installer(t).Check(t.Context(), s.release("v1"))
		assert.ErrorIs(t, err, sentinel)
		assert.ErrorContains(t, err, text)
		_, err = s.installer(t).Install(t.Context(), s.release("v1"))
		assert.ErrorIs(t, err, sentinel)
		assert.ErrorContains(t, err, text)
		for _, name := range s.names(t) {
			assert.NotContains(t, name, "MySite.v1", "nothing is left")
		}
	}
	t.Run("none", func(t *testing.T) {
		s := newSite(t)
		s.source = ""
		refused(t, s, folder.ErrSource, "has no Path")
		s.source = filepath.Join(s.parent, "absent")
		refused(t, s, fs.ErrNotExist, "absent")
	})
	t.Run("a file", func(t *testing.T) {
		s := newSite(t)
		s.source = filepath.Join(s.source, "app.dll")
		refused(t, s, folder.ErrSource, "is not a folder")
	})
	t.Run("empty", func(t *testing.T) {
		s := newSite(t)
		s.source = filepath.Join(s.source, "empty folder")
		refused(t, s, folder.ErrSource, "holds no file")
	})
	t.Run("the parent", func(t *testing.T) {
		s := newSite(t)
		s.source = s.parent
		refused(t, s, folder.ErrSource, "would lie within its source")
		s.source = filepath.Dir(s.parent)
		refused(t, s, folder.ErrSource, "would lie within its source")
	})
	t.Run("within the target", func(t *testing.T) {
		s := newSite(t)
		for _, target := range []string{"MySite.v1~part", "MySite.v1~gone"} {
			s.source = filepath.Join(s.parent, target, "sub")
			require.NoError(t, os.MkdirAll(s.source, 0o755))
			_, err := s.installer(t).Install(t.Context(), s.release("v1"))
			assert.ErrorContains(t, err, "lies within its target")
		}
	})
	t.Run("app_offline", func(t *testing.T) {
		s := newSite(t)
		s.write(t, "App_Offline.HTM", "back soon")
		err := s.installer(t).Check(t.Context(), s.release("v1"))
		assert.ErrorContains(t, err, "503")
		_, err = s.installer(t).Install(t.Context(), s.release("v1"))
		assert.ErrorContains(t, err, "503")
		assert.Empty(t, s.names(t))
	})
	if runtime.GOOS == "windows" {
		return // there are no such names and links there
	}
	t.Run("all mistakes at once", func(t *testing.T) {
		s := newSite(t)
		for _, name := range []string{"aux.js", "a:b", "dot.", "blank ", `back\slash`, "App.dll"} {
			s.write(t, name, "x")
		}
		err := s.installer(t).Check(t.Context(), s.release("v1"))
		for _, text := range []string{`"aux.js"`, `"a:b"`, `"dot."`, `"blank "`, `"back\\slash"`, `"App.dll" and "app.dll"`} {
			assert.ErrorContains(t, err, text)
		}
		refused(t, s, folder.ErrSource, "only in case")
	})
	t.Run("links", func(t *testing.T) {
		for name, to := range map[string]string{
			"out": "../inetpub", "absolute": "/etc/passwd", "parent": "..", "folder": "wwwroot", "loop": "link", "dangling": "nothing",
			"absolute within": "$SOURCE/app.dll",
		} {
			s := newSite(t)
			symlink(t, strings.ReplaceAll(to, "$SOURCE", s.source), filepath.Join(s.source, "link"))
			t.Run(name, func(t *testing.T) { refused(t, s, folder.ErrLink, `"link"`) })
		}
	})
	t.Run("a pipe", func(t *testing.T) {
		s := newSite(t)
		mkfifo(t, filepath.Join(s.source, "pipe"))
		refused(t, s, folder.ErrSource, `"pipe" is no regular file`)
	})
}

func TestALinkToAFileWithinIsCopiedAsTheFile(t *testing.T) {
	s := newSite(t)
	symlink(t, "../app.dll", filepath.Join(s.source, "bin", "link.dll"))
	path := s.install(t, "v1")
	info, err := os.Lstat(filepath.Join(path, "bin", "link.dll"))
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular())
	assert.Equal(t, "the application", tree(t, path)["bin/link.dll"])
	s.install(t, "v1")

	t.Run("and a file that became a link is told", func(t *testing.T) {
		require.NoError(t, os.Remove(filepath.Join(path, "bin", "link.dll")))
		symlink(t, "../app.dll", filepath.Join(path, "bin", "link.dll"))
		diff, ok := errors.AsType[*folder.DiffError](s.installer(t).Verify(t.Context(), "v1"))
		require.True(t, ok)
		assert.Equal(t, []string{"bin/link.dll"}, diff.Changed)
		assert.Empty(t, diff.Missing)
	})
	t.Run("the source is reached through a link", func(t *testing.T) {
		current := filepath.Join(filepath.Dir(s.source), "current")
		symlink(t, s.source, current)
		_, err := s.installer(t).Install(t.Context(), abswap.Release{ID: "v2", Path: current})
		assert.NoError(t, err)
	})
}

// TestTheSourceChanges changes the source at several moments and in several ways.
func TestTheSourceChanges(t *testing.T) {
	changes := map[string]func(t *testing.T, s *site){
		"a file more": func(t *testing.T, s *site) { s.write(t, "late.txt", "x") },
		"a file less": func(t *testing.T, s *site) { require.NoError(t, os.Remove(filepath.Join(s.source, "app.dll"))) },
		"longer":      func(t *testing.T, s *site) { s.write(t, "wwwroot/css/site.css", "p {}") },
		"a folder":    func(t *testing.T, s *site) { require.NoError(t, os.Mkdir(filepath.Join(s.source, "new"), 0o755)) },
		"same size and a newer time": func(t *testing.T, s *site) {
			put(t, filepath.Join(s.source, "app.dll"), "the applicatioN")
		},
	}
	for name, change := range changes {
		for _, at := range []folder.Step{folder.StepCopy, folder.StepVerify} {
			t.Run(name+" while "+string(at), func(t *testing.T) {
				s := newSite(t)
				done := false
				s.cfg.OnProgress = func(p folder.Progress) {
					if p.Step == at && !done {
						done = true
						change(t, s)
					}
				}
				_, err := s.installer(t).Install(t.Context(), s.release("v1"))
				require.True(t, done)
				assert.ErrorIs(t, err, folder.ErrChanged)
				assert.Empty(t, s.names(t))
				s.cfg.OnProgress = nil
				s.install(t, "v1")
			})
		}
	}
	t.Run("so soon that its time is the same", func(t *testing.T) {
		s := newSite(t)
		now := time.Now().Truncate(time.Second)
		file := filepath.Join(s.source, "app.dll")
		require.NoError(t, os.Chtimes(file, now, now))
		done := false
		s.cfg.OnProgress = func(p folder.Progress) {
			if p.Step == folder.StepVerify && !done {
				done = true
				require.NoError(t, os.WriteFile(file, []byte("the applicatioN"), 0o644))
				require.NoError(t, os.Chtimes(file, now, now))
			}
		}
		_, err := s.installer(t).Install(t.Context(), s.release("v1"))
		assert.ErrorIs(t, err, folder.ErrChanged)
	})
}

func TestNotEnoughSpace(t *testing.T) {
	s := newSite(t)
	s.cfg.MinFree = -1 << 40
	asked := ""
	free := int64(0)
	s.cfg.Free = func(dir string) (int64, error) { asked = dir; return free, nil }
	_, err := s.installer(t).Install(t.Context(), s.release("v1"))
	assert.ErrorIs(t, err, folder.ErrNoSpace)
	assert.ErrorContains(t, err, "prune old releases")
	assert.Equal(t, s.parent, asked)
	assert.Empty(t, s.names(t))
	free = 10 << 20
	assert.NoError(t, s.installer(t).Check(t.Context(), s.release("v1")))
	s.cfg.MinFree = 10 << 20
	assert.ErrorIs(t, s.installer(t).Check(t.Context(), s.release("v1")), folder.ErrNoSpace)

	t.Run("the disk fills up", func(t *testing.T) {
		s.cfg.MinFree = -1
		s.cfg.Copy = copier(func(context.Context, string, string) error {
			return &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
		})
		_, err := s.installer(t).Install(t.Context(), s.release("v1"))
		assert.ErrorIs(t, err, folder.ErrNoSpace)
		assert.Empty(t, s.names(t))
	})
	t.Run("the real disk", func(t *testing.T) {
		s := newSite(t)
		s.cfg.MinFree = 1 << 60
		_, err := s.installer(t).Install(t.Context(), s.release("v1"))
		assert.ErrorIs(t, err, folder.ErrNoSpace)
		s.cfg.Free = func(string) (int64, error) { return 0, errors.ErrUnsupported }
		s.install(t, "v1")
	})
}

// copier is a Copier of one func.
type copier func(ctx context.Context, from, to string) error

func (c copier) Copy(ctx context.Context, from, to string) error { return c(ctx, from, to) }

func TestACopyThatIsNotTrueIsNotInstalled(t *testing.T) {
	for name, spoil := range map[string]func(to string) error{
		"another byte": func(to string) error {
			return os.WriteFile(filepath.Join(to, "app.dll"), []byte("the applicatioN"), 0o644)
		},
		"missing":   func(to string) error { return os.Remove(filepath.Join(to, "app.dll")) },
		"extra":     func(to string) error { return os.WriteFile(filepath.Join(to, "extra"), nil, 0o644) },
		"no folder": func(to string) error { return os.Remove(filepath.Join(to, "empty folder")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.cfg.Volatile = []string{"app.dll", "extra"} // which counts later, not now
			s.cfg.Copy = copier(func(_ context.Context, from, to string) error {
				if err := os.CopyFS(to, os.DirFS(from)); err != nil {
					return err
				}
				return spoil(to)
			})
			_, err := s.installer(t).Install(t.Context(), s.release("v1"))
			assert.ErrorIs(t, err, folder.ErrDiffers)
			assert.Empty(t, s.names(t))
		})
	}
}

func TestReadOnlyFilesAreInstalledAndRemoved(t *testing.T) {
	for name, copy := range map[string]folder.Copier{"built in": nil, "tool": copier(func(_ context.Context, from, to string) error {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			return err
		}
		return os.Chmod(filepath.Join(to, "app.dll"), 0o444)
	})} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.cfg.Copy = copy
			file := filepath.Join(s.source, "app.dll")
			require.NoError(t, os.Chmod(file, 0o444))
			t.Cleanup(func() { require.NoError(t, os.Chmod(file, 0o644)) })
			path := s.install(t, "v1")
			info, err := os.Stat(filepath.Join(path, "app.dll"))
			require.NoError(t, err)
			assert.NotZero(t, info.Mode()&0o200, "it can be written to")
			require.NoError(t, os.Chmod(filepath.Join(path, "app.dll"), 0o444))
			require.NoError(t, s.installer(t).Remove(t.Context(), "v1", folder.PruneOptions{InUse: []string{}}))
			assert.Empty(t, s.names(t))
		})
	}
}

func TestAContextThatEnds(t *testing.T) {
	for _, at := range []folder.Step{folder.StepScan, folder.StepCopy, folder.StepVerify} {
		t.Run(string(at), func(t *testing.T) {
			s := newSite(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("the operator said so")
			s.cfg.OnProgress = func(p folder.Progress) {
				if p.Step == at {
					cancel(why)
				}
			}
			_, err := s.installer(t).Install(ctx, s.release("v1"))
			assert.ErrorIs(t, err, why)
			assert.Empty(t, s.names(t))
		})
	}
}

func TestConfigTellsAllMistakes(t *testing.T) {
	_, err := folder.New(folder.Config{})
	assert.ErrorContains(t, err, "Parent is empty")
	assert.ErrorContains(t, err, "Name: it is empty")
	_, err = folder.New(folder.Config{Parent: "inetpub", Name: "a~b", Volatile: []string{"logs", "../x", `a\b`, ""}, Limits: folder.Limits{UploadBytes: -1}})
	for _, text := range []string{"not an absolute path", `'~'`, "Volatile[1]", "Volatile[2]", "Volatile[3]", "Limits"} {
		assert.ErrorContains(t, err, text)
	}
	assert.NotContains(t, err.Error(), "Volatile[0]")
	for _, name := range []string{"NUL", " x", "-x", ".x", "x ", "x."} {
		_, err = folder.New(folder.Config{Parent: t.TempDir(), Name: name})
		assert.Error(t, err, "%q", name)
	}
	in, err := folder.New(folder.Config{Parent: filepath.Join(t.TempDir(), "absent"), Name: "MySite"})
	require.NoError(t, err)
	_, err = in.Install(t.Context(), abswap.Release{ID: "v1", Path: t.TempDir()})
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestCheckWarns(t *testing.T) {
	s := newSite(t)
	require.NoError(t, s.installer(t).Check(t.Context(), s.release("v1")))
	assert.Empty(t, s.names(t), "nothing is changed")
	require.NoError(t, os.WriteFile(filepath.Join(s.parent, "web.config"), nil, 0o644))
	s.write(t, "wwwroot/"+strings.Repeat("d", 200)+"/"+strings.Repeat("f", 60), "x")
	err := s.installer(t).Check(t.Context(), s.release("v1"))
	_, ok := errors.AsType[*abswap.Warning](err)
	assert.True(t, ok)
	assert.ErrorContains(t, err, "has a web.config")
	assert.ErrorContains(t, err, "more than 259 characters")
	s.install(t, "v1")
}
