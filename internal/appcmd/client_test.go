package appcmd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/filelock"
)

const (
	sharing   = "ERROR ( hresult:80070020, message:Failed to commit configuration changes.\r\n )\r\n"
	notReady  = "ERROR ( hresult:800710d8, message:Command execution failed.\r\n )\r\n"
	rpcFailed = "ERROR ( hresult:800706be, message:\x91\xA1\xAE\xA9 )\r\n"
)

// answer is what a fake appcmd does once.
type answer struct {
	out  string
	exit uint32
	err  error
	wait time.Duration // before it answers; it gives up when its context ends
	then func()        // called at its end
}

// script answers one call after the other, and fails the test when it has no more answers.
type script struct {
	t       *testing.T
	answers []answer
	calls   []string
}

func (s *script) Run(ctx context.Context, args []string, _ []byte) ([]byte, uint32, error) {
	s.calls = append(s.calls, strings.Join(args, " "))
	if len(s.answers) == 0 {
		s.t.Errorf("no answer is left for %q", args)
		return nil, 1, errors.New("no answer is left")
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	if a.wait > 0 {
		t := time.NewTimer(a.wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("killed: %w", context.Cause(ctx))
		}
	}
	if a.then != nil {
		a.then()
	}
	return []byte(a.out), a.exit, a.err
}

func scripted(t *testing.T, answers ...answer) (*appcmd.Client, *script) {
	s := &script{t: t, answers: answers}
	t.Cleanup(func() { assert.Empty(t, s.answers, "answers that nobody asked for") })
	return &appcmd.Client{Runner: s, LockFile: filepath.Join(t.TempDir(), "lock")}, s
}

const poolXML = `<appcmd><APPPOOL APPPOOL.NAME="P" PipelineMode="Integrated" RuntimeVersion="" state="Started">` +
	`<add name="P" startMode="%s"><processModel shutdownTimeLimit="00:10:00" /></add></APPPOOL></appcmd>`

// always is the wish that the pool P starts always.
func always(ctx context.Context, s *appcmd.Session) (appcmd.Command, bool, error) {
	p, err := s.Pool(ctx, "P")
	if err != nil {
		return appcmd.Command{}, false, err
	}
	return appcmd.SetPool("P").With("startMode", "AlwaysRunning"), p.StartMode != "AlwaysRunning", nil
}

func TestChangeReadsAgainBeforeEachTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(t,
			answer{out: fmt.Sprintf(poolXML, "OnDemand")},
			answer{out: "APPPOOL object \"P\" changed\r\n" + sharing, exit: 32},
			answer{out: fmt.Sprintf(poolXML, "OnDemand")},
			answer{out: sharing, exit: 32},
			answer{out: fmt.Sprintf(poolXML, "OnDemand")},
			answer{out: "APPPOOL object \"P\" changed\r\n"})
		began := time.Now()
		out, err := c.Change(t.Context(), always)
		require.NoError(t, err)
		assert.Equal(t, "APPPOOL object \"P\" changed\n", out.Text)
		assert.Equal(t, 625*time.Millisecond, time.Since(began), "pauses of 250ms and 375ms")
		for i, call := range s.calls {
			want := "list apppool /apppool.name:P /config:* /xml"
			if i%2 == 1 {
				want = "set apppool /apppool.name:P /startMode:AlwaysRunning"
			}
			assert.Equal(t, want, call)
		}
	})
}

func TestChangeOfWhatIsAsWanted(t *testing.T) {
	c, s := scripted(t, answer{out: fmt.Sprintf(poolXML, "AlwaysRunning")})
	out, err := c.Change(t.Context(), always)
	require.NoError(t, err)
	assert.Zero(t, out)
	assert.Len(t, s.calls, 1)
}

func TestChangeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers []answer
		for range 3 {
			answers = append(answers, answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{out: sharing, exit: 32})
		}
		c, _ := scripted(t, answers...)
		c.RetryFor, c.Pause = time.Second, 400*time.Millisecond
		_, err := c.Change(t.Context(), always)
		require.ErrorIs(t, err, appcmd.Conflict)
		assert.NotErrorIs(t, err, appcmd.ErrUnknownOutcome, "a conflict saves nothing")
		e, ok := errors.AsType[*appcmd.Error](err)
		require.True(t, ok)
		assert.EqualValues(t, 32, e.Exit)
		assert.EqualValues(t, 0x80070020, e.HResult)
		assert.Equal(t, "appcmd set apppool /apppool.name:P /startMode:AlwaysRunning", e.Command)
	})
	c, _ := scripted(t, answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{out: sharing, exit: 32})
	c.RetryFor = -1
	_, err := c.Change(t.Context(), always)
	assert.ErrorIs(t, err, appcmd.Conflict)
}

