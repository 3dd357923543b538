package folder_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/proc"
	"github.com/abswap/abswap/internal/retry"
	"github.com/abswap/abswap/switcher/iis/folder"
)

// tool is what this binary does as robocopy or msdeploy, by the words in its environment: it can copy, say, hang and exit.
func tool() int {
	code := 0
	for word := range strings.SplitSeq(os.Getenv(envArgs), "|") {
		verb, rest, _ := strings.Cut(word, "=")
		switch verb {
		case "args":
			if err := os.WriteFile(rest, []byte(commandLine()), 0o644); err != nil {
				panic(err)
			}
		case "copy": // as robocopy is told
			if err := os.CopyFS(os.Args[2], os.DirFS(os.Args[1])); err != nil {
				fmt.Println(err)
				return 8
			}
		case "say":
			fmt.Println(rest)
		case "flood":
			for n := range number(rest) {
				fmt.Println("line", n, strings.Repeat("x", 80))
			}
		case "hang": // with a child that outlives it if it is not ended too
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), envAs+"=sleeper")
			c.Stdout = os.Stdout
			if err := c.Start(); err != nil {
				panic(err)
			}
			if err := os.WriteFile(rest, fmt.Append(nil, os.Getpid(), " ", c.Process.Pid, "\n"), 0o644); err != nil {
				panic(err)
			}
			time.Sleep(10 * patience)
		case "orphan": // a child, and then an end
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), envAs+"=sleeper")
			c.Stdout = os.Stdout // which it keeps open
			if err := c.Start(); err != nil {
				panic(err)
			}
			if err := os.WriteFile(rest, fmt.Append(nil, os.Getpid(), " ", c.Process.Pid, "\n"), 0o644); err != nil {
				panic(err)
			}
		case "exit":
			code = number(rest)
		}
	}
	return code
}

// as makes this binary the tool that does these words, for as long as the test runs.
func as(t *testing.T, words ...string) (path string) {
	t.Helper()
	t.Setenv(envAs, "tool")
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	t.Setenv(envArgs, strings.Join(words, "|"))
	exe, err := os.Executable()
	require.NoError(t, err)
	return exe
}

func TestRobocopyArguments(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	exe := as(t, "args="+said, "exit=1")
	from, to := hostile(t)
	require.NoError(t, folder.Robocopy{Path: exe, Args: []string{"/MT:8", "/XD", `my logs`}}.Copy(t.Context(), from, to))
	data, err := os.ReadFile(said)
	require.NoError(t, err)
	args := strings.Split(string(data), "\n")[1:]
	assert.Equal(t, []string{from, to, "/E", "/COPY:DAT", "/DCOPY:DAT", "/A-:R", "/XJ", "/R:2", "/W:1", "/NP", "/NFL", "/NDL", "/MT:8", "/XD", "my logs"}, args)
}

// hostile returns two paths that a shell would take for something else.
func hostile(t *testing.T) (from, to string) {
	dir := t.TempDir()
	from = filepath.Join(dir, `a b & calc %PATH% ^ $(x) 'q' ;,=`)
	to = filepath.Join(dir, "größe !x! `y` {z}")
	require.NoError(t, os.Mkdir(from, 0o755))
	require.NoError(t, os.Mkdir(to, 0o755))
	return from, to
}

func TestRobocopyExitCodes(t *testing.T) {
	for code := range 32 {
		meaning, ok := folder.RobocopyExit(uint32(code))
		assert.NotEmpty(t, meaning)
		assert.Equal(t, code < 8, ok, "%d", code)
		err := folder.Robocopy{Path: as(t, "exit="+strconv.Itoa(code))}.Copy(t.Context(), "/from", "/to")
		if code < 8 {
			assert.NoError(t, err, "%d", code)
			continue
		}
		e, isTool := errors.AsType[*folder.ToolError](err)
		require.True(t, isTool, "%d: %v", code, err)
		assert.Equal(t, uint32(code), e.Exit)
		assert.Equal(t, meaning, e.Meaning)
	}
	meaning, _ := folder.RobocopyExit(3)
	assert.Equal(t, "files were copied, extra files in the target", meaning)
	_, ok := folder.RobocopyExit(0xC0000005)
	assert.False(t, ok, "a crash is no success")
}

