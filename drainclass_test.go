package abswap_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// classRules is short for tests.
type classRules = map[abswap.Class]abswap.ClassRule

// inBlue opens work in blue, then sends new work to green. What obeys ends as soon as it is asked.
func inBlue(t *testing.T, sw *fake.Switcher, obey bool, kinds ...fake.Kind) (all []*fake.Work) {
	t.Helper()
	require.NoError(t, sw.Activate(t.Context(), blue))
	for _, k := range kinds {
		w, err := sw.Open(t.Context(), fake.Request{Kind: k})
		require.NoError(t, err)
		all = append(all, w)
		if obey {
			go func() {
				select {
				case <-w.Leave():
					w.End()
				case <-t.Context().Done():
				}
			}()
		}
	}
	require.NoError(t, sw.Activate(t.Context(), fake.NewSlot("green")))
	return all
}

// TestB8DrainTellsEachClass: what finished, was closed, was cut and is left, with the age of the oldest; told while it drains.
func TestB8DrainTellsEachClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		polite := inBlue(t, sw, true, fake.Upgraded, fake.Upgraded)
		all := inBlue(t, sw, false, fake.Plain, fake.Upload, fake.Stream, fake.Download)
		time.AfterFunc(5*time.Second, all[0].End)
		var told []abswap.ClassOutcome
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{
			Timeout: 10 * time.Minute,
			Classes: classRules{
				abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: 20 * time.Second},
				abswap.ClassUpload: {Policy: abswap.FinishMoving, Still: time.Minute, Grace: 10 * time.Second},
				abswap.ClassStream: {Cap: 2 * time.Minute, Grace: -1},
			},
			OnClasses: func(m map[abswap.Class]abswap.ClassOutcome) { told = append(told, m[abswap.ClassTunnel]) },
		})
		require.ErrorIs(t, err, abswap.ErrDrainTimeout)
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{
			abswap.ClassRequest:  {Finished: 1},
			abswap.ClassTunnel:   {Closed: 2},
			abswap.ClassUpload:   {Cut: 1},
			abswap.ClassStream:   {Left: 1, Asked: 1, Oldest: 10 * time.Minute, Quiet: 10 * time.Minute},
			abswap.ClassDownload: {Left: 1, Oldest: 10 * time.Minute, Quiet: 10 * time.Minute},
		}, res.Classes)
		assert.Equal(t, 1, res.Cut)
		assert.Equal(t, 3, res.Finished)
		assert.Equal(t, abswap.ClassOutcome{Left: 2, Asked: 1}, told[0], "the first is asked at once")
		assert.Contains(t, told, abswap.ClassOutcome{Closed: 2}, "told while it drains")
		require.Len(t, res.Left, 2)
		assert.ErrorIs(t, all[1].Err(), fake.ErrCut)
		for _, w := range polite {
			assert.NoError(t, w.Err())
		}
	})
}

// TestB8WithoutRules: the books are kept all the same, and whole-slot orders stand in them.
func TestB8WithoutRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		inBlue(t, sw, true, fake.Stream)
		inBlue(t, sw, false, fake.Plain)
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Timeout: time.Minute, AtDeadline: abswap.CutOff, Grace: time.Second})
		require.NoError(t, err)
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassRequest: {Cut: 1}, abswap.ClassStream: {Closed: 1}}, res.Classes)
		assert.Empty(t, sw.Calls("End"))
	})
}

// TestC1MovingUploadOutlivesTheDeadline: at the deadline all is cut that has no rule; the upload moves and is spared; its absolute cap ends it.
func TestC1MovingUploadOutlivesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		all := inBlue(t, sw, false, fake.Upload, fake.Plain)
		var moving sync.WaitGroup
		defer moving.Wait()
		moving.Go(func() {
			for all[0].Err() == nil {
				time.Sleep(time.Second)
				all[0].Transfer(1, 0)
			}
		})
		start := time.Now()
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Timeout: 30 * time.Second, AtDeadline: abswap.CutOff, Grace: time.Second,
			Classes: classRules{abswap.ClassUpload: {Policy: abswap.FinishMoving, Still: 5 * time.Second, Cap: time.Hour, Grace: time.Minute}}})
		require.NoError(t, err)
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassRequest: {Cut: 1}, abswap.ClassUpload: {Cut: 1}}, res.Classes)
		assert.Equal(t, 61*time.Minute, time.Since(start))
	})
}

