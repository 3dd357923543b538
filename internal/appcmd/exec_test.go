package appcmd_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/appcmd"
	"github.com/abswap/abswap/internal/proc"
	"github.com/abswap/abswap/internal/retry"
)

// The test binary is also a fake appcmd (fakeEnv says which), that keeps what it has to remember in a folder.
const (
	fakeEnv = "APPCMD_TEST_FAKE"
	dirEnv  = "APPCMD_TEST_DIR"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeEnv); mode != "" {
		os.Exit(fake(mode, os.Getenv(dirEnv), os.Args[1:]))
	}
	os.Exit(m.Run())
}

func fake(mode, dir string, args []string) int {
	switch mode {
	case "echo": // what it was given
		in, _ := io.ReadAll(os.Stdin)
		_ = json.NewEncoder(os.Stdout).Encode(append(args, string(in)))
	case "store":
		return fakeStore(dir, args)
	case "alone": // says so if another one runs
		f, err := os.OpenFile(filepath.Join(dir, "alone"), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			fmt.Printf("ERROR ( message:%v )\r\n", err)
			return 87
		}
		_ = f.Close()
		time.Sleep(5 * time.Millisecond)
		_ = os.Remove(f.Name())
		fmt.Print("<appcmd/>\r\n")
	case "big":
		w := bufio.NewWriter(os.Stdout)
		_, _ = w.WriteString("<appcmd>")
		for i := range 20_000 {
			fmt.Fprintf(w, `<REQUEST REQUEST.NAME="%x" Url="/a/rather/long/path/for/a/request/%d" Verb="GET" Time="5" />`+"\r\n", i, i)
		}
		_, _ = w.WriteString("</appcmd>\r\n")
		_ = w.Flush()
	case "oem":
		_, _ = os.Stdout.WriteString("ERROR ( hresult:800706be, message:\x91\xA1\xAE\xA9 \xAF\xE0\xA8. )\r\n")
		return 190
	case "complain":
		_, _ = os.Stderr.WriteString("cannot load a library\n")
		return 3
	case "hang": // with a child that hangs too
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), fakeEnv+"=child")
		child.Stdout = os.Stdout // so it keeps the output open
		if err := child.Start(); err != nil {
			return 9
		}
		fallthrough
	case "child":
		signal.Ignore(os.Interrupt)
		name := filepath.Join(dir, fmt.Sprintf("pid-%s-%d", mode, os.Getpid()))
		if err := os.WriteFile(name+".new", nil, 0o600); err != nil || os.Rename(name+".new", name) != nil {
			return 9
		}
		time.Sleep(time.Hour)
	case "leave": // and leave a child behind that keeps the output open
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), fakeEnv+"=child")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			return 9
		}
		fmt.Print("done\r\n")
	case "holder": // another program that uses the lock
		c := &appcmd.Client{LockFile: filepath.Join(dir, "lock")}
		err := c.Hold(context.Background(), func(context.Context, *appcmd.Session) error {
			fmt.Println("held")
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		})
		if err != nil {
			return 9
		}
	case "caller": // another program that runs commands
		c := aClient("alone", dir)
		for range 5 {
			if _, err := c.WorkerProcesses(context.Background()); err != nil {
				fmt.Println(err)
				return 9
			}
		}
	default:
		return 8
	}
	return 0
}

// fakeStore keeps attributes of a pool in a file. The first two times that it saves, another program has just saved something too, and has the
// file open still.
func fakeStore(dir string, args []string) int {
	path := filepath.Join(dir, "store.json")
	values := map[string]string{}
	if data, err := os.ReadFile(path); err == nil {
		if json.Unmarshal(data, &values) != nil {
			return 9
		}
	}
	save := func() bool {
		data, _ := json.Marshal(values)
		return os.WriteFile(path, data, 0o600) == nil
	}
	if args[0] == "list" {
		fmt.Print("<appcmd><APPPOOL APPPOOL.NAME=\"P\" state=\"Started\"><add name=\"P\" managedRuntimeVersion=\"")
		_ = xml.EscapeText(os.Stdout, []byte(values["list"]))
		fmt.Print("\" /></APPPOOL></appcmd>\r\n")
		return 0
	}
	fmt.Print("APPPOOL object \"P\" changed\r\n")
	tries, _ := strconv.Atoi(values["tries"])
	values["tries"] = strconv.Itoa(tries + 1)
	if tries < 2 {
		values["list"] += fmt.Sprintf("other%d;", tries)
		if !save() {
			return 9
		}
		fmt.Print("ERROR ( hresult:80070020, message:Failed to commit configuration changes.\r\n )\r\n")
		return 32
	}
	_, v, _ := strings.Cut(args[3], ":")
	values["list"] = v
	if !save() {
		return 9
	}
	return 0
}

