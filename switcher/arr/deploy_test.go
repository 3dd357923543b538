package arr_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/iistest"
)

// release is the application of a deployed slot: it answers with the release that its folder held when it started, and with the sum of what it
// was sent.
func (b *box) release(slot, folder string) (http.Handler, error) {
	id, err := os.ReadFile(filepath.Join(folder, "release.txt"))
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/upload" {
			b.uploading.Add(1)
			defer b.uploading.Add(-1)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			return
		}
		w.Header().Set("X-Release", string(id))
		w.Header().Set("X-Switchertest-Slot", slot)
		fmt.Fprint(w, hex.EncodeToString(sum.Sum(nil)))
	}), nil
}

// member is one of a slot: a site in a pool of its own, which is really installed, started and stopped.
type member struct {
	b      *box
	site   string
	port   int
	folder string
}

func (m *member) Name() string { return m.site }

func (m *member) appcmd(ctx context.Context, args ...string) error {
	if out, exit := m.b.srv.Appcmd(ctx, args, nil); exit != 0 {
		return fmt.Errorf("appcmd %q: exit %d: %s", args, exit, out)
	}
	return nil
}

func (m *member) runs() bool {
	for _, s := range m.b.srv.State().Sites {
		if s.Name == m.site {
			return s.State == "Started"
		}
	}
	return false
}

func (m *member) Install(_ context.Context, r abswap.Release) error {
	at := filepath.Join(m.folder, m.site)
	if err := os.WriteFile(at, []byte(r.ID), 0o600); err != nil {
		return err
	}
	return os.Rename(at, filepath.Join(m.folder, "release.txt"))
}

func (m *member) Start(ctx context.Context) error {
	if err := m.appcmd(ctx, "start", "apppool", m.site); err != nil {
		return err
	}
	return m.appcmd(ctx, "start", "site", m.site)
}

func (m *member) Stop(ctx context.Context) error {
	if !m.runs() {
		return nil
	}
	if err := m.appcmd(ctx, "stop", "site", m.site); err != nil {
		return err
	}
	return m.appcmd(ctx, "stop", "apppool", m.site)
}

func (m *member) Ready(ctx context.Context) error {
	c := m.b.srv.Client()
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", m.port), nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	want, err := os.ReadFile(filepath.Join(m.folder, "release.txt"))
	if err == nil && (resp.StatusCode != http.StatusOK || resp.Header.Get("X-Release") != string(want)) {
		err = fmt.Errorf("%s of release %q, not %q: %w", resp.Status, resp.Header.Get("X-Release"), want, abswap.ErrNotReady)
	}
	return err
}

// slots are those that can be deployed into.
func (b *box) slots() []abswap.Slot {
	var all []abswap.Slot
	for _, name := range slotNames() {
		set := &arr.Set{ID: name}
		for i := range b.cfg.Slots[name] {
			set.Members = append(set.Members, &member{b, fmt.Sprintf("MySite-%s-%d", name, i), port(name, i), b.path(`C:\inetpub\MySite.` + name + `-1`)})
		}
		all = append(all, arr.StoppingSet{Set: set})
	}
	return all
}

// affinities are the positions in which a farm can be.
func affinities() map[string]setting {
	return map[string]setting{
		"off":               {},
		"on, graceful stop": {affinity: true, process: true},
		"on, drain":         {affinity: true, with: func(c *arr.Config) { c.KeepSessions = true }},
	}
}

// idle is how long no request of a session means that it has ended.
const idle = 2 * time.Second

// TestDeploysUnderLoad deploys again and again, with all that belongs to it: the release is installed, started, probed, gets all new work, and the
// old slot is drained and really stopped. Meanwhile clients send requests on fresh and on kept connections, uploads run all the time, and
// two uploads go from before each deploy into its drain. With affinity clients come with their cookies: they move at the switch, or, where
// sessions are kept, one session lives on in the old slot for a while.
func TestDeploysUnderLoad(t *testing.T) {
	for name, s := range affinities() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 2
			if *full {
				n = 50
			}
			s.mode, s.members, s.deploys, s.health, s.scale = iistest.CoreInProcess, 2, true, goodHealth, 0.01
			deploys(t, opened(t, s), n)
		})
	}
}

func deploys(t *testing.T, b *box, n int) {
	keeps := b.cfg.KeepSessions
	slots := b.slots()
	require.NoError(t, b.sw.Activate(t.Context(), slots[0]))
	s := &abswap.Swapper{Switcher: b.sw, Slots: slots, Soak: -1, FrontDoor: b.ask, Occupied: abswap.OccupiedWait,
		Drain: abswap.DrainOptions{Quiet: 100 * time.Millisecond, Poll: 20 * time.Millisecond, Timeout: 5 * time.Minute}}
	if keeps {
		s.Drainer, s.Drain.Sessions = arr.NewSessions(b.sw, idle), true
	}
	require.NoError(t, onlyWarnings(s.Check(t.Context())), "old slots may be stopped here")
	l := startLoad(t, b)
	defer l.end()
	var longest time.Duration
	serves := "v1"
	l.answers(serves)
	for i := range n {
		id := fmt.Sprintf("v%d", i+2)
		works := l.overDeploy(b, serves)
		var stops time.Time
		s.OnEvent = func(e abswap.Event) { // on the goroutine of Deploy
			switch {
			case e.Kind == abswap.EventLoad && e.Phase == abswap.PhaseDraining: // the drain has read it once
				works.endLater(200 * time.Millisecond)
			case e.Kind != abswap.EventPhase:
			case e.Phase == abswap.PhaseShifting:
				l.serves.Store(nil)
			case e.Phase == abswap.PhaseConfirming: // Activate has returned
				l.answers(id)
			case e.Phase == abswap.PhaseStopping:
				stops = time.Now()
			}
		}
		report, err := s.Deploy(t.Context(), abswap.Release{ID: id})
		works.endLater(0)
		works.wait()
		require.NoError(t, err, "deploy of %s: %s", id, l)
		require.Equal(t, abswap.OutcomeSucceeded, report.Outcome)
		require.Len(t, report.Drains, 1)
		require.GreaterOrEqual(t, report.Drains[0].First.Total(), len(works.uploads), "uploads live over the switch")
		require.False(t, stops.Before(works.lastByte()), "it was drained before its uploads had ended")
		if keeps {
			require.GreaterOrEqual(t, stops.Sub(works.session.last), idle, "it was drained before its session had ended")
		}
		longest = max(longest, report.Drains[0].Waited)
		serves = id
	}
	l.end()
	t.Logf("%d deploys, the longest drain %s: %s", n, longest.Round(time.Millisecond), l)
	assert.Zero(t, l.lost.Load()+l.late.Load()+l.cut.Load()+l.moved.Load(), "%s", l)
	assert.GreaterOrEqual(t, l.uploads.Load(), int64(2*n))
	if keeps {
		assert.EqualValues(t, n, l.sessions.Load())
	}
}