// TestDrainByClassHonoursLeaveUp: the deadline ends the waiting, and nothing else.
func TestDrainByClassHonoursLeaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		all := inBlue(t, sw, false, fake.Upload, fake.Plain)
		_, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Timeout: time.Minute, Classes: classRules{abswap.ClassUpload: {Cap: time.Hour}}})
		require.ErrorIs(t, err, abswap.ErrDrainTimeout)
		assert.NoError(t, errors.Join(all[0].Err(), all[1].Err()))
		assert.Empty(t, sw.Calls("End", "Force"))
	})
}

// TestDrainByClassGivesOrdersAgain: an order that could not be given is given with the next reading; a slot that went live again ends the drain.
func TestDrainByClassGivesOrdersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		broken := 2
		sw.EndFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do func(context.Context, abswap.Slot, abswap.Force, ...uint64) error) error {
			if broken--; broken >= 0 {
				return errors.New("connection reset")
			}
			return do(ctx, s, how, ids...)
		}
		inBlue(t, sw, true, fake.Upgraded)
		rules := classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: -1}}
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Classes: rules})
		require.NoError(t, err)
		assert.Equal(t, abswap.ClassOutcome{Closed: 1}, res.Classes[abswap.ClassTunnel])
		assert.Len(t, sw.Calls("End"), 3)

		all := inBlue(t, sw, true, fake.Upgraded)
		require.NoError(t, sw.Activate(t.Context(), blue))
		_, err = abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Classes: rules})
		require.ErrorIs(t, err, abswap.ErrSlotLive)
		synctest.Wait()
		assert.NoError(t, all[0].Err())
		l, err := sw.InFlight(t.Context(), blue)
		require.NoError(t, err)
		assert.Equal(t, 1, l.Upgraded, "nobody asked it")
		all[0].End()
	})
}

// TestDrainByClassCountsWhatWasCut: work that was cut stands in the books as cut, also where the next order of the same reading could not be given.
func TestDrainByClassCountsWhatWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		start, broken := time.Now(), false
		sw.EndFunc = func(ctx context.Context, s abswap.Slot, how abswap.Force, ids []uint64, do func(context.Context, abswap.Slot, abswap.Force, ...uint64) error) error {
			if how == abswap.ForceHandOver && time.Since(start) == 10*time.Second {
				broken = true
				return errors.New("connection reset")
			}
			return do(ctx, s, how, ids...)
		}
		inBlue(t, sw, false, fake.Stream, fake.Upload)
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Classes: classRules{
			abswap.ClassStream: {Policy: abswap.ClosePolitely, Window: -1, Grace: 10 * time.Second},
			abswap.ClassUpload: {Policy: abswap.FinishMoving, Still: 10 * time.Second, Grace: 10 * time.Second},
		}})
		require.NoError(t, err)
		require.True(t, broken, "both orders were due at the same moment")
		assert.Equal(t, map[abswap.Class]abswap.ClassOutcome{abswap.ClassStream: {Cut: 1}, abswap.ClassUpload: {Cut: 1}}, res.Classes)
		assert.Equal(t, 2, res.Cut)
	})
}

