package abswap_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

// flight is what is in flight, and what was ordered.
type flight struct {
	l     *abswap.Ledger
	start time.Time
	work  map[uint64]*live
	asked map[uint64]time.Duration // since start
	cut   map[uint64]time.Duration
	obey  bool // what is asked to end does so at once
}

type live struct {
	class       abswap.Class
	began, last time.Time
	in          int64
	opaque      bool
}

func fly(rules map[abswap.Class]abswap.ClassRule, classes ...abswap.Class) *flight {
	f := &flight{start: time.Now(), work: map[uint64]*live{}, asked: map[uint64]time.Duration{}, cut: map[uint64]time.Duration{}, obey: true}
	for i, c := range classes {
		f.work[uint64(i+1)] = &live{class: c, began: time.Now().Add(-time.Hour), last: time.Now()}
	}
	f.l = abswap.NewLedger(f.start, time.Time{}, rules)
	return f
}

func (f *flight) list() (all []abswap.Work) {
	for id, w := range f.work {
		all = append(all, abswap.Work{ID: id, Class: w.class, Age: time.Since(w.began), Quiet: time.Since(w.last), In: w.in, Opaque: w.opaque})
	}
	return all
}

// step steps once and carries out what is ordered.
func (f *flight) step() (next time.Time) {
	orders, next := f.l.Step(time.Now(), f.list())
	for _, o := range orders {
		if o.How == abswap.ForceCut {
			f.cut[o.ID] = time.Since(f.start)
			delete(f.work, o.ID)
			continue
		}
		f.asked[o.ID] = time.Since(f.start)
		if f.obey {
			delete(f.work, o.ID)
		}
	}
	return next
}

// run drives the books until they have nothing more to order, or for a while; it comes when it is told to, and not in between.
func (f *flight) run(while time.Duration) {
	until := time.Now().Add(while)
	for {
		next := f.step()
		if next.IsZero() || next.After(until) {
			time.Sleep(time.Until(until))
			f.step()
			return
		}
		time.Sleep(max(time.Until(next), time.Nanosecond))
	}
}

func TestLedgerFinishOrdersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fly(map[abswap.Class]abswap.ClassRule{abswap.ClassTunnel: {}}, abswap.ClassRequest, abswap.ClassTunnel)
		f.run(100 * time.Hour)
		assert.Empty(t, f.asked)
		clear(f.work)
		f.step()
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassRequest: {Finished: 1}, abswap.ClassTunnel: {Finished: 1}}, f.l.Result())
	})
}

// TestC1LedgerMovingUploadIsNotEnded: an upload that moves outlives every deadline; one that is still does not, and one that slept before the
// drain has its time from there on.
func TestC1LedgerMovingUploadIsNotEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fly(map[abswap.Class]abswap.ClassRule{abswap.ClassUpload: {Policy: abswap.FinishMoving, Still: time.Minute}}, abswap.ClassUpload, abswap.ClassUpload)
		f.work[2].last = time.Now().Add(-time.Hour)
		for range 600 {
			f.work[1].last, f.work[1].in = time.Now(), f.work[1].in+1000
			f.run(59 * time.Second)
		}
		assert.Equal(t, map[uint64]time.Duration{2: time.Minute}, f.asked)
		assert.Equal(t, abswap.ClassOutcome{Closed: 1, Left: 1, Oldest: time.Hour + 600*59*time.Second, Quiet: 59 * time.Second, In: 600_000},
			f.l.Result()[abswap.ClassUpload])
	})
}

// TestC1LedgerForgivesWhatMovesAgain: an upload that was asked since it was still, and moves again, is not cut; one that stays still is.
func TestC1LedgerForgivesWhatMovesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fly(map[abswap.Class]abswap.ClassRule{abswap.ClassUpload: {Policy: abswap.FinishMoving, Still: time.Minute, Grace: 10 * time.Second}},
			abswap.ClassUpload, abswap.ClassUpload)
		f.obey = false
		f.run(65 * time.Second)
		require.Len(t, f.asked, 2)
		f.work[1].last = time.Now()
		f.run(30 * time.Second)
		assert.Equal(t, map[uint64]time.Duration{2: 70 * time.Second}, f.cut)
		assert.Equal(t, abswap.ClassOutcome{Cut: 1, Left: 1, Oldest: time.Hour + 95*time.Second, Quiet: 30 * time.Second}, f.l.Result()[abswap.ClassUpload])
		f.run(time.Hour)
		assert.Equal(t, 65*time.Second+time.Minute, f.asked[1], "it is asked again")
	})
}