// onlyWarnings drops the warnings of a check.
func onlyWarnings(err error) error {
	if bad, _ := found(err); bad != "" {
		return fmt.Errorf("%s", bad)
	}
	return nil
}

// works is what goes from before a deploy into its drain.
type works struct {
	l       *load
	stop    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
	uploads []*upload
	session *session // nil: none
}

// upload sends its body until it is told to stop.
type upload struct{ ended time.Time }

// session is a client with an affinity cookie.
type session struct{ last time.Time } // its last request was sent

// overDeploy begins two uploads and, where sessions are kept, a session, all in the slot with that release.
func (l *load) overDeploy(b *box, serves string) *works {
	w := &works{l: l, stop: make(chan struct{})}
	for range 2 {
		u := &upload{}
		w.uploads = append(w.uploads, u)
		w.wg.Go(func() {
			l.upload(&http.Transport{DisableKeepAlives: true}, "/upload", serves, func() bool {
				select {
				case <-w.stop:
					u.ended = time.Now()
					return false
				case <-time.After(10 * time.Millisecond):
					return true
				}
			})
		})
	}
	require.Eventually(l.t, func() bool { return b.uploading.Load() == int64(len(w.uploads)) }, patience, time.Millisecond, "uploads begin: %s", l)
	if b.cfg.KeepSessions {
		w.session = &session{}
		began := make(chan struct{})
		w.wg.Go(func() { l.session(w.session, serves, began, w.stop) })
		<-began
	}
	return w
}

// endLater lets them end.
func (w *works) endLater(d time.Duration) {
	end := func() { w.once.Do(func() { close(w.stop) }) }
	if d == 0 {
		end()
		return
	}
	time.AfterFunc(d, end)
}

func (w *works) wait() { w.wg.Wait() }

// lastByte is when the last upload had sent all.
func (w *works) lastByte() time.Time {
	var last time.Time
	for _, u := range w.uploads {
		if u.ended.After(last) {
			last = u.ended
		}
	}
	return last
}

// sumOf is what release answers to a body.
func sumOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// shortBody is what short requests send: a client tries a POST only once.
const shortBody = "hello"

func (l *load) short(c *cookies, tr *http.Transport) {
	want := l.serves.Load()
	l.sent.Add(1)
	got, err := l.post(tr, "/", c, strings.NewReader(shortBody), func() string { return sumOf(shortBody) })
	switch {
	case err != nil:
		l.fail(&l.lost, err)
	case want != nil && want == l.serves.Load() && got != *want: // no switch began meanwhile
		l.fail(&l.late, fmt.Errorf("answered by %q while %q serves", got, *want))
	}
}

// upload sends parts as long as more says so. Its answer is of the release; "": of any.
func (l *load) upload(tr *http.Transport, path, release string, more func() bool) {
	defer tr.CloseIdleConnections()
	r, w := io.Pipe()
	part := []byte(strings.Repeat("x", 1000))
	sum := sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer w.Close()
		for ok := true; ok; ok = more() {
			if _, err := w.Write(part); err != nil {
				return
			}
			sum.Write(part)
		}
	})
	l.uploads.Add(1)
	sent := func() string {
		r.Close() // who has answered has read all
		wg.Wait()
		return hex.EncodeToString(sum.Sum(nil))
	}
	got, err := l.post(tr, path, nil, r, sent)
	sent()
	if err == nil && release != "" && got != release {
		err = fmt.Errorf("an upload that began in release %q is answered by %q", release, got)
	}
	if err != nil {
		l.fail(&l.cut, err)
	}
}

// session is a client that comes again and again, with its cookie, until stop: always to the release where it began.
func (l *load) session(s *session, release string, began chan<- struct{}, stop <-chan struct{}) {
	tr, jar := &http.Transport{}, &cookies{}
	defer tr.CloseIdleConnections()
	l.sessions.Add(1)
	for i := 0; ; i++ {
		s.last = time.Now()
		got, err := l.post(tr, "/", jar, strings.NewReader(shortBody), func() string { return sumOf(shortBody) })
		switch {
		case err != nil:
			l.fail(&l.lost, err)
		case got != release:
			l.fail(&l.moved, fmt.Errorf("a session of release %q is answered by %q", release, got))
		}
		if i == 0 {
			close(began)
		}
		select {
		case <-stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
