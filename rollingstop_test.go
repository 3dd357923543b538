package abswap_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
	"github.com/abswap/abswap/switcher/fake"
)

// How a roll is stopped, killed, taken up and looked at.

func TestRollCanceled(t *testing.T) {
	for _, c := range []struct {
		name string
		at   abswap.Phase // of n2
		ends []string
	}{
		{"while it drains", abswap.MemberDraining, []string{"n1 updated", "n2 kept", "n3 waiting"}},
		{"once it is stopped", abswap.MemberStarting, []string{"n1 updated", "n2 updated", "n3 waiting"}},
		{"while it is watched", abswap.MemberWatching, []string{"n1 updated", "n2 updated", "n3 waiting"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newFleetRig(t, 3)
				ctx, cancel := context.WithCancelCause(t.Context())
				enough := errors.New("enough")
				r.OnEvent = func(e abswap.Event) {
					if e.Kind == abswap.EventPhase && e.Slot == "n2" && e.Phase == c.at {
						cancel(enough)
					}
				}
				rep, err := r.Deploy(ctx, v2)
				require.ErrorIs(t, err, enough)
				assert.Equal(t, abswap.OutcomeStopped, rep.Outcome)
				assert.Equal(t, c.ends, states(rep))
				assert.Len(t, r.inService(), 3, "all serve, whatever they have")
				_, err = r.Resume(t.Context())
				assert.ErrorIs(t, err, abswap.ErrNothingToDo)
			})
		})
	}
}

func TestRollCanceledByAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		other := &abswap.Rolling{Switcher: r.Switcher, Slots: r.Slots, Journal: r.Journal}
		wait := after(30*time.Second, func() { // while the canary is watched
			_, err := other.Deploy(context.Background(), abswap.Release{ID: "v3"})
			assert.ErrorIs(t, err, abswap.ErrBusy)
			st, err := other.Status(context.Background())
			assert.NoError(t, err)
			assert.NotNil(t, st.Owner)
			assert.Equal(t, abswap.MemberWatching, st.Newest.Members[0].State)
			rep, err := other.Cancel(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, abswap.OutcomeStopped, rep.Outcome)
		})
		rep, err := r.Deploy(t.Context(), v2)
		wait()
		require.ErrorIs(t, err, abswap.ErrCanceled)
		assert.Equal(t, []string{"n1 updated", "n2 waiting", "n3 waiting"}, states(rep))
	})
}

// TestRollKilledAtEveryRecord is W4: the process dies before, or right after, each record that it writes, and the next one takes the roll up.
func TestRollKilledAtEveryRecord(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrange func(r *fleetRig)
		ends    []string
		serving int
	}{
		{"good", func(*fleetRig) {}, []string{"n1 updated", "n2 updated", "n3 updated"}, 3},
		{"second bad", func(r *fleetRig) { badRelease(r.nodes[1], "v2") }, []string{"n1 updated", "n2 left-out", "n3 waiting"}, 2},
		{"second bad, with a way back", func(r *fleetRig) { badRelease(r.nodes[1], "v2"); r.Back = abswap.Release{ID: "v1"} }, []string{"n1 updated", "n2 kept", "n3 waiting"}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n, ended := 1, false; !ended; n++ {
				for _, written := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						r := newFleetRig(t, 3)
						c.arrange(r)
						i := 0
						journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
						journal.die = func(abswap.Record) (bool, bool) { i++; return i == n, written }
						r.Journal = journal
						_, err := r.Deploy(t.Context(), v2)
						if ended = !journal.dead; ended {
							return
						}
						require.ErrorIs(t, err, errKilled)
						assert.GreaterOrEqual(t, len(r.sw.Shares()), 2, "the crash at record %d leaves the fleet serving", n)
						journal.dead, journal.die = false, nil
						rep, err := r.Resume(t.Context())
						if n == 1 && !written {
							assert.ErrorIs(t, err, abswap.ErrNothingToDo)
							return
						}
						if errors.Is(err, abswap.ErrNothingToDo) { // the last record was written
							assert.NotEmpty(t, rep.Outcome)
						}
						assert.Equal(t, c.ends, states(rep), "after a crash at record %d (written: %v)", n, written)
						assert.Len(t, r.sw.Shares(), c.serving)
						_, err = r.Resume(t.Context())
						assert.ErrorIs(t, err, abswap.ErrNothingToDo, "a finished roll resumed is a no-op")
					})
				}
			}
		})
	}
}

