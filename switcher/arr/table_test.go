package arr_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	"github.com/abswap/abswap/switcher/arr"
	"github.com/abswap/abswap/switcher/iistest"
)

// cases are each line of the table alone, and each way without any.
func cases() []arr.Case {
	all := []arr.Case{
		{Way: arr.WayStates}, {Way: arr.WayWeights}, {Way: arr.WayHealthFile},
		{Way: arr.WayStates, Recycled: true}, {Way: arr.WayWeights, Recycled: true},
		{Way: arr.WayStates, Recycled: true, Stopped: true}, {Way: arr.WayWeights, Recycled: true, Stopped: true},
		{Way: arr.WayStates, Sessions: true}, {Way: arr.WayWeights, Sessions: true}, {Way: arr.WayWeights, Hash: true}, {Way: arr.WayHealthFile, Meddled: true},
	}
	for _, way := range []arr.Way{arr.WayStates, arr.WayWeights, arr.WayHealthFile} {
		all = append(all, arr.Case{Way: way, TooLong: true})
	}
	restarts, forgets := arr.Facts{CommitRestartsMembers: arr.Yes}, arr.Facts{CommitForgetsStates: arr.Yes}
	all = append(all, arr.Case{Way: arr.WayWeights, Facts: restarts}, arr.Case{Way: arr.WayWeights, Facts: forgets})
	if *full { // where a circumstance does nothing
		all = append(all, arr.Case{Way: arr.WayStates, Facts: restarts}, arr.Case{Way: arr.WayStates, Facts: forgets}, arr.Case{Way: arr.WayStates, Hash: true},
			arr.Case{Way: arr.WayStates, Stopped: true}, arr.Case{Way: arr.WayWeights, Stopped: true})
	}
	return all
}

// TestTable measures in each case which promises are kept: what Losses says, and no more.
func TestTable(t *testing.T) {
	for i, c := range cases() {
		if testing.Short() && i%4 != 0 || briefly() && i != 0 {
			continue
		}
		name := string(c.Way)
		for circumstance, so := range map[string]bool{"Hash": c.Hash, "Sessions": c.Sessions, "Recycled": c.Recycled, "Stopped": c.Stopped, "Meddled": c.Meddled, "TooLong": c.TooLong,
			"CommitRestartsMembers": c.Facts.CommitRestartsMembers == arr.Yes, "CommitForgetsStates": c.Facts.CommitForgetsStates == arr.Yes} {
			if so {
				name += " " + circumstance
			}
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := map[string]bool{}
			for _, l := range c.Losses() {
				want[l.Rule] = true
				assert.NotEmpty(t, l.Why)
				assert.NotEmpty(t, l.Cure)
			}
			m := &measured{Case: c, expect: want, broken: map[string]bool{}}
			m.measure(t)
			assert.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(m.broken)))
		})
	}
}

// measured is a case on its machine.
type measured struct {
	arr.Case
	*box
	commit error // of committed
	file   *arr.HealthFile
	files  map[string]string // health files by slot
	expect map[string]bool
	broken map[string]bool // what was found
}

// open makes the machine. Beside blue and green there is a third slot, which takes no part.
func (m *measured) open(t *testing.T) {
	s := setting{members: 2, affinity: m.Sessions, deploys: true, with: func(c *arr.Config) {
		c.KeepSessions, c.OnCommand = m.Sessions, m.committed
		c.Slots = map[string][]string{"blue": {address("blue", 0)}, "green": {address("green", 0)}, "third": {address("blue", 1), address("green", 1)}}
	}}
	if m.Hash {
		s.algorithm = "RequestHash"
	}
	if m.TooLong {
		s.timeout = "00:16:40" // tooLong, a thousand times
	}
	if m.Facts.CommitRestartsMembers == arr.Yes {
		s.mode = iistest.CoreOutProcess
	}
	s.quirks.FarmCommitForgets = m.Facts.CommitForgetsStates == arr.Yes
	if m.Way == arr.WayHealthFile {
		s.members, s.with = 1, nil
		s.health = `<healthCheck url="http://` + host + `/up.html" interval="00:00:15" timeout="16:40:00" responseMatch="up" />`
	}
	m.box = opened(t, s)
	if m.Way != arr.WayHealthFile {
		return
	}
	m.files = map[string]string{}
	for _, slot := range slotNames() {
		m.files[slot] = filepath.Join(m.path(`C:\inetpub\MySite.`+slot+`-1`), "up.html")
	}
	var err error
	m.file, err = arr.NewHealthFile(arr.HealthFileConfig{Slots: map[string][]string{"blue": {m.files["blue"]}, "green": {m.files["green"]}}, Ask: m.ask,
		Interval: 15 * time.Millisecond, Timeout: 50 * time.Millisecond, Patience: patience})
	require.NoError(t, err)
}

// move moves all new work to a slot.
func (m *measured) move(t *testing.T, to, from abswap.Slot) error {
	switch m.Way {
	case arr.WayHealthFile:
		return m.file.Activate(t.Context(), to)
	case arr.WayStates:
		return m.sw.Activate(t.Context(), to)
	}
	if err := m.sw.SetWeights(t.Context(), abswap.Weight{Slot: to, Part: 70}, abswap.Weight{Slot: from, Part: 30}); err != nil {
		return err
	}
	return m.sw.SetWeights(t.Context(), abswap.Weight{Slot: to, Part: 100}, abswap.Weight{Slot: from, Part: 0})
}

