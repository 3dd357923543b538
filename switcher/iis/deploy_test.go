package iis_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/iis"
	"github.com/abswap/abswap/switcher/iistest"
)

// deploying is a box into which releases are deployed: each answers with its ID.
func (s setting) deploying(t *testing.T) (*box, *abswap.Swapper) {
	t.Helper()
	b, err := s.open()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.close()) })
	return b, b.swapper()
}

// swapper is how the tests deploy into b.
func (b *box) swapper() *abswap.Swapper {
	return &abswap.Swapper{
		Switcher: b.sw, Drainer: b.drainer, Slots: []abswap.Slot{b.blue, b.green}, Soak: -1,
		Drain:    abswap.DrainOptions{Quiet: 200 * time.Millisecond, Poll: 30 * time.Millisecond, Timeout: 30 * time.Second},
		Timeouts: abswap.Timeouts{Shift: time.Minute},
	}
}

// release is an application that answers with the release of its folder, and with the sum of what it was sent.
func release(folder string) http.Handler {
	_, id, _ := strings.Cut(filepath.Base(folder), ".")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			return
		}
		w.Header().Set("X-Release", id)
		fmt.Fprint(w, hex.EncodeToString(sum.Sum(nil)))
	})
}

// install makes the folder of a release, as a folder.Installer would. where tells where it is on this machine.
func (s setting) install(where func(string) string) func(context.Context, abswap.Release) (string, error) {
	return func(_ context.Context, r abswap.Release) (string, error) {
		dir := `C:\inetpub\MySite.` + r.ID
		at := where(dir)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return "", err
		}
		return dir, os.WriteFile(filepath.Join(at, "web.config"), []byte(webConfig(s.mode, s.noRotation)), 0o644)
	}
}

// load is traffic from many clients, and what became of it.
type load struct {
	front  string
	serves atomic.Pointer[string] // the release that all new work must be answered by; nil: not for certain

	sent, lost, late, uploads, cut atomic.Int64
	mu                             sync.Mutex
	first                          error

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// startLoad begins requests on fresh and on kept connections, and uploads that last that long.
func startLoad(t *testing.T, b *box, clients int, upload time.Duration) *load {
	t.Helper()
	front, err := b.srv.URL(public)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{front: front, stop: cancel}
	for i := range clients {
		tr := &http.Transport{DisableKeepAlives: i%2 == 0}
		l.wg.Go(func() {
			defer tr.CloseIdleConnections()
			for ctx.Err() == nil {
				l.short(tr)
				pause(ctx, 10*time.Millisecond)
			}
		})
		l.wg.Go(func() {
			tr := &http.Transport{DisableKeepAlives: true}
			for i%2 == 0 && ctx.Err() == nil {
				l.upload(tr, upload)
			}
		})
	}
	return l
}

// pause waits between requests: clients think.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *load) short(tr *http.Transport) {
	want := l.serves.Load()
	l.sent.Add(1)
	got, err := l.post(tr, strings.NewReader("hello"), sha256.Sum256([]byte("hello")))
	switch {
	case err != nil:
		l.fail(&l.lost, err)
	case want != nil && got != *want:
		l.fail(&l.late, fmt.Errorf("answered by %q while %q serves", got, *want))
	}
}

// upload sends a body over that time.
func (l *load) upload(tr *http.Transport, over time.Duration) {
	const parts = 30
	r, w := io.Pipe()
	var wg sync.WaitGroup
	part := strings.Repeat("x", 4096)
	wg.Go(func() {
		for range parts {
			if _, err := io.WriteString(w, part); err != nil {
				return
			}
			time.Sleep(over / parts) // the client's line is slow
		}
		w.Close()
	})
	l.uploads.Add(1)
	if _, err := l.post(tr, r, sha256.Sum256([]byte(strings.Repeat(part, parts)))); err != nil {
		l.fail(&l.cut, err)
	}
	r.Close()
	wg.Wait()
}

func (l *load) post(tr *http.Transport, body io.Reader, sum [32]byte) (string, error) {
	r, err := http.NewRequest(http.MethodPost, l.front+"/", body)
	if err != nil {
		return "", err
	}
	r.Host = host
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(text) != hex.EncodeToString(sum[:])) {
		err = fmt.Errorf("answered %s: %.100q", resp.Status, text)
	}
	return resp.Header.Get("X-Release"), err
}

