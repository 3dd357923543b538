package iis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
)

// envDeploy holds the order for a process that is to deploy, and to be killed while it does.
const envDeploy = "ABSWAP_IIS_TEST_DEPLOY"

// noRaceSleep keeps programs with the race detector from waiting a second at their end: each command is a program.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

// order is what the process is told.
type order struct {
	Strategy iis.Strategy
	Appcmd   string // the program that stands for appcmd.exe
	Dir      string // of the emulated machine
	Journal  string
	Ports    map[string]string // emulated address -> real one
	KillAt   int               // record at which it kills itself
	Written  bool              // after the record was written; else before
}

// child is the process that deploys. It tells whether this is one.
func child() bool {
	text := os.Getenv(envDeploy)
	if text == "" {
		return false
	}
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		err = o.deploy()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	return true
}

func (o order) deploy() error {
	s := setting{strategy: o.Strategy, mode: iis.Classic, deploys: true}.with(iis.FactsWith(""))
	b := &box{app: &iis.App{Host: host, Mark: iis.Mark{Header: "X-Release"}, Facts: s.facts, Server: &iis.Server{
		Appcmd: o.Appcmd, LockFile: filepath.Join(o.Dir, "lock"), Folder: drives(o.Dir),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, o.Ports[address])
		}}}}
	if err := b.build(s); err != nil {
		return err
	}
	journal, err := abswap.OpenJournal(o.Journal, abswap.JournalOptions{})
	if err != nil {
		return err
	}
	sw := b.swapper()
	sw.Journal = &killing{Journal: journal, order: o}
	_, err = sw.Deploy(context.Background(), abswap.Release{ID: "v2"})
	return err
}

// killedExit is the exit code of a process that was killed.
var killedExit = map[bool]int{true: 1, false: -1}[runtime.GOOS == "windows"]

// killing is a journal whose process is killed at a record.
type killing struct {
	abswap.Journal
	order
	n int
}

type killingHold struct {
	abswap.JournalHold
	k *killing
}

func (k *killing) Lock(ctx context.Context, o abswap.Owner) (abswap.JournalHold, error) {
	h, err := k.Journal.Lock(ctx, o)
	if err != nil {
		return nil, err
	}
	return &killingHold{h, k}, nil
}

func (h *killingHold) Append(ctx context.Context, r abswap.Record) error {
	h.k.n++
	if h.k.n == h.k.KillAt {
		if h.k.Written {
			if err := h.JournalHold.Append(ctx, r); err != nil {
				return err
			}
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			return err
		}
		select {} // the end is on its way
	}
	return h.JournalHold.Append(ctx, r)
}

// TestKilledAtRecords kills the process that deploys at its records, one run for each, and resumes: the site serves, Active is right, and the
// configuration is that of the old slot or of the new one. In its short form it takes a few of the records.
func TestKilledAtRecords(t *testing.T) {
	step := 14
	switch {
	case *full:
		step = 1
	case testing.Short(): // each command is a program, and slow to start under Wine
		step = 30
	}
	for i, strategy := range allStrategies() {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			for at := 2 + 2*i; at < 100; at += step {
				if briefly() { // one, in the middle
					assert.True(t, killedAt(t, strategy, at+24))
					return
				}
				if !killedAt(t, strategy, at) {
					t.Logf("the deploy was through before record %d", at)
					return
				}
			}
			t.Error("a deploy has no hundred records")
		})
	}
}

// killedAt reports whether the process was killed before it was through.
func killedAt(t *testing.T, strategy iis.Strategy, at int) bool {
	s := setting{strategy: strategy, mode: iis.Classic, deploys: true}.with(iis.FactsWith(""))
	b, err := s.open()
	require.NoError(t, err)
	defer func() { assert.NoError(t, b.close()) }()
	ctx := t.Context()
	o := order{Strategy: strategy, Dir: b.srv.Dir(), Journal: filepath.Join(b.srv.Dir(), "journal"), Ports: map[string]string{}, KillAt: at, Written: at%2 == 0}
	o.Appcmd, err = b.srv.Executable()
	require.NoError(t, err)
	for _, address := range []string{"127.0.0.1:80", "127.0.0.1:8001", "127.0.0.1:8002"} {
		o.Ports[address], err = b.srv.Addr(address)
		require.NoError(t, err)
	}
	text, err := json.Marshal(o)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), envDeploy+"="+string(text), noRaceSleep)
	out, err := cmd.CombinedOutput()
	through := err == nil
	require.Contains(t, []int{0, killedExit}, cmd.ProcessState.ExitCode(), "%s", out)

	journal, err := abswap.OpenJournal(o.Journal, abswap.JournalOptions{})
	require.NoError(t, err)
	sw := b.swapper()
	sw.Journal = journal
	report, err := sw.Resume(ctx)
	if err != nil {
		assert.ErrorIs(t, err, abswap.ErrNothingToDo, "record %d: %+v", at, report)
	}
	require.NoError(t, b.srv.Settle(ctx))
	now, err := b.sw.Active(ctx)
	require.NoError(t, err, "record %d", at)
	want := map[string]string{"blue": "blue-1", "green": "v2"}[now]
	client := b.srv.Client()
	defer client.CloseIdleConnections()
	client.Timeout = 20 * time.Second
	resp, err := client.Get("http://" + host + "/")
	require.NoError(t, err, "record %d", at)
	resp.Body.Close()
	assert.Equal(t, want, resp.Header.Get("X-Release"), "record %d: %s serves", at, now)
	assert.Equal(t, 1, strings.Count(strings.Join(b.publicly(t, strategy), "\n"), now), "record %d", at)
	return !through
}

// publicly lists what the configuration gives to the public: a folder's pool, the site that starts by itself, or the owner of the binding.
func (b *box) publicly(t *testing.T, strategy iis.Strategy) []string {
	t.Helper()
	data, err := os.ReadFile(b.srv.ConfigPath())
	require.NoError(t, err)
	var all []string
	for _, site := range strings.SplitAfter(string(data), "</site>") {
		_, site, _ = strings.Cut(site, "<site ")
		name, _, _ := strings.Cut(strings.TrimPrefix(site, `name="MySite`), `"`)
		switch {
		case strategy == iis.StrategyRootSwap && strings.Contains(site, `name="MySite"`):
			_, pool, _ := strings.Cut(site, `applicationPool="MySite-`)
			pool, _, _ = strings.Cut(pool, `"`)
			all = append(all, pool)
		case strategy == iis.StrategySiteToggle && strings.Contains(name, "-live") && strings.Contains(site, `serverAutoStart="true"`),
			strategy == iis.StrategyBindingSwap && strings.Contains(site, "*:80:"+host):
			all = append(all, name)
		}
	}
	assert.Len(t, all, 1, "the configuration is one of the two legal ones: %s", data)
	return all
}
