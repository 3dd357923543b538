package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/proxy/process"
)

func TestFromInstallToStop(t *testing.T) {
	cfg := config(t, "normal")
	s := newSlot(t, cfg)
	assert.Equal(t, abswap.SlotState{}, inspect(t, s))
	assert.NoError(t, s.Stop(t.Context()), "a slot that was never used is stopped")
	assert.ErrorContains(t, s.Start(t.Context()), "no release is installed")
	assert.NoDirExists(t, cfg.Dir, "none of these touches anything")

	r := release(t, "v1")
	require.NoError(t, s.Install(t.Context(), r))
	assert.Equal(t, abswap.SlotState{Release: "v1"}, inspect(t, s))

	before := time.Now()
	require.NoError(t, s.Start(t.Context()))
	ready(t, s)
	st := inspect(t, s)
	assert.True(t, st.Running)
	assert.Equal(t, "v1", st.Release)
	assert.WithinRange(t, st.Started, before.Add(-time.Second), time.Now().Add(time.Second))
	host, _, err := net.SplitHostPort(st.Address)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1", host)

	id := readRecord(t, cfg).process(t)
	require.True(t, runs(t, id))
	require.NoError(t, s.Start(t.Context()), "again is no new start")
	assert.Equal(t, id, readRecord(t, cfg).process(t))

	require.NoError(t, s.Stop(t.Context()))
	assert.False(t, runs(t, id))
	assert.Equal(t, abswap.SlotState{Release: "v1"}, inspect(t, s))
	assert.Contains(t, logOf(t, s), "bye by")
	require.NoError(t, s.Stop(t.Context()), "again is nothing")
	err = s.Ready(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.ErrorIs(t, err, abswap.ErrPermanent)
}

func TestWhatTheApplicationIsGiven(t *testing.T) {
	t.Setenv("PROCESS_TEST_INHERITED", "yes")
	t.Setenv("PROCESS_TEST_OVERRIDDEN", "tool")
	t.Setenv("PORT", "1") // the slot's own wins
	cfg := config(t, "normal")
	cfg.Env = append(cfg.Env, "PROCESS_TEST_OVERRIDDEN=config", "PROCESS_TEST_SPACES=a b \"c\" \\")
	cfg.Command = append(cfg.Command, "-at={address}", "{host}|{port}|{release}|{slot}|{dir}", "a b", `c:\d\`, `say "hi"`, "", "{other}")
	s := newSlot(t, cfg)
	r := release(t, "v1.0+a_b-c")
	require.NoError(t, s.Install(t.Context(), r))
	require.NoError(t, s.Start(t.Context()))
	ready(t, s)

	st := inspect(t, s)
	_, port, _ := net.SplitHostPort(st.Address)
	body, err := get("http://" + st.Address + "/env")
	require.NoError(t, err)
	var got struct {
		Env, Args []string
		Dir       string
		PID       int
	}
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	assert.Equal(t, []string{"-at=" + st.Address, "127.0.0.1|" + port + "|v1.0+a_b-c|blue|" + r.Path, "a b", `c:\d\`, `say "hi"`, "", "{other}"}, got.Args)
	assert.Equal(t, r.Path, got.Dir)
	assert.Equal(t, readRecord(t, cfg).process(t).PID, got.PID)
	for _, want := range []string{"PORT=" + port, "ABSWAP_ADDRESS=" + st.Address, "ABSWAP_SLOT=blue", "ABSWAP_RELEASE=v1.0+a_b-c",
		"PROCESS_TEST_INHERITED=yes", "PROCESS_TEST_OVERRIDDEN=config", "PROCESS_TEST_SPACES=a b \"c\" \\"} {
		assert.Contains(t, got.Env, want)
	}
	seen := map[string]bool{}
	for _, e := range got.Env {
		key, _, _ := strings.Cut(e, "=")
		assert.False(t, seen[key] && key != "", "%s is there twice", key)
		seen[key] = true
	}
}

func TestProgramInTheReleaseFolder(t *testing.T) {
	r := release(t, "v1")
	exe, err := os.Executable()
	require.NoError(t, err)
	name := "server"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	require.NoError(t, os.MkdirAll(filepath.Join(r.Path, "bin"), 0o755))
	program, err := os.ReadFile(exe)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(r.Path, "bin", name), program, 0o700))
	cfg := config(t, "normal")
	cfg.Command = []string{"./bin/server"}
	s := newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), r))
	require.NoError(t, s.Start(t.Context()))
	ready(t, s)

	cfg.Dir = filepath.Join(t.TempDir(), "x")
	cfg.Command = []string{"./bin/absent"}
	s = newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), r))
	err = s.Start(t.Context())
	assert.ErrorContains(t, err, "absent")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.False(t, inspect(t, s).Running)
}

func TestInstallRefusals(t *testing.T) {
	cfg := config(t, "normal")
	s := newSlot(t, cfg)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	assert.ErrorContains(t, s.Install(t.Context(), abswap.Release{ID: "v1"}), "has no Path")
	assert.ErrorContains(t, s.Install(t.Context(), abswap.Release{ID: "../v1", Path: t.TempDir()}), "may not begin with a dot")
	assert.ErrorContains(t, s.Install(t.Context(), abswap.Release{ID: "v1", Path: file}), "is not a folder")
	assert.ErrorIs(t, s.Install(t.Context(), abswap.Release{ID: "v1", Path: file + "x"}), os.ErrNotExist)
	assert.NoDirExists(t, cfg.Dir)

	one, two := release(t, "v1"), release(t, "v2")
	require.NoError(t, s.Install(t.Context(), one))
	require.NoError(t, s.Install(t.Context(), two), "an idle slot takes another")
	require.NoError(t, s.Install(t.Context(), one))
	require.NoError(t, s.Start(t.Context()))
	assert.NoError(t, s.Install(t.Context(), one), "what is there, is there")
	err := s.Install(t.Context(), two)
	assert.ErrorIs(t, err, abswap.ErrSlotOccupied)
	assert.ErrorContains(t, err, `runs release "v1"`)
	assert.ErrorIs(t, s.Install(t.Context(), abswap.Release{ID: "v1", Path: two.Path}), abswap.ErrSlotOccupied, "another folder is another release")
	assert.Equal(t, "v1", inspect(t, s).Release)
	require.NoError(t, s.Stop(t.Context()))
	assert.NoError(t, s.Install(t.Context(), two))
	assert.Equal(t, abswap.SlotState{Release: "v2"}, inspect(t, s))
}

func TestASymbolicLinkIsFollowedAtInstall(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("making one needs a right there")
	}
	one, two := release(t, "v1"), release(t, "v2")
	link := filepath.Join(t.TempDir(), "current")
	require.NoError(t, os.Symlink(one.Path, link))
	s := newSlot(t, config(t, "normal"))
	require.NoError(t, s.Install(t.Context(), abswap.Release{ID: "v1", Path: link}))
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink(two.Path, link))
	require.NoError(t, s.Start(t.Context()))
	ready(t, s)
	body, err := get(url(t, s, "/env"))
	require.NoError(t, err)
	assert.Contains(t, body, one.Path)
	assert.NotContains(t, body, two.Path)
}

func TestAContextThatHasEndedChangesNothing(t *testing.T) {
	cfg := config(t, "normal")
	s := started(t, cfg)
	ready(t, s)
	id := readRecord(t, cfg).process(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, s.Install(ctx, release(t, "v2")), context.Canceled)
	assert.ErrorIs(t, s.Start(ctx), context.Canceled)
	assert.ErrorIs(t, s.Stop(ctx), context.Canceled)
	assert.ErrorIs(t, s.Ready(ctx), context.Canceled)
	assert.ErrorIs(t, s.Warm(ctx), context.Canceled)
	assert.ErrorIs(t, s.Check(ctx, abswap.CheckRequest{}), context.Canceled)
	_, err := s.Inspect(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.True(t, runs(t, id))
	assert.NoError(t, s.Ready(t.Context()))
}

func TestReadySaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ modes, want string }{
		{"slow", "answered 503"},
		{"redirect", "answered 302"},
		{"created", "answered 201"},
		{"hang", "no answer within 2s"},
		{"deaf", "nobody listens"},
		{"host", "answered 421"},
	} {
		t.Run(c.modes, func(t *testing.T) {
			cfg := config(t, c.modes)
			if c.modes == "hang" {
				cfg.ReadyTimeout = 2 * time.Second
			}
			if c.modes == "deaf" && runtime.GOOS == "darwin" {
				c.want = "refused" // the system does not tell who listens
			}
			s := started(t, cfg)
			eventually(t, func(ctx context.Context) error {
				err := s.Ready(ctx)
				if err == nil || errors.Is(err, abswap.ErrPermanent) || !errors.Is(err, abswap.ErrNotReady) {
					return errors.Join(errors.New("the wrong kind of answer"), err)
				}
				if !strings.Contains(err.Error(), c.want) {
					return err
				}
				return nil
			})
			assert.True(t, inspect(t, s).Running)
		})
	}
	t.Run("the right host", func(t *testing.T) {
		cfg := config(t, "host")
		cfg.Host = "shop.example"
		ready(t, started(t, cfg))
	})
	t.Run("healed", func(t *testing.T) {
		s := started(t, config(t, "slow"))
		eventually(t, func(ctx context.Context) error {
			if err := s.Ready(ctx); !strings.Contains(err.Error(), "503") {
				return err
			}
			return nil
		})
		post(t, url(t, s, "/heal"))
		assert.NoError(t, s.Ready(t.Context()))
	})
}

func TestReadyAfterACrashTellsExitCodeAndLog(t *testing.T) {
	cfg := config(t, "crash")
	s := started(t, cfg)
	var err error
	eventually(t, func(ctx context.Context) error {
		if err = s.Ready(ctx); errors.Is(err, abswap.ErrPermanent) {
			return nil
		}
		return errors.New("it has not ended yet")
	})
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.ErrorContains(t, err, "exit code 3")
	assert.ErrorContains(t, err, "cannot open the [31mdatabase[0m", "without the escape characters")
	assert.NotContains(t, err.Error(), "\x1b")
	assert.NotContains(t, err.Error(), "starts release")
	assert.False(t, inspect(t, s).Running)

	err = newSlot(t, cfg).Ready(t.Context())
	assert.ErrorContains(t, err, "has ended", "another Slot cannot know the code")
	assert.ErrorContains(t, err, "database")
}

func TestTheLogInAnErrorIsBounded(t *testing.T) {
	s := started(t, config(t, "crash,loud"))
	var err error
	eventually(t, func(ctx context.Context) error {
		if err = s.Ready(ctx); errors.Is(err, abswap.ErrPermanent) {
			return nil
		}
		return errors.New("it has not ended yet")
	})
	assert.ErrorContains(t, err, "database")
	assert.NotContains(t, err.Error(), "line 1 ")
	assert.Less(t, len(err.Error()), 2500)
}

// TestAnOldLogThatCannotBeMovedIsNotReplaced has something in the way of an old log, as one that somebody reads is on Windows.
func TestAnOldLogThatCannotBeMovedIsNotReplaced(t *testing.T) {
	cfg := config(t, "normal")
	cfg.LogSize, cfg.LogKeep = 1, 3
	s := newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), release(t, "v1")))
	require.NoError(t, os.MkdirAll(filepath.Join(s.Log()+".3", "in the way"), 0o700))
	for suffix, text := range map[string]string{"": "the last one", ".1": "the one before", ".2": "an older one"} {
		require.NoError(t, os.WriteFile(s.Log()+suffix, []byte(text+"\n"), 0o600))
	}
	require.NoError(t, s.Start(t.Context()))
	ready(t, s)
	all := logOf(t, s)
	assert.Contains(t, all, "the old log was not put away")
	for _, suffix := range []string{".1", ".2"} {
		text, err := os.ReadFile(s.Log() + suffix)
		require.NoError(t, err)
		all += string(text)
	}
	for _, text := range []string{"the last one", "the one before", "an older one"} {
		assert.Contains(t, all, text)
	}
}

// A3: a probe's answer that comes late changes nothing: Ready only reads.
func TestA3ProbesChangeNothing(t *testing.T) {
	cfg := config(t, "normal")
	s := started(t, cfg)
	ready(t, s)
	before := readRecord(t, cfg)
	var probes sync.WaitGroup
	for range 4 {
		probes.Go(func() {
			for range 5 {
				_ = s.Ready(t.Context())
			}
		})
	}
	probes.Wait()
	assert.Equal(t, before.fields, readRecord(t, cfg).fields)

	for range 4 { // and while it stops
		probes.Go(func() {
			for range 10 {
				_ = s.Ready(t.Context())
			}
		})
	}
	require.NoError(t, s.Stop(t.Context()))
	probes.Wait()
	assert.Equal(t, abswap.SlotState{Release: "v1"}, inspect(t, s))
	assert.Nil(t, readRecord(t, cfg).fields["run"])
}

// A7: what the last release left at an address says nothing of the next one there.
func TestA7SamePortStartsFresh(t *testing.T) {
	cfg := config(t, "slow")
	cfg.Address = freeAddress(t)
	s := started(t, cfg)
	eventually(t, func(ctx context.Context) error {
		resp, err := http.Post("http://"+cfg.Address+"/heal", "", nil)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	require.NoError(t, s.Ready(t.Context()))
	old := readRecord(t, cfg)
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Install(t.Context(), release(t, "v2")))
	assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrNotReady)
	require.NoError(t, s.Start(t.Context()))
	eventually(t, func(ctx context.Context) error {
		err := s.Ready(ctx)
		require.Error(t, err, "v2 has not been healed")
		if !strings.Contains(err.Error(), "503") {
			return err
		}
		return nil
	})
	now := readRecord(t, cfg)
	assert.NotEqual(t, old.process(t), now.process(t))
	assert.NotEqual(t, old.run()["token"], now.run()["token"])
}

func TestAStrangerOnThePortIsNotReady(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	asked := make(chan struct{}, 100)
	stranger := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} })}
	var serving sync.WaitGroup
	serving.Go(func() { _ = stranger.Serve(l) })
	t.Cleanup(func() { stranger.Close(); serving.Wait() })

	cfg := config(t, "deaf")
	cfg.Address = l.Addr().String()
	s := newSlot(t, cfg)
	require.NoError(t, s.Install(t.Context(), release(t, "v1")))
	err = s.Start(t.Context())
	require.Error(t, err, "it does not start where somebody else listens")
	assert.ErrorContains(t, err, l.Addr().String())
	if runtime.GOOS != "darwin" {
		assert.ErrorContains(t, err, "is held by process")
	}
	assert.False(t, inspect(t, s).Running)
	assert.ErrorIs(t, s.Ready(t.Context()), abswap.ErrPermanent)

	if runtime.GOOS == "darwin" {
		t.Skip("the system does not tell who listens")
	}
	// It runs, but the stranger came first: forge the address, as if it had come between the look at the port and the start.
	cfg.Address = ""
	s = newSlot(t, cfg)
	require.NoError(t, s.Start(t.Context()))
	rec := readRecord(t, cfg)
	rec.run()["address"] = l.Addr().String()
	rec.write(t)
	err = s.Ready(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.NotErrorIs(t, err, abswap.ErrPermanent)
	assert.ErrorContains(t, err, "is held by process")

	cfg.StopPath = "/stop"
	s = newSlot(t, cfg)
	if runtime.GOOS != "windows" {
		assert.NoError(t, s.Stop(t.Context()))
	}
	assert.Empty(t, asked, "the stranger is asked nothing, and gets no token")
}

func TestForeignListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	front := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = front.Serve(l) })
	t.Cleanup(func() { front.Close(); serving.Wait() })
	cfg := config(t, "deaf")
	cfg.ForeignListener = true
	s := started(t, cfg)
	rec := readRecord(t, cfg)
	rec.run()["address"] = l.Addr().String()
	rec.write(t)
	assert.NoError(t, s.Ready(t.Context()))
}

func TestWarm(t *testing.T) {
	cfg := config(t, "normal")
	cfg.Warm = []string{"/warm/a", "/warm/b?c=d"}
	cfg.WarmRounds = 2
	s := started(t, cfg)
	ready(t, s)
	require.NoError(t, s.Warm(t.Context()))
	assert.Equal(t, 2, strings.Count(logOf(t, s), "warm a\n"))
	assert.Equal(t, 2, strings.Count(logOf(t, s), "warm b\n"))

	cfg.Warm = []string{"/warm/c", "/absent", "/warm/d"}
	s = newSlot(t, cfg)
	err := s.Warm(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNotReady)
	assert.ErrorContains(t, err, "/absent answered 404")
	assert.Equal(t, 1, strings.Count(logOf(t, s), "warm c\n"))
	assert.NotContains(t, logOf(t, s), "warm d\n")

	cfg.Warm = nil
	s = newSlot(t, cfg)
	assert.NoError(t, s.Warm(t.Context()))
	require.NoError(t, s.Stop(t.Context()))
	assert.ErrorIs(t, s.Warm(t.Context()), abswap.ErrPermanent)
}

func TestConcurrentCallsOfManySlotsStartOne(t *testing.T) {
	cfg := config(t, "normal")
	r := release(t, "v1")
	slots := []*process.Slot{newSlot(t, cfg), newSlot(t, cfg), newSlot(t, cfg)}
	require.NoError(t, slots[0].Install(t.Context(), r))
	var wg sync.WaitGroup
	for i := range 9 {
		s := slots[i%3]
		wg.Go(func() {
			assert.NoError(t, s.Install(t.Context(), r))
			assert.NoError(t, s.Start(t.Context()))
			_, err := s.Inspect(t.Context())
			assert.NoError(t, err)
			_ = s.Ready(t.Context())
		})
	}
	wg.Wait()
	assert.Equal(t, 1, strings.Count(logOf(t, slots[0]), "starts release"))
	ready(t, slots[1])
	for i := range 6 {
		wg.Go(func() { assert.NoError(t, slots[i%3].Stop(t.Context())) })
	}
	wg.Wait()
	assert.False(t, inspect(t, slots[0]).Running)
}

func TestLogKeepsAndTurns(t *testing.T) {
	cfg := config(t, "loud")
	cfg.LogSize = 1000
	cfg.LogKeep = 2
	s := newSlot(t, cfg)
	for _, id := range []string{"v1", "v2", "v3", "v4"} {
		require.NoError(t, s.Install(t.Context(), release(t, id)))
		require.NoError(t, s.Start(t.Context()))
		ready(t, s)
		require.NoError(t, s.Stop(t.Context()))
	}
	for suffix, id := range map[string]string{"": "v4", ".1": "v3", ".2": "v2"} {
		f, err := os.Open(s.Log() + suffix)
		require.NoError(t, err)
		data, err := io.ReadAll(f)
		require.NoError(t, errors.Join(err, f.Close()))
		assert.Equal(t, 1, strings.Count(string(data), "starts release"), suffix)
		assert.Contains(t, string(data), "starts release "+id)
		assert.Contains(t, string(data), "line 19999 ", "all of a lot of output is there")
		assert.Contains(t, string(data), "a word on stderr")
	}
	assert.NoFileExists(t, s.Log()+".3")

	cfg.LogKeep, cfg.LogSize = -1, 1<<30
	s = newSlot(t, cfg)
	require.NoError(t, s.Start(t.Context()))
	assert.Equal(t, 2, strings.Count(logOf(t, s), "starts release"), "a small log goes on")
	require.NoError(t, s.Stop(t.Context()))
	cfg.LogSize = 1
	s = newSlot(t, cfg)
	require.NoError(t, s.Start(t.Context()))
	assert.Equal(t, 1, strings.Count(logOf(t, s), "starts release"), "none is kept")
}