func TestRobocopyErrorCarriesTheEndOfTheOutput(t *testing.T) {
	exe := as(t, "flood=500", "say=ERROR 32 (0x00000020) Copying File", "exit=9")
	err := folder.Robocopy{Path: exe, Output: 1000}.Copy(t.Context(), "/from", "/to")
	e, ok := errors.AsType[*folder.ToolError](err)
	require.True(t, ok)
	assert.LessOrEqual(t, len(e.Output), 1000)
	assert.Contains(t, e.Output, "ERROR 32 (0x00000020) Copying File")
	assert.True(t, strings.HasPrefix(e.Output, "line 4"), "whole lines: %q", e.Output)
	assert.ErrorContains(t, err, "robocopy: exit code 9 (files were copied, some files or folders could not be copied)")
	assert.ErrorContains(t, err, "ERROR 32")
}

func TestAToolThatIsNotThere(t *testing.T) {
	err := folder.Robocopy{Path: filepath.Join(t.TempDir(), "robocopy.exe")}.Copy(t.Context(), "/a", "/b")
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, ok := errors.AsType[*folder.ToolError](err)
	assert.True(t, ok)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, folder.Robocopy{Path: as(t, "exit=0")}.Copy(ctx, "/a", "/b"), context.Canceled)
}

// ended waits until none of the processes runs whose pids a tool wrote down.
func ended(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		id, err := proc.Identify(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			running, rerr := proc.Running(id)
			require.NoError(t, rerr)
			assert.False(t, running, "process %d still runs", pid)
		}
	}
}

// pidsIn waits until a tool has written its pid and its child's.
func pidsIn(t *testing.T, file string) (pids []int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, retry.Do(ctx, retry.Policy{First: 5 * time.Millisecond}, func(context.Context) error {
		data, err := os.ReadFile(file)
		if err == nil && !strings.HasSuffix(string(data), "\n") {
			err = errors.New("not written yet")
		}
		for f := range strings.FieldsSeq(string(data)) {
			pids = append(pids, number(f))
		}
		return err
	}))
	return pids
}

func TestTheContextEndsTheToolAndItsChildren(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	exe := as(t, "say=it begins", "hang="+file)
	why := errors.New("the operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() { result <- folder.Robocopy{Path: exe}.Copy(ctx, "/from", "/to") }()
	pids := pidsIn(t, file)
	cancel(why)
	select {
	case err := <-result:
		assert.ErrorIs(t, err, why)
		assert.ErrorContains(t, err, "it begins")
	case <-time.After(patience):
		require.Fail(t, "it does not end")
	}
	require.Len(t, pids, 2)
	ended(t, pids)

	t.Run("and so does a timeout", func(t *testing.T) {
		err := folder.Robocopy{Path: exe, Timeout: 50 * time.Millisecond}.Copy(t.Context(), "/from", "/to")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "not done after 50ms")
	})
	t.Run("what a tool leaves behind is ended too", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pids")
		exe := as(t, "orphan="+file, "exit=0")
		begin := time.Now()
		defer func() { assert.Less(t, time.Since(begin), 10*time.Second, "and nobody waits for it") }()
		require.NoError(t, folder.Robocopy{Path: exe}.Copy(t.Context(), "/from", "/to"))
		ended(t, pidsIn(t, file))
	})
}

func TestInstallByRobocopy(t *testing.T) {
	s := newSite(t)
	s.cfg.Copy = folder.Robocopy{Path: as(t, "copy", "exit=1")}
	path := s.install(t, "v1")
	assert.Equal(t, tree(t, s.source), tree(t, path))
	s.install(t, "v1")

	s.cfg.Copy = folder.Robocopy{Path: as(t, "copy", "exit=9")}
	_, err := s.installer(t).Install(t.Context(), s.release("v2"))
	_, ok := errors.AsType[*folder.ToolError](err)
	assert.True(t, ok)
	s.cfg.Copy = folder.Robocopy{Path: as(t, "exit=0")}
	_, err = s.installer(t).Install(t.Context(), s.release("v2"))
	assert.ErrorIs(t, err, folder.ErrDiffers, "success that copied nothing is none")
	assert.Equal(t, []string{"MySite.v1", "MySite.v1~manifest.json"}, s.names(t))
}

