package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/internal/atomicfile"
	"github.com/abswap/abswap/switcher/proxy"
)

var twoSlots = map[string]string{"blue": "127.0.0.1:5001", "green": "127.0.0.1:5002"}

// kept makes a proxy with a state file, which is closed at the end unless the test has done it.
func kept(t testing.TB, path string) *proxy.Switcher {
	p, err := proxy.New(proxy.Config{Slots: twoSlots, Active: "blue", StateFile: path})
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func weightsOf(t testing.TB, p abswap.WeightedSwitcher) map[string]int {
	w, err := p.Weights(t.Context())
	require.NoError(t, err)
	return w
}

func TestStateFileKeepsWhatIsInForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	p := kept(t, path)
	assert.False(t, p.Traits().Forgets)
	require.NoError(t, p.SetWeights(t.Context(), abswap.Weight{Slot: plain("blue"), Part: 30}, abswap.Weight{Slot: plain("green"), Part: 70}))
	require.NoError(t, p.Close())

	p = kept(t, path)
	assert.Equal(t, map[string]int{"blue": 30, "green": 70}, weightsOf(t, p))
	require.NoError(t, p.Seal(t.Context(), plain("blue")))
	assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, p))
	require.NoError(t, p.Close())

	p = kept(t, path)
	assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, p), "Config.Active does not count any more")
	assert.True(t, p.Sealed("blue"))
	require.NoError(t, p.Seal(t.Context(), plain("green")))
	require.NoError(t, p.Close())

	p = kept(t, path)
	_, err := p.Active(t.Context())
	assert.ErrorIs(t, err, abswap.ErrNoActive)
	load, err := p.InFlight(t.Context(), plain("blue"))
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceExact, load.Evidence)
}

// TestStateFileLeadsToTheRunningApplication restarts the proxy in front of an application whose address only Inspect tells.
func TestStateFileLeadsToTheRunningApplication(t *testing.T) {
	b := newBackend(t, "blue", hello)
	cfg := proxy.Config{Slots: map[string]string{"blue": "", "green": ""}, StateFile: filepath.Join(t.TempDir(), "state.json"), ReleaseHeader: "Served-By"}
	state := abswap.SlotState{Release: "v7", Running: true, Address: address(b.Server), Started: time.Now()}
	p, err := proxy.New(cfg)
	require.NoError(t, err)
	require.NoError(t, p.Activate(t.Context(), newSlot("blue", state)))
	require.NoError(t, p.Close())

	f := serve(t, cfg)
	resp, err := newClient(t).Get(f.url)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "blue/v7", resp.Header.Get("Served-By"))
	require.NoError(t, f.Activate(t.Context(), newSlot("blue", state)))
	assert.Equal(t, 1, f.Generations("blue"), "it is the known one")
}

func TestStateFileIsOneProxys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	p := kept(t, path)
	_, err := proxy.New(proxy.Config{Slots: twoSlots, StateFile: path})
	require.ErrorContains(t, err, "another proxy uses")
	require.NoError(t, p.Activate(t.Context(), plain("green")))
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	assert.Equal(t, map[string]int{"green": 100}, weightsOf(t, kept(t, path)))
}