// A broken connection leaves it open whether the change was made: what is there decides.
func TestChangeAfterABrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t,
			answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{out: rpcFailed, exit: 1726},
			answer{out: fmt.Sprintf(poolXML, "AlwaysRunning")})
		_, err := c.Change(t.Context(), always)
		assert.NoError(t, err, "it had its effect")

		c, _ = scripted(t,
			answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{out: rpcFailed, exit: 1726},
			answer{out: "ERROR ( message:x )\r\n", exit: 50})
		_, err = c.Change(t.Context(), always)
		require.ErrorIs(t, err, appcmd.Unavailable)
		assert.ErrorIs(t, err, appcmd.ErrUnknownOutcome, "it may have had its effect, and nobody could look")

		c, _ = scripted(t, answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{out: rpcFailed, exit: 1726})
		c.RetryFor = -1
		_, err = c.Change(t.Context(), always)
		require.ErrorIs(t, err, appcmd.Transient)
		assert.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
	})
}

func TestChangeThatIsDoneAlready(t *testing.T) {
	for _, exit := range []uint32{1062, 42} {
		c, _ := scripted(t,
			answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{out: "ERROR ( message:x )\r\n", exit: exit},
			answer{out: fmt.Sprintf(poolXML, "AlwaysRunning")})
		_, err := c.Change(t.Context(), always)
		assert.NoError(t, err)
		c, _ = scripted(t,
			answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{out: "ERROR ( message:x )\r\n", exit: exit},
			answer{out: fmt.Sprintf(poolXML, "OnDemand")})
		_, err = c.Change(t.Context(), always)
		assert.Error(t, err, "it is not as wanted")
	}
	why := errors.New("why")
	c, _ := scripted(t)
	_, err := c.Change(t.Context(), func(context.Context, *appcmd.Session) (appcmd.Command, bool, error) {
		return appcmd.Command{}, true, why
	})
	assert.ErrorIs(t, err, why)
}

// A command that takes too long is ended; what is there then decides.
func TestChangeThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{wait: time.Hour}, answer{out: fmt.Sprintf(poolXML, "AlwaysRunning")})
		began := time.Now()
		_, err := c.Change(t.Context(), always)
		assert.NoError(t, err)
		assert.Equal(t, time.Minute, time.Since(began))

		c, _ = scripted(t, answer{out: fmt.Sprintf(poolXML, "OnDemand")}, answer{wait: time.Hour}, answer{out: fmt.Sprintf(poolXML, "OnDemand")})
		c.Timeout = 5 * time.Second
		_, err = c.Change(t.Context(), always)
		require.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "set apppool")

		c, _ = scripted(t, answer{wait: time.Hour})
		_, err = c.Sites(t.Context())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotErrorIs(t, err, appcmd.ErrUnknownOutcome, "a list changes nothing")
	})
}

// A context that ends lets a change that runs finish within Grace.
func TestContextEnds(t *testing.T) {
	why := errors.New("why")
	synctest.Test(t, func(t *testing.T) {
		run := func(takes, grace time.Duration, cmd appcmd.Command) (time.Duration, error) {
			c, _ := scripted(t, answer{wait: takes, out: "done\r\n"})
			c.Grace = grace
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(why) })
			began := time.Now()
			_, err := c.Run(ctx, cmd)
			synctest.Wait()
			return time.Since(began), err
		}
		took, err := run(2*time.Second, 0, appcmd.StartSite("A"))
		assert.NoError(t, err, "it finished in time")
		assert.Equal(t, 2*time.Second, took)
		took, err = run(time.Hour, 0, appcmd.StartSite("A"))
		require.ErrorIs(t, err, why)
		assert.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
		assert.Equal(t, 3*time.Second, took)
		took, err = run(time.Hour, -1, appcmd.StartSite("A"))
		require.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
		assert.Equal(t, time.Second, took)
		took, err = run(time.Hour, 0, appcmd.ListConfig("", "asp"))
		require.ErrorIs(t, err, why)
		assert.NotErrorIs(t, err, appcmd.ErrUnknownOutcome)
		assert.Equal(t, time.Second, took)

		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		c, _ := scripted(t)
		_, err = c.Run(ctx, appcmd.StartSite("A"))
		require.ErrorIs(t, err, why)
		assert.NotErrorIs(t, err, appcmd.ErrUnknownOutcome, "nothing was begun")
		err = c.Hold(t.Context(), func(_ context.Context, s *appcmd.Session) error {
			_, err := s.Run(ctx, appcmd.StartSite("A"))
			return err
		})
		require.ErrorIs(t, err, why)
		assert.NotErrorIs(t, err, appcmd.ErrUnknownOutcome)

		c, _ = scripted(t, answer{out: notReady, exit: 4312})
		ctx, cancel = context.WithCancelCause(t.Context())
		time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
		_, err = c.Run(ctx, appcmd.StartSite("A"))
		require.ErrorIs(t, err, why, "while it pauses")
		assert.ErrorIs(t, err, appcmd.NotReady)
	})
}