func anExec(mode, dir string) *appcmd.Exec {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	// A program with the race detector sleeps for a second at its end unless told otherwise.
	return &appcmd.Exec{Path: exe, Env: append(os.Environ(), fakeEnv+"="+mode, dirEnv+"="+dir, "GORACE=atexit_sleep_ms=0")}
}

func aClient(mode, dir string) *appcmd.Client {
	return &appcmd.Client{Runner: anExec(mode, dir), LockFile: filepath.Join(dir, "lock")}
}

// The real way of a process: what is meant arrives, whatever is in it.
func TestArgumentsArrive(t *testing.T) {
	c := aClient("echo", t.TempDir())
	cmd := appcmd.SetConfig("My Site", "asp").With("plain", "x").With("blank", "a b").With("empty", "").With("slash", `C:\a b\`).
		With("quote", `say "yes" \"no\"`).With("shell", "%PATH%^&|<>()!$HOME`x`").With("far", "漢字 é").
		Set(appcmd.RootDir("A b&c"), "physicalPath", `C:\x y\`).In([]byte("in\r\nput"))
	want, err := cmd.Argv()
	require.NoError(t, err)
	out, err := c.Run(t.Context(), cmd)
	require.NoError(t, err)
	var got []string
	require.NoError(t, json.Unmarshal([]byte(out.Text), &got))
	assert.Equal(t, append(want, "in\r\nput"), got)
}

func TestAnotherProgramsChangeIsKept(t *testing.T) {
	c := aClient("store", t.TempDir())
	c.Pause = 10 * time.Millisecond
	_, err := c.Change(t.Context(), func(ctx context.Context, s *appcmd.Session) (appcmd.Command, bool, error) {
		p, err := s.Pool(ctx, "P")
		return appcmd.SetPool("P").With("managedRuntimeVersion", p.RuntimeVersion+"mine;"), !strings.Contains(p.RuntimeVersion, "mine;"), err
	})
	require.NoError(t, err)
	p, err := c.Pool(t.Context(), "P")
	require.NoError(t, err)
	assert.Equal(t, "other0;other1;mine;", p.RuntimeVersion)
}

func TestBigOutput(t *testing.T) {
	dir := t.TempDir()
	requests, err := aClient("big", dir).Requests(t.Context(), appcmd.RequestFilter{})
	require.NoError(t, err)
	require.Len(t, requests, 20_000)
	assert.Equal(t, "/a/rather/long/path/for/a/request/19999", requests[19_999].URL)

	e := anExec("big", dir)
	e.MaxOutput = 1 << 20
	_, _, err = e.Run(t.Context(), []string{"list"}, nil)
	assert.ErrorIs(t, err, appcmd.ErrTruncated)
}

func TestOEMOutput(t *testing.T) {
	c := aClient("oem", t.TempDir())
	c.CodePage = 866
	_, err := c.Run(t.Context(), appcmd.StopSite("A"))
	require.ErrorIs(t, err, appcmd.Transient)
	assert.ErrorContains(t, err, "Сбой при")
}

func TestWordsOnStderr(t *testing.T) {
	_, err := aClient("complain", t.TempDir()).Run(t.Context(), appcmd.StopSite("A"))
	require.ErrorIs(t, err, appcmd.NotFound)
	assert.ErrorContains(t, err, "cannot load a library")
}

func TestNotStarted(t *testing.T) {
	dir := t.TempDir()
	c := &appcmd.Client{Path: filepath.Join(dir, "appcmd.exe"), LockFile: filepath.Join(dir, "lock")}
	_, err := c.Run(t.Context(), appcmd.StopSite("A").Blocks(time.Second))
	require.ErrorIs(t, err, appcmd.ErrNotStarted)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.NotErrorIs(t, err, appcmd.ErrUnknownOutcome)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = anExec("echo", dir).Run(ctx, nil, nil)
	require.ErrorIs(t, err, appcmd.ErrNotStarted)
	assert.ErrorIs(t, err, context.Canceled)
}

// pids waits for the processes of the fake that hangs and identifies them.
func pids(t *testing.T, dir string, modes ...string) []proc.ID {
	t.Helper()
	var ids []proc.ID
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, mode := range modes {
		require.NoError(t, retry.Do(ctx, retry.Policy{First: 5 * time.Millisecond, Max: 50 * time.Millisecond}, func(context.Context) error {
			found, err := filepath.Glob(filepath.Join(dir, "pid-"+mode+"-*"))
			if err != nil {
				return retry.Stop(err)
			}
			for _, f := range found {
				if pid, err := strconv.Atoi(f[strings.LastIndexByte(f, '-')+1:]); err == nil {
					id, err := proc.Identify(pid)
					if err != nil {
						return retry.Stop(err)
					}
					ids = append(ids, id)
					return nil
				}
			}
			return errors.New("not there yet: " + mode)
		}))
	}
	return ids
}

func gone(t *testing.T, id proc.ID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	assert.NoError(t, retry.Do(ctx, retry.Policy{First: 5 * time.Millisecond, Max: 50 * time.Millisecond}, func(context.Context) error {
		runs, err := proc.Running(id)
		if err == nil && runs {
			err = fmt.Errorf("%s runs", id)
		}
		return err
	}))
}

// When it returns, the process has gone: at its own end of time, and at the context's.
func TestKilledAndWaitedFor(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(c *appcmd.Client, cancel func()){
		"context": func(_ *appcmd.Client, cancel func()) { cancel() },
		"timeout": func(*appcmd.Client, func()) {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := aClient("hang", dir)
			c.Grace = 50 * time.Millisecond
			if name == "timeout" {
				c.Timeout = 3 * time.Second
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := c.Run(ctx, appcmd.SetSite("A").With("x", "y"))
				done <- err
			}()
			ids := pids(t, dir, "hang", "child")
			cut(c, cancel)
			err := <-done
			runs, rerr := proc.Running(ids[0])
			require.NoError(t, rerr)
			assert.False(t, runs, "it is reported only when the process has gone")
			require.ErrorIs(t, err, appcmd.ErrUnknownOutcome)
			if name == "timeout" {
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			} else {
				assert.ErrorIs(t, err, context.Canceled)
			}
			gone(t, ids[1])
			_, err = (&appcmd.Client{Runner: anExec("alone", dir), LockFile: c.LockFile}).WorkerProcesses(t.Context())
			assert.NoError(t, err, "the lock is free")
		})
	}
}

// A program that goes while something it began keeps its output open is not waited for without end, and the output is not trusted.
func TestOutputKeptOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := anExec("leave", dir)
	_, exit, err := e.Run(t.Context(), nil, nil)
	require.ErrorIs(t, err, appcmd.ErrTruncated)
	assert.Zero(t, exit)
	require.NoError(t, proc.Kill(leftovers(t, dir)))
}

// leftovers are the processes that a fake has left behind; on Windows they have gone with its job.
func leftovers(t *testing.T, dir string) []proc.ID {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "pid-child-*"))
	require.NoError(t, err)
	var ids []proc.ID
	for _, f := range found {
		if pid, err := strconv.Atoi(f[strings.LastIndexByte(f, '-')+1:]); err == nil {
			if id, err := proc.Identify(pid); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

func TestLockBetweenPrograms(t *testing.T) {
	dir := t.TempDir()
	e := anExec("holder", dir)
	holder := exec.Command(e.Path)
	holder.Env = e.Env
	in, err := holder.StdinPipe()
	require.NoError(t, err)
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "held")

	c := aClient("alone", dir)
	c.LockWait = 300 * time.Millisecond
	_, err = c.WorkerProcesses(t.Context())
	require.ErrorIs(t, err, appcmd.ErrBusy)
	require.NoError(t, holder.Process.Kill())
	_ = holder.Wait()
	_ = in.Close()
	c.LockWait = 0
	_, err = c.WorkerProcesses(t.Context())
	assert.NoError(t, err, "a dead holder's lock is free")
}

func TestOneAtATimeBetweenPrograms(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			e := anExec("caller", dir)
			cmd := exec.Command(e.Path)
			cmd.Env = e.Env
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			assert.NoError(t, cmd.Run())
			assert.Empty(t, out.String())
		})
	}
	c := aClient("alone", dir)
	for range 5 {
		_, err := c.WorkerProcesses(t.Context())
		assert.NoError(t, err)
	}
	wg.Wait()
}

func TestDefaultPlaces(t *testing.T) {
	lock, err := appcmd.DefaultLock()
	require.NoError(t, err)
	assert.True(t, filepath.IsAbs(lock))
	again, err := appcmd.DefaultLock()
	require.NoError(t, err)
	assert.Equal(t, lock, again)
	if path, err := appcmd.DefaultPath(); err == nil {
		assert.FileExists(t, path)
	} else {
		assert.True(t, errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrNotExist), err)
	}
}