// TestStateFileThatCannotBeUsed is refused, and left as it is.
func TestStateFileThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "good.json")
	p := kept(t, path)
	require.NoError(t, p.Activate(t.Context(), plain("green")))
	require.NoError(t, p.Close())
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	text := string(good)
	for name, tc := range map[string]struct{ text, want string }{
		"empty":              {"", "damaged"},
		"no object":          {"[]", "damaged"},
		"no version":         {"{}", "no version"},
		"torn":               {text[:len(text)/2], "damaged"},
		"something behind":   {text + "{}", "damaged"},
		"a changed address":  {strings.Replace(text, "5001", "5003", 1), "checksum"},
		"a changed part":     {strings.Replace(text, `"part": 100`, `"part": 99`, 1), "checksum"},
		"a part of another":  {strings.Replace(strings.Replace(text, `"part": 0`, `"part": 200`, 1), `"part": 100`, `"part": 0`, 1), "checksum"},
		"an unknown field":   {strings.Replace(text, `"revision"`, `"extra": 1, "revision"`, 1), "extra"},
		"of a newer program": {strings.Replace(text, `"version": 1`, `"version": 2`, 1), "newer program"},
		"zeros":              {strings.Repeat("\x00", len(text)), "damaged"},
		"huge":               {text + strings.Repeat(" ", 2<<20), "larger"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			require.NoError(t, os.WriteFile(path, []byte(tc.text), 0o600))
			_, err := proxy.New(proxy.Config{Slots: twoSlots, Active: "blue", StateFile: path})
			require.ErrorContains(t, err, tc.want)
			assert.ErrorContains(t, err, "left as it is")
			assert.ErrorContains(t, err, "Config.Active")
			now, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, tc.text, string(now))
			require.NoError(t, os.Remove(path))
			kept(t, path) // the lock was given free
		})
	}
	_, err = proxy.New(proxy.Config{Slots: map[string]string{"blue": "127.0.0.1:5001"}, Active: "blue", StateFile: path})
	require.ErrorContains(t, err, `slot "green" (part 100, address "127.0.0.1:5002"), which is not in Config.Slots`)
	_, err = proxy.New(proxy.Config{Slots: twoSlots, StateFile: filepath.Join(dir, "absent", "state.json")})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// failingDisk fails at chosen moments.
type failingDisk struct {
	before, after error // of a write: before anything happened; after the file was replaced
}

func (d *failingDisk) write(path string, data []byte, perm fs.FileMode) error {
	if d.before != nil {
		return d.before
	}
	if err := atomicfile.Write(path, data, perm); err != nil {
		return err
	}
	err := d.after
	d.after = nil
	return err
}

func TestDiskErrorChangesNothing(t *testing.T) {
	full := errors.New("disk full")
	for name, fail := range map[string]failingDisk{"before": {before: full}, "after": {after: full}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			d := &failingDisk{}
			p, err := proxy.NewOn(proxy.Config{Slots: twoSlots, Active: "blue", StateFile: path}, d.write, nil)
			require.NoError(t, err)
			for what, call := range map[string]func() error{
				"activate": func() error { return p.Activate(t.Context(), plain("green")) },
				"seal":     func() error { return p.Seal(t.Context(), plain("blue")) },
			} {
				*d = fail
				err = call()
				require.ErrorIs(t, err, full, what)
				assert.ErrorContains(t, err, "nothing changed")
				assert.Equal(t, map[string]int{"blue": 100}, weightsOf(t, p), what)
				*d = failingDisk{}
				assert.Equal(t, map[string]int{"blue": 100}, p.OnDisk(t), what)
			}
			require.NoError(t, p.Activate(t.Context(), plain("green")))
			assert.Equal(t, map[string]int{"green": 100}, p.OnDisk(t))
			require.NoError(t, p.Close())
		})
	}
	_, err := proxy.NewOn(proxy.Config{Slots: twoSlots, StateFile: filepath.Join(t.TempDir(), "s")}, (&failingDisk{before: full}).write, nil)
	require.ErrorIs(t, err, full, "it shows at New")
}

// TestStateFileOnAShare: where a lock proves nothing, counts prove nothing until the application was started anew.
func TestStateFileOnAShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	remote := func(string) (string, error) { return "NFS", nil }
	cfg := proxy.Config{Slots: twoSlots, Active: "blue", StateFile: path}
	evidence := func(p *proxy.Switcher) abswap.Evidence {
		load, err := p.InFlight(t.Context(), plain("blue"))
		require.NoError(t, err)
		return load.Evidence
	}
	p, err := proxy.NewOn(cfg, atomicfile.Write, remote)
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceExact, evidence(p), "there was no earlier one")
	running, err := os.ReadFile(path) // what a proxy that dies now leaves behind
	require.NoError(t, err)
	require.NoError(t, p.Close())

	p, err = proxy.NewOn(cfg, atomicfile.Write, remote)
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceExact, evidence(p), "the earlier one was closed")
	require.NoError(t, p.Close())

	require.NoError(t, os.WriteFile(path, running, 0o600))
	p, err = proxy.NewOn(cfg, atomicfile.Write, remote)
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceUnknown, evidence(p))
	require.NoError(t, p.Close())

	p, err = proxy.NewOn(cfg, atomicfile.Write, remote)
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceUnknown, evidence(p), "the one before was closed, but not the one before that")
	require.NoError(t, p.Activate(t.Context(), newSlot("blue", abswap.SlotState{Started: time.Now().Add(time.Minute)})))
	assert.Equal(t, abswap.EvidenceExact, evidence(p))
	require.NoError(t, p.Close())

	p, err = proxy.NewOn(cfg, atomicfile.Write, remote)
	require.NoError(t, err)
	assert.Equal(t, abswap.EvidenceExact, evidence(p), "nothing is left of any")
	require.NoError(t, p.Close())
}