// TestA6SwapBackCancelsByClass: a Swapper drains websockets over a minute; in the midst of it another process swaps back. That is instant, who
// was not asked yet never is, and nobody is cut.
func TestA6SwapBackCancelsByClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := fake.New("blue", "green")
		var all []*fake.Work
		for range 10 {
			w, err := sw.Open(t.Context(), fake.Request{Kind: fake.Upgraded})
			require.NoError(t, err)
			all = append(all, w)
		}
		s := &abswap.Swapper{Switcher: sw, Slots: []abswap.Slot{fake.NewRunningSlot("blue", "v1"), fake.NewSlot("green")}, Soak: -1, Journal: &abswap.MemoryJournal{},
			Drain: abswap.DrainOptions{Classes: classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: time.Minute, Grace: 20 * time.Second}}}}
		var classes []abswap.ClassOutcome
		s.OnEvent = func(e abswap.Event) {
			if e.Kind == abswap.EventLoad {
				classes = append(classes, e.Classes[abswap.ClassTunnel])
			}
		}
		done := make(chan error, 1)
		go func() {
			_, err := s.Deploy(t.Context(), abswap.Release{ID: "v2"})
			done <- err
		}()
		for len(sw.Calls("End")) < 3 {
			time.Sleep(time.Second)
		}
		asked := time.Now()
		require.NoError(t, sw.Activate(t.Context(), fake.NewSlot("blue")))
		<-done
		assert.Less(t, time.Since(asked), 5*time.Second)
		time.Sleep(time.Hour)
		assert.Len(t, sw.Calls("End"), 3, "the rest of the closes, and the cuts of those asked, are cancelled")
		for _, w := range all {
			assert.NoError(t, w.Err())
			w.End()
		}
		assert.NotEmpty(t, classes)
		st, err := s.Status(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, st.Newest.Drains)
		assert.Equal(t, 10, st.Newest.Drains[0].Classes[abswap.ClassTunnel].Left, "the report keeps it")
	})
}

// TestSessionsOfAClassRule: after its cap sessions are not waited for; what is left of them is told.
func TestSessionsOfAClassRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw := &fake.Switcher{}
		all := inBlue(t, sw, false, fake.Session, fake.Session)
		time.AfterFunc(time.Minute, all[0].End)
		start := time.Now()
		res, err := abswap.Drain(t.Context(), sw, blue, abswap.DrainOptions{Sessions: true, Poll: time.Second, Classes: classRules{abswap.ClassSession: {Cap: time.Hour}}})
		require.NoError(t, err)
		assert.Equal(t, time.Hour, time.Since(start))
		assert.Equal(t, abswap.ClassOutcome{Finished: 1, Left: 1}, res.Classes[abswap.ClassSession])
	})
}

// TestClassRulesAreChecked: mistakes, and Drainers that cannot.
func TestClassRulesAreChecked(t *testing.T) {
	rules := classRules{abswap.ClassTunnel: {Policy: 9}, abswap.ClassUpload: {Still: -1}, "chat": {}, abswap.ClassSession: {Policy: abswap.ClosePolitely}}
	_, err := abswap.Drain(t.Context(), &fake.Switcher{}, blue, abswap.DrainOptions{Classes: rules})
	require.ErrorIs(t, err, abswap.ErrPermanent)
	for _, want := range []string{`"tunnel"`, `"upload"`, `"chat"`, `"session"`} {
		assert.ErrorContains(t, err, want)
	}
	good := classRules{abswap.ClassTunnel: {Policy: abswap.ClosePolitely, Window: -1}}
	sw := fake.New("blue", "green")
	slots := []abswap.Slot{fake.NewRunningSlot("blue", "v1"), fake.NewSlot("green")}
	s := &abswap.Swapper{Switcher: sw, Slots: slots, Drain: abswap.DrainOptions{Classes: good}}
	assert.NoError(t, s.Check(t.Context()))
	s.Drainer = fake.BareDrainer(sw)
	assert.ErrorIs(t, s.Check(t.Context()), errors.ErrUnsupported)
	_, err = abswap.Drain(t.Context(), s.Drainer, blue, s.Drain)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	s.Drainer = abswap.Both(sw, fake.BareDrainer(sw))
	assert.NoError(t, s.Check(t.Context()), "the abilities are those of the first")
	s.Drain.Classes = rules
	assert.ErrorContains(t, s.Check(t.Context()), `"chat"`)
	r := &abswap.Rolling{Switcher: abswap.WeightedMembers(sw, slots...), Slots: slots, Drainer: fake.BareDrainer(sw), Drain: abswap.DrainOptions{Classes: good}}
	assert.ErrorIs(t, r.Check(t.Context()), errors.ErrUnsupported)
}