// killed leaves a roll of v2 whose process died when n2 was stopped.
func killed(t *testing.T, r *fleetRig, members int) {
	t.Helper()
	journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
	journal.die = func(rec abswap.Record) (bool, bool) {
		return rec.Slot == "n2" && rec.Phase == abswap.MemberStopping && rec.Kind == abswap.RecordOutcome, false
	}
	r.Journal = journal
	_, err := r.Deploy(t.Context(), v2)
	require.ErrorIs(t, err, errKilled)
	journal.dead, journal.die = false, nil
	require.Equal(t, []string{"v2", "v1 stopped", "v1", "v1"}[:members], r.releases(t))
}

func TestRollNextDeployTakesOverWhatAKilledOneLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		killed(t, r, 3)
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, []string{"v3", "v3", "v3"}, r.releases(t))
		assert.Equal(t, "v2", rep.Members[1].Before, "it was brought to rest first")
		assert.Equal(t, "v1", rep.Members[2].Before, "and that was all of the earlier roll")
		ids, err := r.Journal.Swaps(t.Context())
		require.NoError(t, err)
		earlier, err := abswap.ReadRoll(t.Context(), r.Journal, ids[1])
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeSuperseded, earlier.Outcome)
	})
}

func TestRollOfAKilledProcessIsCanceledOrAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		killed(t, r, 3)
		rep, err := r.Cancel(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []string{"n1 updated", "n2 updated", "n3 waiting"}, states(rep))
		assert.Equal(t, abswap.OutcomeStopped, rep.Outcome)

		r = newFleetRig(t, 3)
		killed(t, r, 3)
		rep, err = r.Abandon(t.Context())
		require.NoError(t, err)
		assert.Equal(t, abswap.OutcomeAbandoned, rep.Outcome)
		assert.Equal(t, []string{"v2", "v1 stopped", "v1"}, r.releases(t), "nothing was touched")
		_, err = r.Abandon(t.Context())
		require.ErrorIs(t, err, abswap.ErrNothingToDo)
		rep, err = r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, []string{"n2 updated", "n1 skipped", "n3 updated"}, states(rep), "what it had out is the next roll's")
	})
}

func TestRollIsTakenUpWithTheSlotsThatItBeganWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 4)
		all := r.Slots
		killed(t, r, 4)
		r.Slots = all[2:]
		for _, f := range []func() (abswap.RollReport, error){
			func() (abswap.RollReport, error) { return r.Resume(t.Context()) },
			func() (abswap.RollReport, error) { return r.Cancel(t.Context()) },
			func() (abswap.RollReport, error) { return r.Deploy(t.Context(), v2) },
		} {
			_, err := f()
			require.ErrorIs(t, err, abswap.ErrUnknownSlot)
			assert.ErrorContains(t, err, "Abandon")
		}
		_, err := r.Abandon(t.Context())
		require.NoError(t, err)
	})
}

func TestRollThatDidNotComeToAMemberLeavesItToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		badRelease(r.nodes[1], "v2")
		_, err := r.Deploy(t.Context(), v2)
		require.Error(t, err)
		require.Equal(t, []string{"n1", "n3"}, r.inService())
		ctx, cancel := context.WithCancel(t.Context())
		journal := &dyingJournal{MemoryJournal: r.Journal.(*abswap.MemoryJournal), die: func(rec abswap.Record) (bool, bool) {
			if rec.Kind == abswap.RecordBegin {
				cancel() // before the first turn
			}
			return false, false
		}}
		r.Journal = journal
		rep, err := r.Deploy(ctx, abswap.Release{ID: "v3"})
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, []string{"n2 waiting", "n1 waiting", "n3 waiting"}, states(rep))
		rep, err = r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, []string{"n2 updated", "n1 updated", "n3 updated"}, states(rep))
	})
}

