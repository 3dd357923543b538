package arr_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
)

// howFile beside a program makes it a bad PowerShell; its content says how bad.
const howFile = ".how"

// bad is a program, this test's own under another name, that is a bad PowerShell.
type bad string

// newBad makes one.
func newBad(t *testing.T, how string) bad {
	t.Helper()
	own, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "powershell")
	if runtime.GOOS == "windows" {
		path += ".exe"
		program, err := os.ReadFile(own)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, program, 0o700))
	} else {
		require.NoError(t, os.Symlink(own, path)) // a program that was written just now can be busy
	}
	bad(path).becomes(t, how)
	return bad(path)
}

// becomes changes how bad processes are that begin from now on.
func (b bad) becomes(t *testing.T, how string) {
	t.Helper()
	require.NoError(t, os.WriteFile(string(b)+howFile, []byte(how), 0o600))
}

// badShell is a PowerShell that does not do what it should.
func badShell(how string) {
	in := bufio.NewReader(os.Stdin)
	if how == "mute" {
		_, _ = io.Copy(io.Discard, in)
		return
	}
	if how == "cannot" {
		fmt.Println(`{"ready":0,"error":"Could not load file or assembly"}`)
		return
	}
	if how == "chatty" {
		fmt.Println("Windows PowerShell")
		_, _ = io.Copy(io.Discard, in)
		return
	}
	fmt.Println(`{"ready":1}`)
	if how == "deaf" {
		<-time.After(time.Hour) // it is ended long before
	}
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var q struct{ ID int64 }
		_ = json.Unmarshal([]byte(line), &q)
		switch how {
		case "hang":
			continue
		case "dies":
			fmt.Fprintln(os.Stderr, "out of memory")
			os.Exit(7)
		case "garbage":
			fmt.Println("{[")
		case "stale":
			fmt.Printf(`{"id":%d,"ok":true}`+"\n", q.ID-1)
		case "endless":
			for {
				fmt.Print(strings.Repeat("x", 1<<16))
			}
		case "half":
			fmt.Printf(`{"id":%d,"ok"`, q.ID)
			os.Exit(0)
		case "good":
			fmt.Printf(`{"id":%d,"ok":true}`+"\n", q.ID)
		}
	}
}

func TestShellThatIsBad(t *testing.T) {
	for how, want := range map[string]struct {
		called bool
		says   string
	}{
		"mute": {false, "no answer"}, "cannot": {false, "Could not load"}, "chatty": {false, "Windows PowerShell"}, "deaf": {true, "no answer"}, "hang": {true, "no answer"},
		"dies": {true, "out of memory"}, "garbage": {true, "it says"}, "stale": {true, "it says"}, "endless": {true, ""}, "half": {true, ""},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			timeout, start := patience, patience
			switch how { // what is waited for in vain
			case "mute":
				start = 300 * time.Millisecond
			case "deaf", "hang":
				timeout = 300 * time.Millisecond
			}
			program := newBad(t, how)
			s := arr.NewShell(string(program), timeout, start)
			defer func() { assert.NoError(t, s.Close()) }()
			line := []byte(`{"id":5,"call":"read"}`)
			if how == "deaf" {
				line = []byte(`{"id":5,"call":"` + strings.Repeat("x", 1<<20) + `"}`) // more than a pipe holds
			}
			_, err := s.Call(t.Context(), line)
			require.Error(t, err)
			assert.Equal(t, !want.called, isNotCalled(err), "%v", err)
			assert.Contains(t, err.Error(), want.says)
			assert.Zero(t, s.Process(), "it was ended")
			program.becomes(t, "good")
			s.SetLimits(patience, patience)
			got, err := s.Call(t.Context(), []byte(`{"id":6,"call":"read"}`))
			require.NoError(t, err, "the next call begins another")
			assert.JSONEq(t, `{"id":6,"ok":true}`, string(got))
		})
	}
}

func isNotCalled(err error) bool { return strings.Contains(err.Error(), arr.ErrNotCalled.Error()) }