// committed sends requests when a command is in force, and looks whether they come to the slot that takes no part.
func (m *measured) committed(command string, _ time.Duration, err error) {
	if err != nil || !strings.Contains(command, "set config") {
		return
	}
	ctx := context.Background()
	if m.commit = m.srv.Settle(ctx); m.commit != nil {
		return
	}
	before := m.came("third")
	for range 40 {
		_, _ = m.ask(ctx) // whether any are lost, others look
	}
	m.found("S1", m.came("third") > before)
}

// came counts the requests that came to a slot, in ARR's process of now.
func (m *measured) came(slot string) int64 {
	var n int64
	all, _ := m.srv.Members(farm) // the farm is there
	for _, x := range all {
		if slices.Contains(m.cfg.Slots[slot], x.Address) {
			n += x.Total
		}
	}
	return n
}

func (m *measured) found(rule string, broken bool) {
	if broken {
		m.broken[rule] = true
	}
}

// measure moves work from blue to green under load, and looks at S1, S2 and S3.
func (m *measured) measure(t *testing.T) {
	m.open(t)
	initial := m.sw.Activate
	if m.file != nil {
		initial = m.file.Activate
	}
	require.NoError(t, initial(t.Context(), m.blue))
	client := sticky(t, m.box)
	if m.Sessions {
		require.Equal(t, "blue", client())
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	old := m.upload(t, ctx, &wg)
	var lost atomic.Int64
	wg.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			_, err := m.ask(context.WithoutCancel(ctx))
			if err != nil && !(m.TooLong && time.Since(began) > tooLong/2) { // the machine was slow, not the switch
				lost.Add(1)
			}
			pause(ctx, 5*time.Millisecond)
		}
	})
	err := m.move(t, m.green, m.box.blue)
	if errors.Is(err, errors.ErrUnsupported) {
		m.found(arr.Refused, true)
		return
	}
	require.NoError(t, err)
	require.NoError(t, m.commit)
	m.circumstances(t)
	m.found("S1", m.late(t, client))
	m.found("S3", m.cut(t, old))
	stop()
	wg.Wait()
	m.found("S2", lost.Load() > 0)
}

// circumstances brings about those that come after the switch.
func (m *measured) circumstances(t *testing.T) {
	if m.Stopped {
		for _, site := range []string{"MySite-blue-0", "MySite-blue-1", "MySite-green-1"} {
			out, exit := m.srv.Appcmd(t.Context(), []string{"stop", "site", site}, nil)
			require.Zero(t, exit, "%s", out)
		}
	}
	if m.Recycled {
		require.NoError(t, m.recycle())
	}
	if m.Meddled {
		require.NoError(t, os.WriteFile(m.files["blue"], []byte("up"), 0o644))
		require.Eventually(t, func() bool { return m.state(t, "blue").Healthy }, patience, 5*time.Millisecond)
	}
}

// late reports whether requests that begin now come to a slot that is turned off.
func (m *measured) late(t *testing.T, client func() string) bool {
	if m.Sessions && client() == "blue" {
		return true
	}
	before := m.came("blue") + m.came("third")
	if m.Recycled {
		before = 0 // counters are new, and it has been so since the recycle
	}
	late := false
	for range 40 {
		slot, err := m.ask(t.Context())
		late = late || err == nil && slot != "green"
	}
	return late || m.file == nil && m.came("blue")+m.came("third") > before
}

// tooLong is the farm's time-out in the cases that are about it.
const tooLong = time.Second

// old is an upload that has begun in blue.
type old struct {
	l    *load
	stop context.CancelFunc
	done chan struct{}
}

func (m *measured) upload(t *testing.T, ctx context.Context, wg *sync.WaitGroup) *old {
	front, err := m.srv.URL("http/*:80:" + host)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(ctx)
	u := &old{&load{t: t, front: front}, stop, make(chan struct{})}
	wg.Go(func() {
		defer close(u.done)
		u.l.upload(&http.Transport{}, "/upload", "", func() bool {
			pause(ctx, 10*time.Millisecond)
			return ctx.Err() == nil
		})
	})
	require.Eventually(t, func() bool { return m.uploading.Load() == 1 }, patience, time.Millisecond)
	return u
}

// cut reports whether the upload does not come to its end: one that goes on for longer than the farm's time-out here, and than the time which an
// application has to shut down.
func (m *measured) cut(t *testing.T, u *old) bool {
	long := tooLong + 500*time.Millisecond
	if m.expect["S3"] {
		long = patience // it ends much sooner, if it is so
	}
	select {
	case <-u.done:
	case <-time.After(long):
		u.stop()
		<-u.done
	}
	return u.l.cut.Load() > 0
}

func TestTableIsInTheComment(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	lines := 0
	for line := range strings.Lines(arr.TableText()) {
		lines++
		assert.Contains(t, string(doc), fmt.Sprintf("//\t%s", line))
	}
	assert.Equal(t, lines+2, strings.Count(string(doc), " | ")/2+1, "and no other lines")
}