func TestRollInAFile(t *testing.T) {
	r := newFleetRig(t, 2)
	dir := t.TempDir()
	journal, err := abswap.OpenJournal(dir, abswap.JournalOptions{})
	require.NoError(t, err)
	r.Journal, r.Bake, r.Soak = journal, -1, -1
	badRelease(r.nodes[1], "v2")
	r.Timeouts.Start = 300 * time.Millisecond
	rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v2", Path: "/r/v2", Meta: map[string]string{"commit": "c0ffee"}})
	require.ErrorIs(t, err, abswap.ErrNotReady)
	again, err := abswap.OpenJournal(dir, abswap.JournalOptions{})
	require.NoError(t, err)
	read, err := abswap.ReadRoll(t.Context(), again, "")
	require.NoError(t, err)
	assert.Equal(t, -1, read.Serving)
	read.Serving = rep.Serving
	assert.Equal(t, rep.Members[1].Err, read.Err)
	rep.Err = read.Err
	for i := range rep.Members {
		for j := range rep.Members[i].Steps {
			assert.True(t, rep.Members[i].Steps[j].Started.Equal(read.Members[i].Steps[j].Started))
		}
		assert.Equal(t, rep.Members[i].State, read.Members[i].State)
		assert.Equal(t, rep.Members[i].Drains, read.Members[i].Drains)
		assert.Equal(t, rep.Members[i].Notes, read.Members[i].Notes)
	}

	// A journal is a Rolling's or a Swapper's, and each says so of the other's.
	s := newRig(t)
	s.Journal = again
	_, err = s.Deploy(t.Context(), v2)
	require.ErrorIs(t, err, abswap.ErrPermanent)
	assert.ErrorContains(t, err, "a Rolling's, not a Swapper's")
	s.Journal, s.Soak = nil, -1
	_, err = s.Deploy(t.Context(), v2)
	require.NoError(t, err)
	r.Journal = s.MemoryForTest()
	_, err = r.Deploy(t.Context(), v2)
	require.ErrorIs(t, err, abswap.ErrPermanent)
	assert.ErrorContains(t, err, "a Swapper's, not a Rolling's")
}

func TestRollCheckTellsAllMistakes(t *testing.T) {
	o := &abswap.Rolling{Slots: []abswap.Slot{fake.NewSlot("a"), fake.NewSlot("a"), nil, fake.NewSlot("")}, Parallel: 2, MinServing: 3,
		Back: abswap.Release{ID: "-"}, Drain: abswap.DrainOptions{Timeout: -1, AtDeadline: 9}}
	err := o.Check(t.Context())
	for _, text := range []string{"Switcher is nil", `names member "a" twice`, "Slots[2] is nil", "Slots[3] has no name", "Rolling.Back", "lower one of them",
		"negative duration", "AtDeadline is 9"} {
		assert.ErrorContains(t, err, text)
	}
	rep, err := o.Deploy(t.Context(), v2)
	require.Error(t, err)
	assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
	_, err = o.Status(t.Context())
	require.Error(t, err)
	_, err = o.Resume(t.Context())
	require.Error(t, err)

	r := newFleetRig(t, 3)
	r.Drainer = fake.BareDrainer(r.sw)
	r.Drain = abswap.DrainOptions{AtDeadline: abswap.CutOff, Sessions: true}
	err = r.Check(t.Context())
	assert.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorContains(t, err, "cannot end what is left")
	assert.ErrorContains(t, err, "cannot count sessions")

	r = newFleetRig(t, 3)
	r.Slots = append(r.Slots, fake.NewRunningSlot("n9", "v1"))
	assert.ErrorIs(t, r.Check(t.Context()), abswap.ErrUnknownSlot)

	for _, o := range []*abswap.Rolling{{Parallel: -1}, {Parallel: 3}, {MinServing: -1}, {MinPercent: 101}, {MinPercent: 67}, {MinServing: 2, Parallel: 2}} {
		r := newFleetRig(t, 3)
		r.Parallel, r.MinServing, r.MinPercent = o.Parallel, o.MinServing, o.MinPercent
		assert.Error(t, r.Check(t.Context()), "%+v", []int{o.Parallel, o.MinServing, o.MinPercent})
	}
	rep, err = newFleetRig(t, 3).Deploy(t.Context(), abswap.Release{})
	require.ErrorIs(t, err, abswap.ErrPermanent)
	assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
	_, err = abswap.ReadRoll(t.Context(), nil, "")
	assert.ErrorIs(t, err, abswap.ErrPermanent)
	_, err = abswap.ReadRoll(t.Context(), &abswap.MemoryJournal{}, "")
	assert.ErrorIs(t, err, abswap.ErrNothingToDo)
}