// TestKilledWriter kills a proxy that is switching again and again, many times, and looks what the next one finds: what the last call that
// returned had made, or what the one that was under way would have.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("PROXY_TEST_STATE_FILE"); path != "" {
		p, err := proxy.New(proxy.Config{Slots: twoSlots, Active: "blue", StateFile: path})
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("up")
		for i := range 1_000_000 {
			name := []string{"green", "blue"}[i%2]
			if err := p.Activate(t.Context(), plain(name)); err != nil {
				fmt.Println("error", err)
				return
			}
			fmt.Println(name)
		}
	}
	path := filepath.Join(t.TempDir(), "state.json")
	rounds := 15
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$", "-test.v=false")
		cmd.Env = append(os.Environ(), "PROXY_TEST_STATE_FILE="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		require.True(t, lines.Scan())
		require.Equal(t, "up", lines.Text())
		last, killed := "", sync.OnceFunc(func() { cmd.Process.Kill() })
		for n := 0; lines.Scan(); n++ {
			last = lines.Text()
			require.NotContains(t, last, "error")
			if n == round {
				killed() // it goes on for a moment
			}
		}
		killed()
		cmd.Wait()
		p := kept(t, path)
		now, err := p.Active(t.Context())
		require.NoError(t, err)
		other := map[string]string{"blue": "green", "green": "blue"}
		assert.Contains(t, []string{last, other[last]}, now)
		require.NoError(t, p.Close())
		left, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		assert.Len(t, left, 2, "the file and its lock, no more")
	}
}

// TestCutWrites leaves the disk as a writer does that dies at each step.
func TestCutWrites(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	p := kept(t, path)
	require.NoError(t, p.Activate(t.Context(), plain("green")))
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, p.Activate(t.Context(), plain("blue")))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	for n := 0; n <= len(after); n += 7 { // the temporary file has n bytes
		require.NoError(t, os.WriteFile(path, before, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, ".state.json.123.tmp"), after[:n], 0o600))
		p := kept(t, path)
		require.Equal(t, map[string]int{"green": 100}, weightsOf(t, p))
		require.NoError(t, p.Close())
	}
	require.NoError(t, os.WriteFile(path, after, 0o600)) // it was moved into place
	assert.Equal(t, map[string]int{"blue": 100}, weightsOf(t, kept(t, path)))
}

// TestLeftoversAreSweptAndNoMore: a proxy that starts removes what killed writers of its own files have left, and nothing of another proxy, whose
// files are called much the same and are being written.
func TestLeftoversAreSweptAndNoMore(t *testing.T) {
	dir := t.TempDir()
	own := []string{".site.1234.tmp", ".site.sessions.5.tmp", ".site.keys.67.tmp"}
	others := []string{".site.au.1234.tmp", ".site.au.sessions.5.tmp", ".site.2.1234.tmp", ".other.1234.tmp", ".site.tmp"}
	for _, name := range append(own, others...) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	p := kept(t, filepath.Join(dir, "site"))
	defer p.Close()
	for _, name := range own {
		assert.NoFileExists(t, filepath.Join(dir, name))
	}
	for _, name := range others {
		assert.FileExists(t, filepath.Join(dir, name))
	}
}

func FuzzStateFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "state.json")
	p := kept(f, path)
	require.NoError(f, p.SetWeights(f.Context(), abswap.Weight{Slot: plain("blue"), Part: 30}, abswap.Weight{Slot: plain("green"), Part: 70}))
	text, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if again, err := proxy.DecodeState(text); err == nil {
			assert.Equal(t, string(text), string(again), "only what was written is read")
		}
	})
}