// Stopping a pool may take as long as its worker process has to shut down.
func TestTimeoutKnowsShutdownTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			cmd   appcmd.Command
			list  []answer
			takes time.Duration
		}{
			{appcmd.StopPool("P"), []answer{{out: fmt.Sprintf(poolXML, "OnDemand")}}, 11 * time.Minute},
			{appcmd.RecyclePool("P"), []answer{{out: fmt.Sprintf(poolXML, "OnDemand")}}, 11 * time.Minute},
			{appcmd.StopPool("P"), []answer{{out: "ERROR ( message:x )\r\n", exit: 50}}, 150 * time.Second},
			{appcmd.StopPool("P").Blocks(time.Hour), nil, 61 * time.Minute},
			{appcmd.StopPool("P").Wait(time.Hour), nil, 61 * time.Minute},
			{appcmd.StopSite("A"), nil, 150 * time.Second},
			{appcmd.SetPool("P"), nil, time.Minute},
		} {
			c, _ := scripted(t, append(test.list, answer{wait: 100 * time.Hour})...)
			began := time.Now()
			_, err := c.Run(t.Context(), test.cmd)
			require.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
			assert.Equal(t, test.takes, time.Since(began), test.cmd)
		}
		c, _ := scripted(t, answer{wait: 100 * time.Hour})
		c.Timeout = -1
		_, err := c.Run(t.Context(), appcmd.StopPool("P"))
		assert.NoError(t, err, "no limit")
	})
}

func TestRunTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, answer{out: notReady, exit: 4312}, answer{out: "ERROR ( hresult:80070425, message:x )\r\n", exit: 1061}, answer{out: "\"A\" successfully started.\r\n"})
		_, err := c.Run(t.Context(), appcmd.StartSite("A"))
		assert.NoError(t, err)
		c, _ = scripted(t, answer{out: rpcFailed, exit: 1726}, answer{out: "<appcmd>\r\n</appcmd>\r\n", exit: 1})
		wps, err := c.WorkerProcesses(t.Context())
		assert.NoError(t, err)
		assert.Empty(t, wps)
		c, _ = scripted(t, answer{out: sharing, exit: 32}, answer{out: "ok\r\n"})
		_, err = c.Run(t.Context(), appcmd.ListSites("A"))
		assert.NoError(t, err)
		c, _ = scripted(t, answer{out: sharing, exit: 32})
		_, err = c.Run(t.Context(), appcmd.SetSite("A").With("serverAutoStart", "false"))
		assert.ErrorIs(t, err, appcmd.Conflict, "a change is not repeated without reading again")
		c, _ = scripted(t, answer{out: rpcFailed, exit: 1726})
		_, err = c.Run(t.Context(), appcmd.StopSite("A"))
		require.ErrorIs(t, err, appcmd.Transient)
		assert.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
		c, _ = scripted(t, answer{out: "ERROR ( message:x )\r\n", exit: 183})
		_, err = c.Run(t.Context(), appcmd.StartSite("A"))
		assert.ErrorIs(t, err, appcmd.Exists)
	})
}

