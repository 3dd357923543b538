package classes_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap/switcher/proxy/internal/classes"
)

// world is what is in flight, and what was ordered.
type world struct {
	d     *classes.Drain
	start time.Time
	work  []classes.View
	asked map[uint64]time.Duration // since start
	cut   map[uint64]time.Duration
	obey  bool // what is asked to end does so at once
}

func begin(rules classes.Rules, work ...classes.View) *world {
	w := &world{start: time.Now(), work: work, asked: map[uint64]time.Duration{}, cut: map[uint64]time.Duration{}, obey: true}
	w.d = classes.New(w.start, rules)
	return w
}

func view(id uint64, c classes.Class) classes.View {
	return classes.View{ID: id, Class: c, Began: time.Now().Add(-time.Hour), Last: time.Now(), Peer: "192.0.2.1:1"}
}

func (w *world) end(id uint64) {
	w.work = slices.DeleteFunc(w.work, func(v classes.View) bool { return v.ID == id })
}

func (w *world) change(id uint64, f func(*classes.View)) {
	for i := range w.work {
		if w.work[i].ID == id {
			f(&w.work[i])
		}
	}
}

// step steps once and carries out what is ordered.
func (w *world) step() (next time.Time) {
	orders, next := w.d.Step(time.Now(), w.work)
	for _, o := range orders {
		if o.Do == classes.Cut {
			w.cut[o.ID] = time.Since(w.start)
			w.end(o.ID)
			continue
		}
		w.asked[o.ID] = time.Since(w.start)
		if w.obey {
			w.end(o.ID)
		}
	}
	return next
}

// run drives the drain until it has nothing more to order, or for a while; it comes when it is told to, and not in between.
func (w *world) run(while time.Duration) {
	until := time.Now().Add(while)
	for {
		next := w.step()
		if next.IsZero() || next.After(until) {
			time.Sleep(time.Until(until))
			w.step()
			return
		}
		time.Sleep(max(time.Until(next), time.Nanosecond))
	}
}

func TestFinishOrdersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(nil, view(1, classes.Request), view(2, classes.Tunnel))
		w.run(100 * time.Hour)
		assert.Empty(t, w.asked)
		assert.False(t, w.d.Drained())
		w.end(1)
		w.end(2)
		w.step()
		assert.True(t, w.d.Drained())
		assert.Equal(t, map[classes.Class]classes.Outcome{classes.Request: {Finished: 1}, classes.Tunnel: {Finished: 1}}, w.d.Result())
	})
}

// TestC1MovingUploadIsNotEnded: an upload that moves outlives every deadline; one that is still does not, and one that slept before the drain has
// its time from there on.
func TestC1MovingUploadIsNotEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		still := view(2, classes.Upload)
		still.Last = time.Now().Add(-time.Hour)
		w := begin(classes.Rules{classes.Upload: {Policy: classes.FinishMoving, Still: time.Minute}}, view(1, classes.Upload), still)
		for range 600 {
			w.change(1, func(v *classes.View) { v.Last, v.In = time.Now(), v.In+1000 })
			w.run(59 * time.Second)
		}
		assert.Equal(t, map[uint64]time.Duration{2: time.Minute}, w.asked)
		assert.Equal(t, classes.Outcome{Closed: 1, Left: 1, Oldest: time.Hour + 600*59*time.Second, Quiet: 59 * time.Second, In: 600_000},
			w.d.Result()[classes.Upload])
	})
}

// TestC2ClosesAreSpread: a hundred websockets are asked one after the other, the oldest first, within the window.
func TestC2ClosesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var work []classes.View
		for i := range 100 {
			v := view(uint64(i+1), classes.Tunnel)
			v.Began = v.Began.Add(-time.Duration(i) * time.Second)
			work = append(work, v)
		}
		w := begin(classes.Rules{classes.Tunnel: {Policy: classes.Close, Window: 10 * time.Second}}, work...)
		w.run(time.Minute)
		require.Len(t, w.asked, 100)
		for i := range 100 {
			assert.InDelta(t, 9900*time.Millisecond-time.Duration(i)*100*time.Millisecond, w.asked[uint64(i+1)], float64(time.Millisecond))
		}
		assert.True(t, w.d.Drained())
		assert.Equal(t, classes.Outcome{Closed: 100}, w.d.Result()[classes.Tunnel])
	})
}

