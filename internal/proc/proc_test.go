package proc_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/internal/proc"
	"github.com/abswap/abswap/internal/retry"
)

const envMode = "PROC_TEST_MODE"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(envMode); mode {
	case "":
		os.Exit(m.Run())
	case "exit":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		os.Exit(5)
	case "listen":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(l.Addr())
	}
	time.Sleep(5 * time.Minute)
}

// launch starts this test binary in a mode; it is ended with the test.
func launch(t *testing.T, mode, token string) (*proc.Child, string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	require.NoError(t, err)
	env := append(os.Environ(), envMode+"="+mode, "GORACE=atexit_sleep_ms=0")
	c, err := proc.Launch(proc.Spec{Path: exe, Args: []string{"-mode"}, Dir: t.TempDir(), Env: env, Output: f, Token: token})
	require.NoError(t, errors.Join(err, f.Close()))
	t.Cleanup(func() {
		require.NoError(t, proc.Kill([]proc.ID{c.ID()}))
		ended(t, c)
	})
	return c, log
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, retry.Do(ctx, retry.Policy{First: 5 * time.Millisecond, Max: 100 * time.Millisecond}, func(context.Context) error {
		if !f() {
			return errors.New("not yet")
		}
		return nil
	}))
}

func ended(t *testing.T, c *proc.Child) (exit proc.Exit) {
	t.Helper()
	eventually(t, func() (ok bool) { exit, ok = c.Exited(); return ok })
	return exit
}

func TestLaunchAndExit(t *testing.T) {
	c, log := launch(t, "exit", "TokenExit")
	assert.Equal(t, proc.Exit{Code: 5}, ended(t, c))
	assert.Equal(t, proc.Exit{Code: 5}, ended(t, c), "asked again")
	data, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, "out\nerr\n", string(data))
	ok, err := proc.Running(c.ID())
	require.NoError(t, err)
	assert.False(t, ok)
}

func TestLaunchOfNothing(t *testing.T) {
	_, err := proc.Launch(proc.Spec{Path: filepath.Join(t.TempDir(), "absent"), Dir: t.TempDir(), Output: os.Stderr, Token: "TokenNothing"})
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = proc.Launch(proc.Spec{Path: os.Args[0], Dir: t.TempDir(), Output: os.Stderr})
	assert.ErrorContains(t, err, "without a token")
}

func TestKillSparesAnother(t *testing.T) {
	c, _ := launch(t, "sleep", "TokenSpares")
	id := c.ID()
	wrong := id
	wrong.Start++
	require.NoError(t, proc.Kill([]proc.ID{wrong}), "the one that is named has gone: nothing to do")
	ok, err := proc.Running(wrong)
	require.NoError(t, err)
	assert.False(t, ok)
	assert.ErrorIs(t, proc.Tree{Main: wrong}.Interrupt(t.Context()), os.ErrProcessDone)
	require.NoError(t, proc.Tree{Main: wrong, Token: "TokenOther"}.KillAll(wrong))
	ok, err = proc.Running(id)
	require.NoError(t, err)
	assert.True(t, ok)
	_, done := c.Exited()
	assert.False(t, done)

	require.NoError(t, proc.Kill([]proc.ID{id}))
	assert.Equal(t, proc.Exit{Code: -1, Signal: "killed"}, ended(t, c))
	require.NoError(t, proc.Kill([]proc.ID{id}), "again is nothing")
}

func TestFindByTokenOnly(t *testing.T) {
	token := fmt.Sprintf("TokenFind%d", os.Getpid()) // another run of this test may be under way
	c, _ := launch(t, "sleep", token)
	m, err := proc.Tree{Token: token}.Find(t.Context())
	require.NoError(t, err)
	assert.Equal(t, proc.Members{Main: c.ID(), All: []proc.ID{c.ID()}}, m)
	m, err = proc.Tree{Token: token[:len(token)-1]}.Find(t.Context())
	require.NoError(t, err)
	assert.Empty(t, m)
	require.NoError(t, proc.Tree{Token: token}.KillAll())
	assert.Equal(t, "killed", ended(t, c).Signal)
	m, err = proc.Tree{Main: c.ID(), Token: token}.Find(t.Context())
	require.NoError(t, err)
	assert.Empty(t, m)
}

func TestIdentify(t *testing.T) {
	me, err := proc.Identify(os.Getpid())
	require.NoError(t, err)
	assert.Equal(t, os.Getpid(), me.PID)
	ok, err := proc.Running(me)
	require.NoError(t, err)
	assert.True(t, ok)
	again, err := proc.Identify(os.Getpid())
	require.NoError(t, err)
	assert.Equal(t, me, again)
	_, err = proc.Identify(1 << 30)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	ok, err = proc.Running(proc.ID{})
	assert.NoError(t, err)
	assert.False(t, ok)
}

func TestListeners(t *testing.T) {
	if runtime.GOOS == "darwin" {
		_, err := proc.Listeners(netip.MustParseAddrPort("127.0.0.1:1"))
		require.ErrorIs(t, err, errors.ErrUnsupported)
		t.Skip("the system does not tell who listens")
	}
	c, log := launch(t, "listen", "TokenListen")
	var addr netip.AddrPort
	eventually(t, func() bool {
		data, err := os.ReadFile(log)
		require.NoError(t, err)
		addr, err = netip.ParseAddrPort(strings.TrimSpace(string(data)))
		return err == nil
	})
	owners, err := proc.Listeners(addr)
	require.NoError(t, err)
	require.Len(t, owners, 1)
	assert.Equal(t, c.ID(), owners[0].ID)
	assert.NotEmpty(t, owners[0].Name)
	assert.NoError(t, proc.ListensOnly(addr, []proc.ID{{PID: 1, Start: 1}, c.ID()}))

	me, err := proc.Identify(os.Getpid())
	require.NoError(t, err)
	err = proc.ListensOnly(addr, []proc.ID{me})
	foreign, ok := errors.AsType[*proc.ForeignError](err)
	require.True(t, ok, err)
	assert.Equal(t, addr, foreign.Addr)
	assert.Equal(t, owners, foreign.Owners)
	assert.ErrorContains(t, err, fmt.Sprintf("%s is held by process %d (", addr, c.ID().PID))

	l, err := net.Listen("tcp", ":0") // all addresses
	require.NoError(t, err)
	wild := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Addr().(*net.TCPAddr).AddrPort().Port())
	assert.NoError(t, proc.ListensOnly(wild, []proc.ID{me}))
	require.NoError(t, l.Close())
	assert.ErrorContains(t, proc.ListensOnly(wild, []proc.ID{me}), "nobody listens")
	owners, err = proc.Listeners(wild)
	require.NoError(t, err)
	assert.Empty(t, owners)
}

func TestDiesWithUsAnswers(t *testing.T) {
	_, err := proc.DiesWithUs() // what it says depends on where the test runs
	assert.NoError(t, err)
}