// TestC2LedgerSpreadsTheCloses: a hundred websockets are asked one after the other, the oldest first, within the window.
func TestC2LedgerSpreadsTheCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fly(map[abswap.Class]abswap.ClassRule{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: 10 * time.Second}},
			slices.Repeat([]abswap.Class{abswap.ClassTunnel}, 100)...)
		for id, w := range f.work {
			w.began = w.began.Add(-time.Duration(id) * time.Second)
		}
		f.run(time.Minute)
		require.Len(t, f.asked, 100)
		for i := range 100 {
			assert.InDelta(t, 9900*time.Millisecond-time.Duration(i)*100*time.Millisecond, f.asked[uint64(i+1)], float64(time.Millisecond))
		}
		assert.Equal(t, abswap.ClassOutcome{Closed: 100}, f.l.Result()[abswap.ClassTunnel])
	})
}

// TestB5LedgerUpgradeWhileDraining: what becomes a tunnel, or comes, after the drain has begun is asked too: within the window, or at once
// after it.
func TestB5LedgerUpgradeWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fly(map[abswap.Class]abswap.ClassRule{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: 10 * time.Second}}, abswap.ClassRequest)
		f.run(5 * time.Second)
		assert.Empty(t, f.asked)
		f.work[1].class = abswap.ClassTunnel
		f.run(10 * time.Second)
		f.work[2] = &live{class: abswap.ClassTunnel, began: time.Now(), last: time.Now()}
		f.run(time.Second)
		assert.Equal(t, map[uint64]time.Duration{1: 5 * time.Second, 2: 15 * time.Second}, f.asked)
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassTunnel: {Closed: 2}}, f.l.Result())
	})
}

// TestLedgerCapThenGraceThenCut: what does not obey is cut after its grace, unless the rule says never; a cap counts from where an earlier
// process began to drain.
func TestLedgerCapThenGraceThenCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := map[abswap.Class]abswap.ClassRule{
			abswap.ClassStream:   {Cap: time.Hour, Grace: 10 * time.Second},
			abswap.ClassTunnel:   {Cap: time.Hour, Grace: -1},
			abswap.ClassUpload:   {Policy: abswap.FinishMoving, Still: 2 * time.Hour, Cap: 90 * time.Minute},
			abswap.ClassDownload: {Cap: 24 * time.Hour},
		}
		f := fly(rules, abswap.ClassStream, abswap.ClassTunnel, abswap.ClassUpload, abswap.ClassDownload)
		f.l = abswap.NewLedger(f.start, f.start.Add(-30*time.Minute), rules)
		f.obey = false
		f.run(20 * time.Hour)
		assert.Equal(t, map[uint64]time.Duration{1: 30 * time.Minute, 2: 30 * time.Minute, 3: time.Hour}, f.asked)
		assert.Equal(t, map[uint64]time.Duration{1: 30*time.Minute + 10*time.Second, 3: time.Hour + 30*time.Second}, f.cut)
		r := f.l.Result()
		assert.Equal(t, abswap.ClassOutcome{Cut: 1}, r[abswap.ClassStream])
		assert.Equal(t, abswap.ClassOutcome{Cut: 1}, r[abswap.ClassUpload])
		assert.Equal(t, []int{1, 1}, []int{r[abswap.ClassTunnel].Asked, r[abswap.ClassTunnel].Left})
	})
}

// TestLedgerOrdersAreGivenOnce, whatever the clock does and however often it is asked; and again where they could not be given.
// TestC3LedgerOpaqueStreams: a stream that cannot be asked to end is left alone until its cap, also where it was asked as long as it was a request
// without an answer.
func TestC3LedgerOpaqueStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		polite := abswap.ClassRule{Policy: abswap.ClosePolitely, Window: -1, Grace: 10 * time.Second}
		capped := polite
		capped.Cap = time.Hour
		for _, r := range []abswap.ClassRule{polite, capped} {
			f := fly(map[abswap.Class]abswap.ClassRule{abswap.ClassStream: r, abswap.ClassRequest: polite}, abswap.ClassStream, abswap.ClassStream, abswap.ClassRequest)
			f.obey = false
			f.work[1].opaque = true
			f.run(5 * time.Second)
			assert.Equal(t, map[uint64]time.Duration{2: 0, 3: 0}, f.asked)
			f.work[3].class, f.work[3].opaque = abswap.ClassStream, true
			f.run(59 * time.Minute)
			assert.Equal(t, map[uint64]time.Duration{2: 10 * time.Second}, f.cut)
			assert.Equal(t, 0, f.l.Result()[abswap.ClassStream].Asked)
			f.run(time.Hour)
			if r.Cap == 0 {
				assert.Len(t, f.work, 2)
				continue
			}
			assert.Equal(t, map[uint64]time.Duration{1: time.Hour, 2: 0, 3: time.Hour}, f.asked)
			assert.Equal(t, map[uint64]time.Duration{1: time.Hour + 10*time.Second, 2: 10 * time.Second, 3: time.Hour + 10*time.Second}, f.cut)
		}
	})
}