// TestB5UpgradeWhileDraining: what becomes a tunnel, or comes, after the drain has begun is asked too: within the window, or at once after it.
func TestB5UpgradeWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(classes.Rules{classes.Tunnel: {Policy: classes.Close, Window: 10 * time.Second}}, view(1, classes.Request))
		w.run(5 * time.Second)
		assert.Empty(t, w.asked)
		w.change(1, func(v *classes.View) { v.Class = classes.Tunnel })
		w.run(10 * time.Second)
		w.work = append(w.work, view(2, classes.Tunnel))
		w.run(time.Second)
		assert.Equal(t, map[uint64]time.Duration{1: 5 * time.Second, 2: 15 * time.Second}, w.asked)
		assert.Equal(t, map[classes.Class]classes.Outcome{classes.Tunnel: {Closed: 2}}, w.d.Result())
	})
}

// TestCapThenGraceThenCut: what does not obey is cut after its grace, and only where the rule has one.
func TestCapThenGraceThenCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(classes.Rules{
			classes.Stream: {Cap: time.Hour, Grace: 10 * time.Second},
			classes.Tunnel: {Cap: time.Hour},
			classes.Upload: {Policy: classes.FinishMoving, Still: 2 * time.Hour, Cap: 90 * time.Minute},
		}, view(1, classes.Stream), view(2, classes.Tunnel), view(3, classes.Upload))
		w.obey = false
		w.run(24 * time.Hour)
		assert.Equal(t, map[uint64]time.Duration{1: time.Hour, 2: time.Hour, 3: 90 * time.Minute}, w.asked)
		assert.Equal(t, map[uint64]time.Duration{1: time.Hour + 10*time.Second}, w.cut)
		r := w.d.Result()
		assert.Equal(t, classes.Outcome{Cut: 1}, r[classes.Stream])
		assert.Equal(t, 1, r[classes.Tunnel].Asked)
		assert.Equal(t, 1, r[classes.Tunnel].Left)
	})
}

// TestA6CancelTakesBackWhatIsPending: the slot goes live again in the midst of the closing. From then on nobody is asked, and nobody cut.
func TestA6CancelTakesBackWhatIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var work []classes.View
		for i := range 10 {
			work = append(work, view(uint64(i+1), classes.Tunnel))
		}
		w := begin(classes.Rules{classes.Tunnel: {Policy: classes.Close, Window: 10 * time.Second, Grace: 3 * time.Second}}, work...)
		w.obey = false
		w.run(2500 * time.Millisecond)
		require.Len(t, w.asked, 3)
		w.d.Cancel()
		w.run(time.Hour)
		assert.Len(t, w.asked, 3)
		assert.Empty(t, w.cut)
		w.end(1)
		w.end(10)
		w.step()
		o := w.d.Result()[classes.Tunnel]
		assert.Equal(t, []int{1, 1, 8, 2}, []int{o.Finished, o.Closed, o.Left, o.Asked}, "what ends is still told")
	})
}

// TestOrdersAreGivenOnce, whatever the clock does and however often it is asked.
func TestOrdersAreGivenOnce(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := classes.New(now, classes.Rules{classes.Request: {Policy: classes.Close, Window: -1, Grace: time.Second}})
	work := []classes.View{{ID: 7, Class: 99, Began: now}}
	orders, next := d.Step(now, work)
	assert.Equal(t, []classes.Order{{ID: 7, Class: classes.Request, Do: classes.AskToEnd}}, orders, "an unknown class is a request")
	assert.Equal(t, now.Add(time.Second), next)
	orders, next = d.Step(now.Add(-time.Hour), work)
	assert.Empty(t, orders)
	assert.Equal(t, now.Add(time.Second), next)
	orders, next = d.Step(now.Add(time.Second), work)
	assert.Equal(t, []classes.Order{{ID: 7, Class: classes.Request, Do: classes.Cut}}, orders)
	assert.Zero(t, next)
	orders, _ = d.Step(now.Add(time.Hour), work)
	assert.Empty(t, orders)
}

func TestRulesAndNames(t *testing.T) {
	assert.NoError(t, classes.Rules{classes.Tunnel: {Policy: classes.Close, Window: -1}}.Check())
	err := classes.Rules{classes.Tunnel: {Policy: 9}, classes.Upload: {Still: -1}, 42: {}}.Check()
	for _, want := range []string{"tunnel", "upload", "class 42"} {
		assert.ErrorContains(t, err, want)
	}
	text, err := json.Marshal(map[classes.Class]classes.Outcome{classes.Stream: {Left: 1}})
	require.NoError(t, err)
	var back map[classes.Class]classes.Outcome
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, map[classes.Class]classes.Outcome{classes.Stream: {Left: 1}}, back)
	assert.Error(t, new(classes.Class).UnmarshalText([]byte("x")))
}