func TestNotFoundAndEmpty(t *testing.T) {
	ctx := t.Context()
	const empty = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<appcmd>\r\n</appcmd>\r\n"
	for _, a := range []answer{{exit: 1}, {out: "\r\n", exit: 1}, {out: empty, exit: 1}, {out: empty}, {out: `<appcmd><APPPOOL APPPOOL.NAME="Q"/></appcmd>`}} {
		c, _ := scripted(t, a)
		_, err := c.Pool(ctx, "P")
		assert.ErrorIs(t, err, appcmd.NotFound, a)
	}
	c, _ := scripted(t, answer{exit: 1})
	_, err := c.Run(ctx, appcmd.ListSites("A").Text("state"))
	assert.ErrorIs(t, err, appcmd.NotFound)
	for _, a := range []answer{{out: empty, exit: 1}, {out: empty}} {
		c, _ := scripted(t, a, a, a)
		sites, err := c.Sites(ctx)
		assert.NoError(t, err)
		assert.Empty(t, sites)
		requests, err := c.Requests(ctx, appcmd.RequestFilter{Pool: "P"})
		assert.NoError(t, err)
		assert.Empty(t, requests)
		pools, err := c.Pools(ctx)
		assert.NoError(t, err)
		assert.Empty(t, pools)
	}
	c, _ = scripted(t, answer{exit: 1}, answer{exit: 1}, answer{exit: 1}, answer{exit: 1}, answer{exit: 1})
	_, err = c.Requests(ctx, appcmd.RequestFilter{})
	assert.NoError(t, err)
	_, err = c.WorkerProcesses(ctx)
	assert.NoError(t, err)
	_, err = c.Sites(ctx)
	assert.ErrorIs(t, err, appcmd.NotFound, "a machine without sites prints an empty list")
	_, err = c.Backups(ctx)
	assert.NoError(t, err)
	_, err = c.VDirs(ctx, "")
	assert.NoError(t, err)

	for _, a := range []answer{{}, {out: empty[:40]}, {out: empty[:55]}, {out: "Some words.\r\n"}, {out: "Some words.\r\n", exit: 1}} {
		c, _ := scripted(t, a, a)
		_, err := c.Requests(ctx, appcmd.RequestFilter{})
		assert.Error(t, err, a.out)
		_, err = c.Sites(ctx)
		assert.Error(t, err, a.out)
	}
	c, _ = scripted(t, answer{out: `<appcmd><REQUEST/></appcmd>`, exit: 7}, answer{out: `<appcmd><REQUEST/></appcmd>`, exit: 1}, answer{exit: 0xC0000005})
	for range 3 {
		_, err = c.Requests(ctx, appcmd.RequestFilter{})
		assert.Error(t, err, "an exit code that says nothing good")
	}
	c, _ = scripted(t, answer{out: "ERROR ( hresult:80004001, message:x\r\n )\r\n", exit: 0x80004001})
	_, err = c.Requests(ctx, appcmd.RequestFilter{})
	assert.ErrorIs(t, err, appcmd.NotImplemented)
}

// A change that dies without a word may have been made.
func TestADeadCommandIsAnUnknownOutcome(t *testing.T) {
	for _, exit := range []uint32{1, 0xC0000005, 0xC000013A} {
		c, _ := scripted(t, answer{exit: exit})
		_, err := c.Run(t.Context(), appcmd.SetSite("A").With("x", "y"))
		assert.ErrorIs(t, err, appcmd.ErrUnknownOutcome, exit)
	}
	c, _ := scripted(t, answer{err: errors.New("broke")}, answer{err: fmt.Errorf("%w: no", appcmd.ErrNotStarted)})
	_, err := c.Run(t.Context(), appcmd.SetSite("A").With("x", "y"))
	assert.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
	_, err = c.Run(t.Context(), appcmd.SetSite("A").With("x", "y"))
	require.ErrorIs(t, err, appcmd.ErrNotStarted)
	assert.NotErrorIs(t, err, appcmd.ErrUnknownOutcome)
}