// TestLedgerForgivesWhatHasBecomeAnother: a request that was asked to end, and whose answer is long, goes by the rule of what it has become: it
// finishes, or is ended when it is still, or at its cap.
func TestLedgerForgivesWhatHasBecomeAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fly(map[abswap.Class]abswap.ClassRule{
			abswap.ClassRequest:  {Policy: abswap.ClosePolitely, Window: -1, Grace: 10 * time.Second},
			abswap.ClassDownload: {},
			abswap.ClassUpload:   {Policy: abswap.FinishMoving, Still: time.Minute, Grace: 10 * time.Second},
			abswap.ClassStream:   {Cap: time.Hour, Grace: 10 * time.Second},
			abswap.ClassTunnel:   {Policy: abswap.ClosePolitely, Window: -1, Grace: 20 * time.Second},
		}, slices.Repeat([]abswap.Class{abswap.ClassRequest}, 4)...)
		f.obey = false
		f.run(5 * time.Second)
		require.Len(t, f.asked, 4)
		for id, c := range map[uint64]abswap.Class{1: abswap.ClassDownload, 2: abswap.ClassUpload, 3: abswap.ClassStream, 4: abswap.ClassTunnel} {
			f.work[id].class, f.work[id].last = c, time.Now()
		}
		f.run(30 * time.Second)
		assert.Equal(t, map[uint64]time.Duration{4: 20 * time.Second}, f.cut, "as a tunnel it was to be asked, too")
		assert.Equal(t, 0, f.l.Result()[abswap.ClassDownload].Asked)
		f.run(3 * time.Hour)
		assert.Equal(t, map[uint64]time.Duration{2: 75 * time.Second, 3: time.Hour + 10*time.Second, 4: 20 * time.Second}, f.cut)
		clear(f.work)
		f.step()
		assert.Equal(t, abswap.ClassOutcome{Finished: 1}, f.l.Result()[abswap.ClassDownload])
	})
}

func TestLedgerOrdersAreGivenOnce(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	l := abswap.NewLedger(now, time.Time{}, map[abswap.Class]abswap.ClassRule{abswap.ClassRequest: {Policy: abswap.ClosePolitely, Window: -1, Grace: time.Second}})
	work := []abswap.Work{{ID: 7, Class: "of another release"}}
	ask, cut := []abswap.Order{{ID: 7, How: abswap.ForceHandOver}}, []abswap.Order{{ID: 7, How: abswap.ForceCut}}
	orders, _ := l.Step(now, work)
	assert.Equal(t, ask, orders, "an unknown class is a request")
	l.Undo(orders)
	orders, next := l.Step(now, work)
	assert.Equal(t, ask, orders, "it could not be given")
	assert.Equal(t, now.Add(time.Second), next)
	orders, next = l.Step(now.Add(-time.Hour), work)
	assert.Empty(t, orders)
	assert.Equal(t, now.Add(time.Second), next)
	orders, next = l.Step(now.Add(time.Second), work)
	assert.Equal(t, cut, orders)
	assert.Zero(t, next)
	l.Undo(orders)
	orders, _ = l.Step(now.Add(time.Hour), work)
	assert.Equal(t, cut, orders)
	orders, _ = l.Step(now.Add(time.Hour), work)
	assert.Empty(t, orders)
}

func TestClassOutcomesAreKeptAsJSON(t *testing.T) {
	text, err := json.Marshal(abswap.DrainResult{Classes: map[abswap.Class]abswap.ClassOutcome{abswap.ClassStream: {Left: 1}},
		Left: []abswap.Work{{ID: 1<<63 + 1, Class: abswap.ClassStream}}})
	require.NoError(t, err)
	var back abswap.DrainResult
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassStream: {Left: 1}}, back.Classes)
	assert.EqualValues(t, uint64(1<<63+1), back.Left[0].ID)
	var p abswap.ClassPolicy
	require.NoError(t, p.UnmarshalText([]byte("finish-moving")))
	assert.Equal(t, abswap.FinishMoving, p)
	assert.Error(t, p.UnmarshalText([]byte("x")))
}