func TestRollPlanTouchesNothing(t *testing.T) {
	r := newFleetRig(t, 5)
	r.Parallel = 2
	r.nodes[3].Put(abswap.SlotState{Release: "v2", Running: true})
	r.sw.SealFunc = func(context.Context, abswap.Slot, func(context.Context, abswap.Slot) error) error { panic("moved") }
	r.sw.SetWeightsFunc = func(context.Context, []abswap.Weight, func(context.Context, ...abswap.Weight) error) error {
		panic("moved")
	}
	p, err := r.Plan(t.Context(), v2)
	require.NoError(t, err)
	assert.Equal(t, `turn 1: n1: take out, stop, install v2, start, warm, put in
turn 2: n2: take out, stop, install v2, start, warm, put in
turn 2: n3: take out, stop, install v2, start, warm, put in
turn 3: n5: take out, stop, install v2, start, warm, put in
skipped: n4: it has the release already
`, p.String())
	assert.Equal(t, 3, p.Floor)
	ids, err := r.Journal.Swaps(t.Context())
	require.NoError(t, err)
	assert.Empty(t, ids)
}

func TestRollStatus(t *testing.T) {
	r := newFleetRig(t, 2)
	_, end := r.sw.Begin()
	defer end()
	r.nodes[1].Sick(errors.New("sick"))
	st, err := r.Status(t.Context())
	require.NoError(t, err)
	assert.Nil(t, st.Owner)
	assert.Nil(t, st.Newest)
	assert.Empty(t, st.Problems)
	assert.Equal(t, 1, st.Floor)
	require.Len(t, st.Members, 2)
	assert.True(t, st.Members[0].In)
	assert.Equal(t, 1, st.Members[0].Load.Total())
	assert.Equal(t, "v1", st.Members[0].State.Release)
	assert.Empty(t, st.Members[0].Ready)
	assert.Contains(t, st.Members[1].Ready, "sick")
}

// TestRollOfMembersThatDoLess: machines that fetch and start their release by themselves are only taken out, proven, and put in.
func TestRollOfMembersThatDoLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		for i, n := range r.nodes {
			r.Slots[i] = fake.BareSlot(n)
		}
		rep, err := r.Deploy(t.Context(), v2)
		require.NoError(t, err)
		assert.Equal(t, []string{"n1 updated", "n2 updated", "n3 updated"}, states(rep))
		assert.Len(t, rep.Warnings, 3)
	})
}

// TestRollCancelWhileAnEarlierRollIsBroughtToRest asks a roll to cancel that has to finish first what a killed one has in work.
func TestRollCancelWhileAnEarlierRollIsBroughtToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFleetRig(t, 3)
		r.Bake = time.Hour
		journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
		journal.die = func(rec abswap.Record) (bool, bool) {
			return rec.Kind == abswap.RecordIntent && rec.Phase == abswap.MemberWatching, true
		}
		r.Journal = journal
		_, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, errKilled)
		journal.dead, journal.die = false, nil
		wait := after(time.Minute, func() {
			rep, err := r.Cancel(context.Background())
			assert.NoError(t, err)
			assert.Equal(t, "v2", rep.Release)
			assert.Equal(t, abswap.OutcomeStopped, rep.Outcome)
		})
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		assert.ErrorIs(t, err, abswap.ErrCanceled)
		assert.Equal(t, abswap.OutcomeRefused, rep.Outcome)
		assert.Equal(t, []string{"v2", "v1", "v1"}, r.releases(t))
		assert.Equal(t, []string{"n1", "n2", "n3"}, r.inService())
		wait()
	})
}