func TestReads(t *testing.T) {
	ctx := t.Context()
	site := `<appcmd><SITE SITE.NAME="A" SITE.ID="1" state="Started"><site name="A" id="1"><application path="/"><virtualDirectory path="/" physicalPath="C:\a"/></application></site></SITE></appcmd>`
	apps := `<appcmd><APP path="/" APP.NAME="A/" APPPOOL.NAME="Default" SITE.NAME="A" /></appcmd>`
	c, s := scripted(t, answer{out: site}, answer{out: apps}, answer{out: apps},
		answer{out: `<appcmd><VDIR VDIR.NAME="A/" physicalPath="C:\a"/></appcmd>`},
		answer{out: `<appcmd><WP WP.NAME="12" APPPOOL.NAME="Default"/></appcmd>`},
		answer{out: `<proxy enabled="true" />` + "\r\n"},
		answer{out: `<appcmd><BACKUP BACKUP.NAME="b"/></appcmd>`})
	var told []string
	c.OnRun = func(cmd appcmd.Command, call *appcmd.Call) {
		told = append(told, cmd.String())
		assert.NoError(t, call.Err)
	}
	a, err := c.Site(ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, "Default", a.Applications[0].Pool, "an application that names no pool is in the default one, which list app tells")
	list, err := c.Apps(ctx, "")
	require.NoError(t, err)
	assert.Equal(t, []appcmd.App{{Site: "A", Path: "/", Pool: "Default"}}, list)
	dirs, err := c.VDirs(ctx, "A/")
	require.NoError(t, err)
	assert.Equal(t, []appcmd.Directory{{Name: "A/", PhysicalPath: `C:\a`}}, dirs)
	wps, err := c.WorkerProcesses(ctx)
	require.NoError(t, err)
	assert.Equal(t, []appcmd.WorkerProcess{{PID: 12, Pool: "Default"}}, wps)
	proxy, err := c.Config(ctx, "", "system.webServer/proxy")
	require.NoError(t, err)
	assert.True(t, proxy.Bool("enabled", false))
	backups, err := c.Backups(ctx)
	require.NoError(t, err)
	assert.Equal(t, []appcmd.Backup{{Name: "b"}}, backups)
	assert.Equal(t, []string{"list site /site.name:a /config:* /xml", "list app /xml", "list app /xml", "list vdir /app.name:A/ /xml",
		"list wp /xml", "list config /section:system.webServer/proxy /config:*", "list backup /xml"}, s.calls)
	require.Len(t, told, 7)
	assert.True(t, strings.HasPrefix(told[0], "appcmd list site /site.name:a"))
}

func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, answer{out: "<appcmd/>"})
		c.LockWait = time.Minute
		held, err := filelock.Try(c.LockFile, 0o600)
		require.NoError(t, err)
		require.NoError(t, held.SetContent([]byte("mine")))
		began := time.Now()
		_, err = c.Sites(t.Context())
		require.ErrorIs(t, err, appcmd.ErrBusy)
		assert.ErrorIs(t, err, filelock.ErrHeld)
		assert.ErrorContains(t, err, "lock")
		assert.Equal(t, time.Minute, time.Since(began))
		time.AfterFunc(30*time.Second, func() { assert.NoError(t, held.Close()) })
		_, err = c.Sites(t.Context())
		assert.NoError(t, err)
		text, err := os.ReadFile(c.LockFile)
		require.NoError(t, err)
		assert.Equal(t, "mine", string(text), "what is in the file stays")

		// Within a Session all runs under one lock.
		c, _ = scripted(t, answer{out: "<appcmd/>"}, answer{out: "ok\r\n"})
		err = c.Hold(t.Context(), func(ctx context.Context, s *appcmd.Session) error {
			_, err := s.Sites(ctx)
			require.NoError(t, err)
			isHeld, err := filelock.Held(c.LockFile)
			require.NoError(t, err)
			assert.True(t, isHeld)
			_, err = s.Run(ctx, appcmd.StopSite("A"))
			return err
		})
		require.NoError(t, err)
		isHeld, err := filelock.Held(c.LockFile)
		require.NoError(t, err)
		assert.False(t, isHeld)
	})
	c := &appcmd.Client{LockFile: filepath.Join(t.TempDir(), "no", "lock")}
	_, err := c.Sites(t.Context())
	require.Error(t, err)
	assert.NotErrorIs(t, err, appcmd.ErrBusy)
}

// Of many callers one runs at a time.
func TestOneAtATime(t *testing.T) {
	var running, most, count atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		c := &appcmd.Client{LockFile: filepath.Join(t.TempDir(), "lock"), Runner: appcmd.RunnerFunc(func(context.Context, []string, []byte) ([]byte, uint32, error) {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(10 * time.Millisecond)
			running.Add(-1)
			count.Add(1)
			return []byte("<appcmd/>"), 0, nil
		})}
		done := make(chan error)
		for range 20 {
			go func() {
				_, err := c.Sites(t.Context())
				done <- err
			}()
		}
		for range 20 {
			assert.NoError(t, <-done)
		}
	})
	assert.EqualValues(t, 1, most.Load())
	assert.EqualValues(t, 20, count.Load())
}