func TestShellIsKilledBetweenCalls(t *testing.T) {
	t.Parallel()
	s := arr.NewShell(string(newBad(t, "good")), patience, patience)
	defer func() { assert.NoError(t, s.Close()) }()
	first := 0
	for i := range 3 {
		_, err := s.Call(t.Context(), fmt.Appendf(nil, `{"id":%d}`, i))
		if err != nil { // it was killed so lately that nobody had seen it
			assert.False(t, isNotCalled(err), "%v", err)
			continue
		}
		p, err := os.FindProcess(s.Process())
		require.NoError(t, err)
		assert.NotEqual(t, first, p.Pid)
		first = p.Pid
		require.NoError(t, p.Kill())
	}
}

func TestShellEndsWithContext(t *testing.T) {
	t.Parallel()
	s := arr.NewShell(string(newBad(t, "hang")), time.Minute, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := s.Call(ctx, []byte(`{"id":1}`))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = s.Call(ctx, []byte(`{"id":2}`))
	assert.ErrorIs(t, err, arr.ErrNotCalled)
	_, err = s.Call(t.Context(), []byte("{\"id\":2}\n{}"))
	assert.ErrorIs(t, err, arr.ErrNotCalled, "a line is one line")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Call(t.Context(), []byte(`{"id":3}`))
	assert.ErrorIs(t, err, arr.ErrNotCalled, "it is closed")
	_, err = arr.NewShell(filepath.Join(t.TempDir(), "powershell.exe"), time.Minute, time.Minute).Call(t.Context(), []byte(`{"id":1}`))
	assert.ErrorIs(t, err, arr.ErrNotCalled)
}

func TestSwitchThroughABadShellIsNotTakenForDone(t *testing.T) {
	t.Parallel()
	b := opened(t, setting{process: true})
	require.NoError(t, b.sw.Activate(t.Context(), b.blue))
	cfg := b.cfg
	cfg.PowerShell, cfg.Patience, cfg.Timeout = string(newBad(t, "hang")), time.Second, 200*time.Millisecond
	sw, err := arr.New(cfg)
	require.NoError(t, err)
	defer func() { assert.NoError(t, sw.Close()) }()
	require.Error(t, sw.Activate(t.Context(), b.green))
	_, err = sw.Active(t.Context())
	require.Error(t, err)
	l, err := sw.InFlight(t.Context(), b.blue)
	require.Error(t, err)
	assert.Equal(t, abswap.EvidenceUnknown, l.Evidence)
	name, err := b.sw.Active(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "blue", name)
}

// hostileNames are addresses that would do harm if they were ever part of a command or a script.
func hostileNames() []string {
	return []string{"$(Stop-Computer)", "`;exit", "a;b|c&d>e", "%windir%", "müller-Ω", "日本", "🙂", "a]b[c", "x{0}", `back\slash`, "#comment", "@{a=1}", "-Command", "null", "\\u0027",
		"a\u2019b\u201cc", "--%"}
}

func TestHostileMemberNames(t *testing.T) {
	t.Parallel()
	var servers strings.Builder
	names := hostileNames()
	for _, n := range names {
		fmt.Fprintf(&servers, `<server address="%s" />`, strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(n))
	}
	b := opened(t, setting{})
	require.NoError(t, b.srv.EditConfig(func(content []byte) ([]byte, error) {
		return []byte(strings.Replace(string(content), `<webFarm name="Others">`, `<webFarm name="Hostile">`+servers.String()+`</webFarm><webFarm name="Others">`, 1)), nil
	}))
	require.NoError(t, b.srv.Settle(t.Context()))
	path, err := b.srv.PowerShell()
	require.NoError(t, err)
	cfg := b.cfg
	cfg.Farm, cfg.Caller, cfg.PowerShell, cfg.Slots = "Hostile", nil, path, map[string][]string{"blue": names[:8], "green": names[8:]}
	sw, err := arr.New(cfg)
	require.NoError(t, err)
	defer func() { assert.NoError(t, sw.Close()) }()
	parts, err := sw.Weights(t.Context())
	require.NoError(t, err, "each name comes back as it was sent")
	assert.Len(t, parts, 2)

	for _, bad := range []string{"", " ", "a\nb", "a\r", "tab\t", "nul\x00", "it's", `a"b`, "\xff\xfe", " x", "x ", "\u202ex"} {
		cfg.Slots = map[string][]string{"blue": {bad}, "green": {"x"}}
		_, err := arr.New(cfg)
		assert.Error(t, err, "%q", bad)
	}
}