func (l *load) fail(count *atomic.Int64, err error) {
	count.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

// end waits for what is on its way.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

func (l *load) String() string {
	return fmt.Sprintf("%d requests, %d uploads: %d lost, %d late, %d cut (first: %v)", l.sent.Load(), l.uploads.Load(), l.lost.Load(), l.late.Load(),
		l.cut.Load(), l.first)
}

// deploys runs n deploys under load and returns what the clients saw.
func deploys(t *testing.T, s setting, n int) (*load, []iis.Switched) {
	b, swapper := s.deploying(t)
	upload := 450 * time.Millisecond
	if *full {
		upload = 2400 * time.Millisecond // three times what a worker process has to shut down, which is 800 s, scaled
	}
	l := startLoad(t, b, 6, upload)
	defer l.end()
	for i := range n {
		id := fmt.Sprintf("v%d", i+2)
		swapper.OnEvent = func(e abswap.Event) {
			if e.Phase == abswap.PhaseShifting {
				l.serves.Store(nil)
			}
			if e.Phase == abswap.PhaseDraining {
				l.serves.Store(&id)
			}
		}
		l.serves.Store(nil)
		report, err := swapper.Deploy(t.Context(), abswap.Release{ID: id})
		require.NoError(t, err, "deploy of %s: %s", id, l)
		require.Equal(t, abswap.OutcomeSucceeded, report.Outcome)
		l.serves.Store(&id)
	}
	l.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Len(t, b.switched, n)
	return l, b.switched
}

// many is how many deploys a test makes.
func many() int {
	if *full {
		return 50
	}
	if briefly() {
		return 2
	}
	return 3
}

func TestDeploysUnderLoad(t *testing.T) {
	for _, s := range []setting{
		{strategy: iis.StrategyRootSwap, mode: iis.Classic},
		{strategy: iis.StrategyRootSwap, mode: iis.CoreInProcess, noRotation: true},
		{strategy: iis.StrategyBindingSwap, mode: iis.CoreOutOfProcess, noRotation: true},
		{strategy: iis.StrategySiteToggle, mode: iis.Classic},
	} {
		s.deploys = true
		named(t, s.with(iis.FactsWith("")), func(t *testing.T, s setting) {
			l, switched := deploys(t, s, many())
			t.Log(l)
			assert.Zero(t, l.late.Load(), "%s", l)
			if s.strategy != iis.StrategySiteToggle {
				assert.Zero(t, l.lost.Load()+l.cut.Load(), "%s", l)
				return
			}
			var gaps []time.Duration
			for _, x := range switched {
				gaps = append(gaps, x.Gap)
			}
			slices.Sort(gaps)
			t.Logf("gap: median %s, maximum %s", gaps[len(gaps)/2], gaps[len(gaps)-1])
			assert.Positive(t, gaps[len(gaps)-1], "a toggle has a gap, and its probes see it")
			assert.Less(t, gaps[len(gaps)-1], 20*time.Second)
		})
	}
}

// TestOtherProgramWrites deploys while another program writes the configuration all the time.
func TestOtherProgramWrites(t *testing.T) {
	for _, strategy := range allStrategies() {
		if !*full && strategy != iis.StrategyBindingSwap {
			continue
		}
		s := setting{strategy: strategy, mode: iis.Classic, deploys: true}
		named(t, s.with(iis.FactsWith("")), func(t *testing.T, s setting) {
			b, swapper := s.deploying(t)
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			writes := 0
			wg.Go(func() {
				for ctx.Err() == nil && writes < 60 { // so that the file does not grow without end
					next := writes + 1
					err := b.srv.EditConfig(func(data []byte) ([]byte, error) {
						line := fmt.Sprintf("<add name=\"Other-%d\" />\n      </applicationPools>", next)
						return []byte(strings.Replace(string(data), "</applicationPools>", line, 1)), nil
					})
					if err == nil {
						writes = next
					}
					pause(ctx, 150*time.Millisecond)
				}
			})
			for i := range 3 {
				b.srv.Inject(iistest.Fault{Kind: iistest.SharingViolation, Times: 2})
				_, err := swapper.Deploy(t.Context(), abswap.Release{ID: fmt.Sprintf("v%d", i+2)})
				assert.NoError(t, err)
			}
			cancel()
			wg.Wait()
			data, err := os.ReadFile(b.srv.ConfigPath())
			require.NoError(t, err)
			for i := range writes {
				assert.Contains(t, string(data), fmt.Sprintf("<add name=\"Other-%d\" />", i+1))
			}
			assert.Greater(t, writes, 3)
			name, err := b.sw.Active(t.Context())
			require.NoError(t, err)
			assert.Equal(t, "green", name) // blue was live at first, and three deploys went by turns
		})
	}
}