func TestWebDeployCommandLine(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	exe := as(t, "args="+said)
	from, to := hostile(t)
	w := folder.WebDeploy{Path: exe, Source: []folder.Setting{{Name: "includeAcls", Value: "false"}},
		Dest: []folder.Setting{{Name: "computerName", Value: "https://web1:8172/msdeploy.axd?site=My Site"}, {Name: "password", Value: `p"w d`}},
		Args: []string{`-skip:Directory="App Data"`}}
	require.NoError(t, w.Copy(t.Context(), from, to))
	data, err := os.ReadFile(said)
	require.NoError(t, err)
	raw, _, _ := strings.Cut(string(data), "\n")
	want := fmt.Sprintf(`-verb:sync -source:contentPath="%s",includeAcls="false" `+
		`-dest:contentPath="%s",computerName="https://web1:8172/msdeploy.axd?site=My Site",password='p"w d' -retryAttempts:2 -skip:Directory="App Data"`, from, to)
	assert.Equal(t, `"`+exe+`" `+want, raw, "no argument begins with a quote: msdeploy would refuse it")
}

func TestWebDeployRefusesWhatCannotBeQuoted(t *testing.T) {
	for _, s := range []folder.Setting{{Name: "password", Value: `s3cr"et'`}, {Name: "userName", Value: `domain\`}, {Name: "x", Value: "a\nb"}, {Name: "a,b", Value: "x"}, {}} {
		err := folder.WebDeploy{Path: as(t), Dest: []folder.Setting{s}}.Copy(t.Context(), "/a", "/b")
		assert.ErrorIs(t, err, folder.ErrQuote, "%+v", s)
		assert.NotContains(t, err.Error(), "s3cr")
	}
	for _, a := range []string{"", "skip", `"-skip:x"`, "-x\n-y"} {
		assert.ErrorIs(t, folder.WebDeploy{Path: as(t), Args: []string{a}}.Copy(t.Context(), "/a", "/b"), folder.ErrQuote, "%q", a)
	}
	assert.ErrorIs(t, folder.WebDeploy{Path: as(t)}.Copy(t.Context(), `C:\`, `D:\x`), folder.ErrQuote)
}

func TestWebDeployErrorsTellCodesAndNoSecrets(t *testing.T) {
	exe := as(t, "say=Info: Using userName=deploy password=hunter22 and top5ecret",
		"say=Error Code: ERROR_FILE_IN_USE", "say=More Information: Web Deploy cannot modify the file 'app.dll' on the destination because it is locked",
		"say=Error count: 1. Error Code: ERROR_FILE_IN_USE", "say=Error code: ERROR_CONNECTION_TERMINATED", "say=arg5ecret", "exit=-1")
	w := folder.WebDeploy{Path: exe,
		Dest: []folder.Setting{{Name: "userName", Value: "deploy"}, {Name: "Password", Value: "hunter22"}, {Name: "tempAgent", Value: "top5ecret", Secret: true}},
		Args: []string{`-setParam:name='x',password='arg5ecret'`}}
	err := w.Copy(t.Context(), "/from", "/to")
	e, ok := errors.AsType[*folder.ToolError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, []string{"ERROR_FILE_IN_USE", "ERROR_CONNECTION_TERMINATED"}, e.Codes)
	assert.NotZero(t, e.Exit)
	for _, secret := range []string{"hunter22", "top5ecret", "arg5ecret"} {
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, *e, *e), secret)
	}
	assert.ErrorContains(t, err, `userName="deploy",Password="***",tempAgent="***"`)
	assert.ErrorContains(t, err, "ERROR_FILE_IN_USE, ERROR_CONNECTION_TERMINATED")

	t.Run("and nothing where it does not start", func(t *testing.T) {
		w.Path = filepath.Join(t.TempDir(), "msdeploy.exe")
		err := w.Copy(t.Context(), "/from", "/to")
		assert.ErrorIs(t, err, os.ErrNotExist)
		assert.NotContains(t, err.Error(), "hunter22")
	})
}

// TestAToolDiesWithItsStarter kills the process that runs an installation by a tool.
func TestAToolDiesWithItsStarter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	exe := as(t, "hang="+file)
	c := exec.Command(exe)
	c.Env = append(os.Environ(), envAs+"=runner")
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Wait() })
	pids := pidsIn(t, file)
	require.NoError(t, c.Process.Kill())
	for in := bufio.NewScanner(out); in.Scan(); {
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, pid := range pids[:diesWithUs] {
		require.NoError(t, retry.Do(ctx, retry.Policy{First: 5 * time.Millisecond}, func(context.Context) error {
			id, err := proc.Identify(pid)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if running, rerr := proc.Running(id); err == nil && rerr == nil && !running {
				return nil
			}
			return fmt.Errorf("process %d still runs", pid)
		}))
	}
	for _, pid := range pids {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill() // where only the tool itself goes with its starter
		}
	}
}
