package abswap_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/abswap/abswap"
)

var errKilled = errors.New("killed")

// dyingJournal is a MemoryJournal whose process dies at a record: nothing that comes after it is written, and its lock is free.
type dyingJournal struct {
	*abswap.MemoryJournal
	die  func(abswap.Record) (now, written bool) // nil: never
	dead bool
}

type dyingHold struct {
	abswap.JournalHold
	j *dyingJournal
}

func (j *dyingJournal) Lock(ctx context.Context, o abswap.Owner) (abswap.JournalHold, error) {
	h, err := j.MemoryJournal.Lock(ctx, o)
	return &dyingHold{h, j}, err
}

func (h *dyingHold) Append(ctx context.Context, r abswap.Record) error {
	if h.j.dead {
		return errKilled
	}
	if h.j.die != nil {
		if now, written := h.j.die(r); now {
			h.j.dead = true
			if written {
				_ = h.JournalHold.Append(ctx, r)
			}
			_ = h.Unlock()
			return errKilled
		}
	}
	return h.JournalHold.Append(ctx, r)
}

func TestW4CrashAtEveryRecord(t *testing.T) {
	for _, c := range []struct {
		name    string
		arrange func(r *rig)
		verb    func(r *rig) (abswap.Report, error)
		ends    []abswap.Outcome
	}{
		{"deploy", func(*rig) {}, func(r *rig) (abswap.Report, error) { return r.Deploy(context.Background(), v2) },
			[]abswap.Outcome{abswap.OutcomeSucceeded}},
		{"deploy in steps", func(r *rig) { r.Steps = []int{5, 50} }, func(r *rig) (abswap.Report, error) { return r.Deploy(context.Background(), v2) },
			[]abswap.Outcome{abswap.OutcomeSucceeded}},
		{"deploy that is rolled back", func(r *rig) {
			r.Gate = func(_ context.Context, g abswap.GateRequest) error {
				if g.Percent == 100 {
					return errors.New("no")
				}
				return nil
			}
		}, func(r *rig) (abswap.Report, error) { return r.Deploy(context.Background(), v2) }, []abswap.Outcome{abswap.OutcomeRolledBack}},
		{"swap back", func(r *rig) {
			r.green.Put(abswap.SlotState{Release: "v0", Running: true})
			r.Retain = -1
		}, func(r *rig) (abswap.Report, error) { return r.Swap(context.Background(), "green") }, []abswap.Outcome{abswap.OutcomeSucceeded}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n, ended := 1, false; !ended; n++ {
				for _, written := range []bool{false, true} {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t)
						c.arrange(r)
						i := 0
						journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
						journal.die = func(abswap.Record) (bool, bool) { i++; return i == n, written }
						r.Journal = journal
						_, err := c.verb(r)
						ended = !journal.dead // there were fewer records than n
						if ended {
							return
						}
						require.ErrorIs(t, err, errKilled)
						assert.NotEmpty(t, r.sw.Shares(), "the crash at record %d leaves the site serving", n)
						journal.dead, journal.die = false, nil
						rep, err := r.Resume(t.Context())
						if n == 1 && !written { // it had not begun
							assert.ErrorIs(t, err, abswap.ErrNothingToDo)
							return
						}
						if errors.Is(err, abswap.ErrNothingToDo) {
							assert.NotEmpty(t, rep.Outcome, "the last record was written")
						}
						assert.Contains(t, c.ends, rep.Outcome, "after a crash at record %d", n)
						want := map[abswap.Outcome]string{abswap.OutcomeSucceeded: "green", abswap.OutcomeRolledBack: "blue"}[rep.Outcome]
						assert.Equal(t, want, r.serving(t), "after a crash at record %d", n)
						_, err = r.Resume(t.Context())
						assert.ErrorIs(t, err, abswap.ErrNothingToDo, "a finished swap resumed is a no-op")
					})
				}
			}
		})
	}
}

func TestW4TheNextDeployFinishesTheInterruptedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		journal := &dyingJournal{MemoryJournal: &abswap.MemoryJournal{}}
		journal.die = func(rec abswap.Record) (bool, bool) {
			return rec.Phase == abswap.PhaseSoaking && rec.Kind == abswap.RecordIntent, true
		}
		r.Journal = journal
		_, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, errKilled)
		journal.dead, journal.die = false, nil
		rep, err := r.Deploy(t.Context(), abswap.Release{ID: "v3"})
		require.NoError(t, err)
		assert.Equal(t, "blue", rep.To, "v2 was brought to its end in green first")
		assert.Equal(t, abswap.OutcomeSucceeded, rep.Outcome)
		ids, err := journal.Swaps(t.Context())
		require.NoError(t, err)
		assert.Len(t, ids, 2)
	})
}

func TestW6TheReportTellsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Steps = []int{10}
		sick := errors.New("sick")
		time.AfterFunc(15*time.Second, func() { r.green.Sick(sick) })
		r.green.StopFunc = func(context.Context, func(context.Context) error) error {
			return fmt.Errorf("access denied: %w", abswap.ErrPermanent)
		}
		began := time.Now()
		rep, err := r.Deploy(t.Context(), v2)
		require.ErrorIs(t, err, sick)
		assert.ErrorContains(t, err, "access denied", "and what could not be undone")
		assert.Equal(t, abswap.OutcomeRolledBack, rep.Outcome)
		assert.Equal(t, "blue", rep.Serving)
		assert.Equal(t, []string{`slot "green" could not be stopped: stopping slot "green": access denied: permanent`}, rep.NotUndone)
		assert.Empty(t, rep.Undone)
		assert.Equal(t, began, rep.Started)
		assert.Equal(t, time.Now(), rep.Ended)
		var sum time.Duration
		for _, s := range rep.Steps {
			assert.NotEmpty(t, s.Result, "%s", s.Phase)
			sum += s.Elapsed
		}
		assert.Equal(t, rep.Ended.Sub(rep.Started), sum, "the steps are all of it")
		require.NotEmpty(t, rep.Drains)
		assert.Equal(t, "green", rep.Drains[0].Slot)
		assert.Equal(t, "fake", strings.Fields(rep.Drains[0].Last.Source)[0])
	})
}
